#![allow(clippy::unwrap_used)]

use super::*;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const OPEN: Conditions = Conditions::open(Duration::from_millis(25));

/// Pushes a packet of `bytes` every `gap`, numbered, and returns what comes out, with times.
fn stream(link: &mut Link<u32>, count: u32, gap: Duration, bytes: usize) -> Vec<(Duration, u32)> {
    let mut out = Vec::new();
    for n in 0..count {
        let now = gap * n;
        drain(link, now, &mut out);
        link.push(now, 0, StreamKind::Video, bytes, n);
    }
    drain(link, Duration::from_secs(100_000), &mut out);
    out
}

/// Goes from deadline to deadline as the emulator does.
fn drain(link: &mut Link<u32>, until: Duration, out: &mut Vec<(Duration, u32)>) {
    while let Some(at) = link.next_deadline().filter(|at| *at <= until) {
        while let Some(n) = link.pop(at) {
            out.push((at, n));
        }
    }
}

fn begun(conditions: Conditions, seed: u64) -> Link<u32> {
    let mut link = Link::new(Schedule::constant(conditions), seed);
    link.begin(Duration::ZERO);
    link
}

fn numbers(out: &[(Duration, u32)]) -> Vec<u32> {
    out.iter().map(|(_, n)| *n).collect()
}

#[test]
fn an_open_link_only_delays() {
    let out = stream(&mut begun(OPEN, 1), 100, MS, 1200);
    assert_eq!(out.len(), 100);
    assert!(out.iter().all(|(at, n)| *at == MS * *n + 25 * MS), "{out:?}");
}

#[test]
fn a_detour_is_for_its_kind_only() {
    // `stream` is of video.
    for (kind, ms) in [(StreamKind::Video, 125), (StreamKind::Audio, 25)] {
        let out = stream(&mut begun(OPEN.with_detour(kind, 100 * MS), 1), 10, MS, 1200);
        assert!(out.iter().all(|(at, n)| *at == MS * *n + MS * ms), "{out:?}");
    }
}

#[test]
fn nothing_is_impaired_or_recorded_before_the_beginning() {
    let conditions = OPEN.with_loss(1.0, 1.0).with_rate(1000, MS);
    let mut link = Link::new(Schedule::constant(conditions), 1);
    assert_eq!(stream(&mut link, 50, MS, 1200).len(), 50);
    assert!(link.record().bins.is_empty());
}

#[test]
fn independent_loss_has_its_mean_and_the_bursts_of_a_coin() {
    for (seed, mean) in [(1, 0.03), (2, 0.1), (3, 0.2)] {
        let out = stream(&mut begun(OPEN.with_loss(mean, 1.0), seed), 100_000, MS, 100);
        let (lost, bursts) = losses(&numbers(&out), 100_000);
        assert!((lost / 100_000.0 - mean).abs() < 0.005, "seed {seed}: {lost} lost");
        let burst = lost / bursts;
        assert!((burst - 1.0 / (1.0 - mean)).abs() < 0.03, "seed {seed}: mean burst {burst}");
    }
}

#[test]
fn gilbert_elliott_loss_has_its_mean_and_its_bursts() {
    for (seed, mean) in [(1, 0.1), (2, 0.3)] {
        let out = stream(&mut begun(OPEN.with_loss(mean, 4.0), seed), 200_000, MS, 100);
        let (lost, bursts) = losses(&numbers(&out), 200_000);
        assert!((lost / 200_000.0 - mean).abs() < 0.01, "seed {seed}: {lost} lost");
        let burst = lost / bursts;
        assert!((burst - 4.0).abs() < 0.2, "seed {seed}: mean burst {burst}");
    }
}

/// How many of `0..sent` are missing, in how many runs.
#[expect(clippy::cast_precision_loss, reason = "counts")]
fn losses(got: &[u32], sent: u32) -> (f64, f64) {
    let bursts = got.windows(2).filter(|w| w[1] > w[0] + 1).count();
    (f64::from(sent) - got.len() as f64, bursts as f64)
}

#[test]
fn the_rate_is_kept_and_the_queue_drops_its_tail() {
    // 2 Mbps offered to 1 Mbps: 1250 bytes take 10 ms there.
    let mut link = begun(OPEN.with_rate(1_000_000, 300 * MS), 1);
    let out = stream(&mut link, 2000, 5 * MS, 1250);
    let record = link.record();
    let bps = record.delivered_bps(2 * S, 9 * S);
    assert!((bps - 1e6).abs() < 2e4, "{bps} bps");
    let worst = out.iter().map(|(at, n)| *at - 5 * MS * *n).max().unwrap();
    // The queue, its own serialization and the propagation.
    assert!((300 * MS..=335 * MS + MS).contains(&worst), "{worst:?}");
    let longest = record.bins.iter().map(|bin| bin.queue_delay_max_us).max().unwrap();
    assert!((285_000..=300_001).contains(&longest), "{longest} us");
    let dropped: u64 = record.bins.iter().map(|bin| bin.dropped_by_queue).sum();
    assert_eq!(dropped as usize + out.len(), 2000);
    assert!(out.windows(2).all(|w| w[0].1 < w[1].1), "order");
}

#[test]
fn what_fits_the_rate_waits_for_its_own_serialization_only() {
    let out = stream(&mut begun(OPEN.with_rate(1_000_000, 300 * MS), 1), 100, 20 * MS, 1250);
    assert_eq!(out.len(), 100);
    let late = |(at, n): &(Duration, u32)| at.abs_diff(20 * MS * *n + 35 * MS);
    assert!(out.iter().map(late).max().unwrap() < Duration::from_micros(1), "{out:?}");
}

#[test]
fn a_change_of_rate_holds_for_what_is_queued() {
    let fast = OPEN.with_rate(1_000_000, 500 * MS);
    let schedule = Schedule::constant(fast).then(100 * MS, OPEN.with_rate(500_000, 500 * MS));
    let mut link = Link::new(schedule, 1);
    link.begin(Duration::ZERO);
    for n in 0..20 {
        link.push(Duration::ZERO, 0, StreamKind::Video, 1250, n);
    }
    let mut out = Vec::new();
    drain(&mut link, S, &mut out);
    // Ten at 10 ms each, then ten at 20 ms each.
    let (last, n) = *out.last().unwrap();
    assert_eq!(n, 19);
    assert!(last.abs_diff(325 * MS) < Duration::from_micros(1), "{last:?}");
}

#[test]
fn jitter_keeps_the_order_unless_asked() {
    let jittery = OPEN.with_jitter(60 * MS);
    let out = stream(&mut begun(jittery, 7), 20_000, 5 * MS, 200);
    assert_eq!(numbers(&out), (0..20_000).collect::<Vec<_>>());
    let delays: Vec<Duration> = out.iter().map(|(at, n)| *at - 5 * MS * *n).collect();
    assert!(delays.iter().all(|d| (25 * MS..=85 * MS).contains(d)));

    let free = Conditions { jitter_reorders: true, ..jittery };
    let out = stream(&mut begun(free, 7), 20_000, 5 * MS, 200);
    assert!(out.windows(2).any(|w| w[0].1 > w[1].1), "nothing overtook");
    let delays = out.iter().map(|(at, n)| *at - 5 * MS * *n);
    let mean = delays.sum::<Duration>() / 20_000;
    assert!(mean.abs_diff(55 * MS) < MS, "mean {mean:?} of a uniform jitter");
}

#[test]
fn reordered_and_duplicated_packets_have_their_share() {
    let reordering = Reordering { probability: 0.1, extra: 30 * MS };
    let conditions = Conditions { reordering, duplication: 0.2, ..OPEN };
    let mut link = begun(conditions, 3);
    let out = stream(&mut link, 20_000, MS, 200);
    assert!((23_600..=24_400).contains(&out.len()), "{} came out", out.len());
    let late = out.iter().filter(|(at, n)| *at - MS * *n > 50 * MS).count();
    assert!((2_100..=2_700).contains(&late), "{late} late");
    assert_eq!(link.record().flows[0].delivered_packets, out.len() as u64);
}

#[test]
fn a_blackout_swallows_what_is_sent_and_what_is_under_way() {
    let schedule = Schedule::constant(OPEN).then(S, OPEN.dead()).then(3 * S, OPEN);
    let mut link = Link::new(schedule, 1);
    link.begin(Duration::ZERO);
    let got = numbers(&stream(&mut link, 500, 10 * MS, 100));
    let wanted: Vec<u32> = (0..500).filter(|n| !(98..300).contains(n)).collect();
    assert_eq!(got, wanted);
    assert_eq!(link.record().dropped_packets(), 202);
}

#[test]
fn exempt_packets_are_only_delayed() {
    let mut link = begun(OPEN.with_loss(1.0, 1.0).with_rate(1000, MS), 1);
    for n in 0..10 {
        link.push_exempt(MS * n, 1500, n);
    }
    let mut out = Vec::new();
    drain(&mut link, S, &mut out);
    assert_eq!(out, (0..10).map(|n| (MS * n + 25 * MS, n)).collect::<Vec<_>>());
    assert!(link.record().bins.is_empty());
}

#[test]
fn one_seed_is_one_link() {
    let reordering = Reordering { probability: 0.02, extra: 10 * MS };
    let conditions = Conditions { duplication: 0.01, reordering, ..OPEN };
    let conditions =
        conditions.with_loss(0.1, 4.0).with_jitter(20 * MS).with_rate(2_000_000, 100 * MS);
    let run = |seed| stream(&mut begun(conditions, seed), 5_000, 4 * MS, 900);
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn other_impairments_do_not_shift_the_losses() {
    let lossy = OPEN.with_loss(0.1, 4.0);
    let plain = numbers(&stream(&mut begun(lossy, 5), 5_000, MS, 900));
    let jittery = numbers(&stream(&mut begun(lossy.with_jitter(20 * MS), 5), 5_000, MS, 900));
    assert_eq!(plain, jittery);
}

#[test]
fn recovery_is_read_from_the_record() {
    let bin = |kbit: u64, queue_ms: u64| crate::link::Bin {
        delivered_bytes: kbit * 125,
        queue_delay_max_us: queue_ms * 1000,
        ..Default::default()
    };
    let mut bins = vec![bin(100, 10); 20];
    bins.extend(vec![bin(60, 300); 15]);
    bins.extend(vec![bin(60, 20); 15]);
    bins.extend(vec![bin(100, 20); 20]);
    let record = Record { bins, ..Record::default() };
    let settled = record.settled_after(2 * S, 100 * MS, S);
    assert_eq!(settled, Some(1500 * MS));
    assert_eq!(record.settled_after(2 * S, 10 * MS, S), None);
    // Nine tenths of 1 Mbps: eight fast bins and two slow ones are 0.92.
    assert_eq!(record.rate_reached_after(4200 * MS, 0.9e6), Some(1600 * MS));
}
