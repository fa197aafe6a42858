//! Congestion control: what left and what arrived (`history`), how fast we may send (`estimator`
//! with `windows` and `loss`; `reports` where the remote peer sends no such feedback), when each packet leaves (`pacer`), what leaves again (`retransmit`)
//! and when we report on what arrives (`feedback`). Everything but the two interceptors is sans-IO.

mod estimator;
mod feedback;
mod history;
mod loss;
mod pacer;
mod reports;
mod retransmit;
#[cfg(test)]
mod simulation;
mod stage;
mod windows;

use std::time::Duration;

use visavis_media::Bitrate;

pub use estimator::BandwidthState;
pub(crate) use feedback::Feedback;
pub(crate) use stage::CongestionControl;

/// What is known of the path to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NetworkEstimate {
    /// What may be sent now on the wire: audio, repairs, parity and headers included.
    pub target: Bitrate,
    /// What sound takes of it.
    pub audio: Bitrate,
    /// What retransmissions and probes take of it.
    pub repair: Bitrate,
    /// Parity sent for each byte of video, 0 to 1.
    pub parity: f64,
    /// How fast packets of one picture follow each other.
    pub pacing: Bitrate,
    /// What arrived in the last half second.
    pub delivered: Option<Bitrate>,
    /// Queuing delay on the path.
    pub queue: Duration,
    /// Share of packets lost in the last second, 0 to 1.
    pub loss: f64,
    /// Mean number of packets lost in a row.
    pub loss_burst: f64,
    /// What the estimator is doing.
    pub state: BandwidthState,
    /// Round trip.
    pub rtt: Option<Duration>,
    /// How long nothing was reported; `None` before the first report.
    pub silent: Option<Duration>,
    /// How long what waits for its turn here will take to leave.
    pub pacer_queue: Duration,
}

/// draft-holmer-rmcat-transport-wide-cc-extensions-01.
pub(crate) const TRANSPORT_CC_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
