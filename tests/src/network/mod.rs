//! Calls over the emulated link, ours and Chromium's alike: [`Case`] says what is measured,
//! [`measure_ours`] and [`measure_chromium`] hold the call, [`figures`] reads what both leave behind.
//!
//! The sender (left) sends 1280x720 at 30 fps of the test pattern and a tone over the impaired
//! direction. The receiver (right) sends its tone back and no picture: on a machine of two cores a
//! second picture would measure the machine.

mod case;
mod chromium;
pub mod figures;
mod lip_sync;
mod ours;
pub mod report;
pub mod speech;

pub use case::{Case, Extra};
pub use chromium::measure as measure_chromium;
pub use lip_sync::measure as measure_lip_sync;
pub use ours::{Call as OurCall, measure as measure_ours};

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Two `visavis-cli`.
    Ours,
    /// Two Chromium pages.
    Chromium,
}

/// What one call left behind, the same for both systems. Times are of the measured part: from the
/// first RTP packet to the end of the case. `None` is unknown.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Pictures decoded by the receiver a second.
    pub fps: Option<f64>,
    /// `totalFreezesDuration` of the receiver, seconds.
    pub frozen_s: Option<f64>,
    /// `concealedSamples` to `totalSamplesReceived`, 0 to 1.
    pub concealed: Option<f64>,
    /// `retransmittedPacketsSent` of the sender.
    pub retransmitted_packets: Option<f64>,
    /// CPU time of both sides, seconds.
    pub cpu_s: Option<f64>,
    /// STOI of the speech heard, where speech was sent.
    pub stoi: Option<f64>,
    /// Each picture that was shown, in order of time.
    pub pictures: Vec<Picture>,
    /// Loudness of what was played, in order of time.
    pub sounds: Vec<Sound>,
    /// What the system said itself, for the JSON file.
    pub raw: serde_json::Value,
}

/// A picture as it came out of the receiver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture {
    /// When, Unix milliseconds.
    pub unix_ms: f64,
    /// Since it was captured, where its time code was legible.
    pub latency_ms: Option<f64>,
    /// Height, pixels.
    pub height_px: u32,
}

/// Loudness at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sound {
    /// When, Unix milliseconds.
    pub unix_ms: f64,
    /// RMS of at least 10 ms, dBFS.
    pub level_dbfs: f64,
    /// Concealed, where the system tells.
    pub made_up: bool,
}
