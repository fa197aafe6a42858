//! When to restart, and when to give up: the timers of a call and their times.

use std::time::Duration;

/// What a wake-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// An own offer has no answer: send it again.
    Answer,
    /// The path has been `disconnected` for long enough: restart ICE.
    IceRestart,
    /// No path, or nobody there, for too long: end the call.
    GiveUp,
    /// The remote peer's confirmation did not come: ask for it.
    Proof,
}

/// An answer takes a round trip and some processing; a lost one is asked for again after this.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// `disconnected` often heals by itself within a second (a Wi-Fi roam).
pub(crate) const DISCONNECTED_GRACE: Duration = Duration::from_secs(1);
/// The polite side leaves the first restart for want of media to the other for so long. Nobody needs
/// longer to be heard who still has the other's ear, and a collision does no harm.
pub(crate) const POLITE_STALL_DELAY: Duration = Duration::from_millis(250);
/// With media back, an offer that was made for the want of it is held for so long: its answer
/// may be on the way.
pub(crate) const STALL_OVER: Duration = Duration::from_secs(1);
/// The polite side leaves the first restart to the other, which avoids most collisions.
pub(crate) const POLITE_DELAY: Duration = Duration::from_millis(1500);
/// Between restarts that did not help.
pub(crate) const RESTART_INTERVAL: Duration = Duration::from_secs(8);
/// First connection: two people wait for it and should be told.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(40);
/// A call that was good is worth waiting for (a tunnel, a lift).
pub(crate) const RECONNECT_LIMIT: Duration = Duration::from_secs(60);
/// After the server says that the other side is gone and media says the same. The server says so
/// after 12 s of silence, so that this and [`RECONNECT_LIMIT`] come to about the same.
pub(crate) const REMOTE_RETURN_LIMIT: Duration = Duration::from_secs(45);

/// The remote peer's confirmation follows its description within a round trip; a lost one is asked for
/// after this.
pub(crate) const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// At most one deadline a timer.
#[derive(Debug, Default)]
pub(crate) struct Timers([Option<Duration>; 4]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Duration) {
        self.0[timer as usize] = Some(at);
    }

    /// Not before `at`, if it is set.
    pub(crate) fn put_off(&mut self, timer: Timer, at: Duration) {
        if let Some(due) = &mut self.0[timer as usize] {
            *due = at.max(*due);
        }
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn clear_all(&mut self) {
        self.0 = [None; 4];
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one timer that is due, the earliest first.
    pub(crate) fn take_due(&mut self, now: Duration) -> Option<Timer> {
        let timer = [Timer::Answer, Timer::IceRestart, Timer::GiveUp, Timer::Proof]
            .into_iter()
            .filter(|t| self.0[*t as usize].is_some_and(|at| at <= now))
            .min_by_key(|t| self.0[*t as usize])?;
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn times_are_those_of_the_fixture() {
        let rules: serde_json::Value =
            serde_json::from_str(include_str!("../fixtures/rules.json")).unwrap();
        let times: BTreeMap<String, u64> =
            serde_json::from_value(rules["timesMs"].clone()).unwrap();
        let ours = [
            ("answer", ANSWER_TIMEOUT),
            ("disconnectedGrace", DISCONNECTED_GRACE),
            ("politeDelay", POLITE_DELAY),
            ("restartInterval", RESTART_INTERVAL),
            ("connectLimit", CONNECT_LIMIT),
            ("reconnectLimit", RECONNECT_LIMIT),
            ("remoteReturnLimit", REMOTE_RETURN_LIMIT),
            ("proof", PROOF_TIMEOUT),
        ];
        let ours = ours.map(|(name, time)| (name.to_owned(), time.as_millis() as u64));
        assert_eq!(times, BTreeMap::from(ours));
    }
}
