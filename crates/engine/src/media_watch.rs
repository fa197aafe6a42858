//! Tells a path that has died from one on which little is sent, by what comes over it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use visavis_rtc::Arrivals;

/// See the module. Sans-IO.
#[derive(Debug, Default)]
pub(crate) struct MediaWatch {
    looked: Option<Instant>,
    /// When something had come, and how many packets by then, over [`STEADY_WINDOW`].
    progress: VecDeque<(Instant, u64)>,
    silence: Duration,
    feedback: u64,
    unheard: Duration,
    told: Reception,
}

/// What comes over a path, and whether the remote peer gets what we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reception {
    /// Something arrives, or nothing is missed.
    pub(crate) receiving: bool,
    /// The remote peer's feedback says that it hears us.
    pub(crate) heard: bool,
}

impl MediaWatch {
    /// Of a new connection, of which the session thinks the same.
    pub(crate) fn new() -> Self {
        Self {
            unheard: HEARD_WITHIN,
            told: Reception { receiving: true, heard: false },
            ..Self::default()
        }
    }

    /// Whether anything is received, and whether the other side hears us, if either is news.
    pub(crate) fn look(&mut self, now: Instant, arrivals: Arrivals) -> Option<Reception> {
        // Whoever did not look for a while, because the machine was busy or asleep, knows nothing of it.
        let since = self.looked.map_or(Duration::ZERO, |at| (now - at).min(LONGEST_LOOK));
        self.looked = Some(now);
        if self.progress.back().is_none_or(|(_, packets)| *packets != arrivals.packets) {
            self.silence = Duration::ZERO;
            self.progress.push_back((now, arrivals.packets));
            while self.progress.front().is_some_and(|(at, _)| *at + STEADY_WINDOW < now) {
                self.progress.pop_front();
            }
        } else {
            self.silence += since;
        }
        self.unheard = if arrivals.feedback == self.feedback {
            (self.unheard + since).min(HEARD_WITHIN)
        } else {
            Duration::ZERO
        };
        self.feedback = arrivals.feedback;
        let receiving = self.silence < STALLED_AFTER || (self.told.receiving && !self.was_steady());
        let news = Reception { receiving, heard: self.unheard < HEARD_WITHIN };
        (std::mem::replace(&mut self.told, news) != news).then_some(news)
    }

    fn was_steady(&self) -> bool {
        match (self.progress.front(), self.progress.back()) {
            (Some((_, first)), Some((_, last))) => last - first >= STEADY_PACKETS,
            _ => false,
        }
    }
}

/// As the goal has it. Sound comes every 20 ms and feedback every 100 ms at least, while anything is
/// sent either way.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// So much has come in this time before it stopped, or it is not missed: without any media there
/// are two or three RTCP packets a second.
const STEADY_WINDOW: Duration = Duration::from_secs(1);
const STEADY_PACKETS: u64 = 10;
/// Feedback of the other side is news for so long. Less than [`STALLED_AFTER`]: whoever has been heard
/// since then has got something since then.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
/// More between two looks is not counted as silence; they are 100 ms apart.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 100 ms; a packet each `every` of them, one in two of which is feedback.
    struct Run {
        watch: MediaWatch,
        now: Instant,
        arrivals: Arrivals,
        news: Vec<(u128, bool, bool)>,
    }

    impl Run {
        fn new() -> Self {
            let arrivals = Arrivals::default();
            Self { watch: MediaWatch::new(), now: Instant::now(), arrivals, news: Vec::new() }
        }

        fn go(&mut self, duration: Duration, packets: u64, feedback: u64) {
            self.news.clear();
            let start = self.now;
            while self.now < start + duration {
                self.now += Duration::from_millis(100);
                self.arrivals.packets += packets;
                self.arrivals.feedback += feedback;
                if let Some(news) = self.watch.look(self.now, self.arrivals) {
                    let Reception { receiving, heard } = news;
                    self.news.push(((self.now - start).as_millis(), receiving, heard));
                }
            }
        }
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_stream_that_ends_is_missed_after_a_second() {
        let mut run = Run::new();
        run.go(5 * S, 6, 1);
        assert_eq!(run.news, [(100, true, true)]);
        run.go(3 * S, 0, 0);
        assert_eq!(run.news, [(500, true, false), (1000, false, false)]);
        run.go(S, 6, 1);
        assert_eq!(run.news, [(100, true, true)]);
    }

    #[test]
    fn who_is_not_heard_is_told_from_who_hears_nothing() {
        let mut run = Run::new();
        run.go(5 * S, 6, 1);
        run.go(3 * S, 5, 0);
        assert_eq!(run.news, [(500, true, false)]);
    }

    #[test]
    fn a_trickle_is_not_missed() {
        let mut run = Run::new();
        for _ in 0..10 {
            run.go(2 * S, 0, 0);
            assert_eq!(run.news, []);
            run.arrivals.packets += 3;
        }
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let mut run = Run::new();
        run.go(5 * S, 6, 1);
        run.now += 10 * S;
        run.go(S / 2, 0, 0);
        assert!(run.news.iter().all(|(_, receiving, _)| *receiving), "{:?}", run.news);
    }
}
