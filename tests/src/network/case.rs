//! What is measured: the rows of the table in `docs/benchmarks.md`.

use std::time::Duration;

use crate::link::{Conditions, Schedule, StreamKind};

/// One row.
pub struct Case {
    /// For `--case`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// The goal, in the words of the table.
    pub goal: &'static str,
    /// How long it is measured from the first RTP packet.
    pub duration: Duration,
    /// From the sender to the receiver.
    pub forward: Schedule,
    /// From the receiver to the sender.
    pub back: Schedule,
    /// What else is read from it.
    pub extra: Extra,
    /// Calls at once.
    pub calls: usize,
    /// Whether Chromium is measured too.
    pub for_chromium: bool,
}

/// What a row has beyond the common figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extra {
    /// Nothing.
    None,
    /// Rate drops and rises again: when the queue has settled, when the rate is back.
    Steps {
        /// The higher rate, bits a second.
        bps: f64,
        /// The rate falls.
        drop: Duration,
        /// The rate is back.
        rise: Duration,
    },
    /// Dead between two times: when picture, sound and latency are back.
    Blackout {
        /// Beginning.
        from: Duration,
        /// End.
        until: Duration,
    },
    /// Rate of the first seconds.
    StartUp,
    /// How two calls share the link.
    Fairness,
    /// Ours speak: how much of it can be understood.
    Speech,
    /// Flashes and beeps, from both systems to each: nothing else is measured.
    LipSync,
}

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(25);
const OPEN: Conditions = Conditions::open(DELAY);

impl Case {
    fn new(
        name: &'static str,
        title: &'static str,
        forward: Conditions,
        goal: &'static str,
    ) -> Self {
        Self {
            name,
            title,
            goal,
            duration: 30 * S,
            forward: Schedule::constant(forward),
            back: Schedule::constant(Conditions::open(forward.delay)),
            extra: Extra::None,
            calls: 1,
            for_chromium: true,
        }
    }

    fn lip_sync(name: &'static str, title: &'static str, forward: Conditions) -> Self {
        let goal = "sound within ±40 ms of its picture, median from the fifth second on";
        Self { extra: Extra::LipSync, ..Self::new(name, title, forward, goal) }
    }

    /// All of them, in the order of the table.
    pub fn all() -> Vec<Self> {
        let high = OPEN.with_rate(1_500_000, 500 * MS);
        let low = OPEN.with_rate(600_000, 500 * MS);
        vec![
            Self {
                duration: 60 * S,
                forward: Schedule::constant(high).then(20 * S, low).then(40 * S, high),
                extra: Extra::Steps { bps: 1.5e6, drop: 20 * S, rise: 40 * S },
                ..Self::new(
                    "steps",
                    "1.5 → 0.6 → 1.5 Mbps, 500 ms queue",
                    high,
                    "28; p95 150; 0; 0.2 %; ≥ 1000; rate back ≤ 8 s, settled ≤ 2 s",
                )
            },
            Self::new(
                "1mbps",
                "constant 1 Mbps, 300 ms queue",
                OPEN.with_rate(1_000_000, 300 * MS),
                "29; 75/120; 0; 0.1 %; ≥ 860",
            ),
            Self::new(
                "2.5mbps",
                "constant 2.5 Mbps, 300 ms queue",
                OPEN.with_rate(2_500_000, 300 * MS),
                "29; 75/120; 0; 0.1 %; ≥ 2150",
            ),
            Self::new(
                "loss3",
                "loss 3 %",
                OPEN.with_loss(0.03, 1.0),
                "29; 60/110; 0; 0.8 %; resent ≤ 1.5 × lost",
            ),
            Self::new("loss10", "loss 10 %", OPEN.with_loss(0.1, 1.0), "28; 75/140; 0; 1.5 %"),
            Self::new(
                "loss20",
                "loss 20 %",
                OPEN.with_loss(0.2, 1.0),
                "25; p95 200; 0.6; 4 %; ≥ 1000",
            ),
            Self::new(
                "burst10",
                "loss 10 % in bursts of 4, 75 ms one way",
                Conditions::open(75 * MS).with_loss(0.1, 4.0),
                "27; p95 260; 0.8; 3 %",
            ),
            Self {
                extra: Extra::Speech,
                ..Self::new(
                    "burst30",
                    "loss 30 % in bursts of 4",
                    OPEN.with_loss(0.3, 4.0),
                    "20; p95 350; 3; 12 %; STOI ≥ 0.75",
                )
            },
            Self::new(
                "jitter60",
                "jitter 60 ms",
                OPEN.with_jitter(60 * MS),
                "29; 110/165; 0; 0.4 %",
            ),
            Self {
                duration: 20 * S,
                forward: dead_between(OPEN, 10 * S, 12 * S),
                back: dead_between(OPEN, 10 * S, 12 * S),
                extra: Extra::Blackout { from: 10 * S, until: 12 * S },
                ..Self::new(
                    "blackout",
                    "both directions dead for 2 s",
                    OPEN,
                    "picture and sound back ≤ 110 ms, latency normal ≤ 1 s",
                )
            },
            Self {
                duration: 10 * S,
                extra: Extra::StartUp,
                ..Self::new(
                    "startup",
                    "start-up on an open link",
                    OPEN,
                    "1.5 Mbps in the first second, 2.1 in the second",
                )
            },
            Self {
                extra: Extra::Fairness,
                calls: 2,
                // Four browsers would measure the machine.
                for_chromium: false,
                ..Self::new(
                    "two-calls",
                    "two calls on one 3 Mbps link, 300 ms queue",
                    OPEN.with_rate(3_000_000, 300 * MS),
                    "neither below 40 % of the total",
                )
            },
            Self::lip_sync("lip-sync", "lip sync, open link", OPEN),
            Self::lip_sync(
                "lip-sync-late-sound",
                "lip sync, 100 ms more for sound",
                OPEN.with_detour(StreamKind::Audio, 100 * MS),
            ),
            Self::lip_sync(
                "lip-sync-late-picture",
                "lip sync, 150 ms more for pictures",
                OPEN.with_detour(StreamKind::Video, 150 * MS),
            ),
            Self::lip_sync(
                "lip-sync-jitter60",
                "lip sync, jitter 60 ms",
                OPEN.with_jitter(60 * MS),
            ),
            Self::lip_sync(
                "lip-sync-1mbps",
                "lip sync, constant 1 Mbps, 300 ms queue",
                OPEN.with_rate(1_000_000, 300 * MS),
            ),
            // Beyond the table of goals: links that nothing was tuned to.
            Self {
                back: Schedule::constant(OPEN.with_loss(0.1, 1.0).with_jitter(30 * MS)),
                ..Self::new(
                    "feedback",
                    "2 Mbps, 300 ms queue; 10 % loss and 30 ms jitter on the way back",
                    OPEN.with_rate(2_000_000, 300 * MS),
                    "",
                )
            },
            Self::new(
                "reordering",
                "jitter 30 ms that reorders, 1 % duplicates",
                Conditions { jitter: 30 * MS, jitter_reorders: true, duplication: 0.01, ..OPEN },
                "",
            ),
            Self {
                forward: (1..30u32).fold(
                    Schedule::constant(OPEN.with_rate(2_000_000, 300 * MS)),
                    |s, n| {
                        let bps =
                            [2_000_000, 1_200_000, 1_600_000, 800_000, 1_400_000][n as usize % 5];
                        s.then(S * n, OPEN.with_rate(bps, 300 * MS))
                    },
                ),
                ..Self::new(
                    "fast-changing",
                    "a rate of 0.8 to 2 Mbps that changes every second, 300 ms queue",
                    OPEN.with_rate(2_000_000, 300 * MS),
                    "",
                )
            },
        ]
    }
}

fn dead_between(conditions: Conditions, from: Duration, until: Duration) -> Schedule {
    Schedule::constant(conditions).then(from, conditions.dead()).then(until, conditions)
}
