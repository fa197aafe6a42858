//! What the caller decides: policy and times. And the bounds that nobody decides.

use std::time::Duration;

/// Which local candidates make pairs, and what the remote peer is told of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressPolicy {
    /// All make pairs, all are told.
    #[default]
    All,
    /// All make pairs; of host candidates only those are told that have a `.local` name, by that name, and
    /// related addresses are zeros.
    HideLocal,
    /// Only relayed candidates make pairs and are told. Checks that come otherwise are not answered, and no
    /// `.local` name is asked for: either would show an address or the call.
    RelayOnly,
}

/// Policy and times of an [`Agent`](crate::Agent).
#[derive(Debug, Clone)]
pub struct Config {
    /// Which addresses are used and told.
    pub addresses: AddressPolicy,
    /// Whether nominations carry a number where the remote peer understands it
    /// (draft-thatcher-ice-renomination); signaled as `a=ice-options:renomination`.
    pub renomination: bool,
    /// Ta: the time between two checks, over all pairs and generations together. RFC 8445 §14.2 recommends
    /// 50 ms and has 5 ms as the least: an agent of its own has no other streams to share the rate with, and
    /// at 5 ms the 20 pairs of two ordinary machines have all been tried within 100 ms. At most 200 checks
    /// of some 120 bytes a second. Values below 5 ms count as 5 ms.
    pub check_interval: Duration,
    /// Between two checks of the selected pair while they are answered, randomised by a fifth (RFC 7675
    /// §5.1). The RFC has 5 s and forbids less than 4 s for what only refreshes consent; these checks also
    /// find dead paths and measure the round trip, as those of browsers do (libwebrtc: 2.5 s, or 0.9 s
    /// while the connection is not stable), and refresh consent on the way.
    pub consent_interval: Duration,
    /// The selected pair is left, if another one answers, after so long without an answer, three checks
    /// unanswered and four round trips.
    pub switch_after: Duration,
    /// [`State::Disconnected`](crate::State::Disconnected) after so long without an answer, a check or data on the
    /// selected pair.
    pub disconnected_after: Duration,
    /// [`State::Failed`](crate::State::Failed) after so long without an answer on the selected pair. Consent
    /// ends after 30 s (RFC 7675 §5.1), so a longer time counts as 30 s.
    pub failed_after: Duration,
    /// [`State::Failed`](crate::State::Failed) after so long without any pair being selected. It is measured
    /// from the remote description; trickled candidates may come late.
    pub connect_timeout: Duration,
    /// Connections over TCP are only opened if no pair was selected for so long: media over TCP waits for
    /// what is lost, so it is the last resort.
    pub tcp_delay: Duration,
    /// A relayed pair is nominated only after this, measured from the remote description, where nominations
    /// cannot be taken back. With renomination nothing waits.
    pub relay_delay: Duration,
    /// Between two checks of pairs that work and are not selected, but are worth keeping: fallbacks.
    /// NATs forget after 30 s at the earliest (RFC 4787 §4.3 asks for 2 minutes).
    pub keepalive_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addresses: AddressPolicy::All,
            renomination: true,
            check_interval: Duration::from_millis(5),
            consent_interval: Duration::from_millis(600),
            switch_after: Duration::from_millis(1200),
            disconnected_after: Duration::from_secs(3),
            failed_after: Duration::from_secs(28),
            connect_timeout: Duration::from_secs(30),
            tcp_delay: Duration::from_secs(1),
            relay_delay: Duration::from_millis(300),
            keepalive_interval: Duration::from_secs(5),
        }
    }
}

/// Remote candidates of one generation, signaled and peer-reflexive. A browser on a machine with four
/// networks, both families, UDP and TCP, reflexive and relayed, has some twenty.
pub const MAX_REMOTE_CANDIDATES: usize = 32;
/// RFC 8445 §6.1.2.5 asks for a bound on the pairs of a generation and names 100.
pub const MAX_PAIRS: usize = 100;
/// Local candidates of all kinds, of the caller's own making.
pub const MAX_LOCAL_CANDIDATES: usize = 64;
/// The least Ta (RFC 8445 §14.2).
pub(crate) const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// RFC 7675 §5.1: consent ends 30 s after the last answer.
pub(crate) const CONSENT_EXPIRY: Duration = Duration::from_secs(30);
