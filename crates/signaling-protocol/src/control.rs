//! Messages on the data channel `visavis` (negotiated, id 0): JSON text, from peer to peer.

use serde::{Deserialize, Serialize};

/// One message. Unknown types are ignored by the receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ControlMessage {
    /// What the sender sends; said when the channel opens and on each change.
    MediaState {
        /// Whether the microphone is on.
        microphone: bool,
        /// Whether the camera is on.
        camera: bool,
    },
    /// The size at which the sender shows the pictures that it receives; said when the channel opens and on change, at
    /// most once a second.
    DisplaySize {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// The sender does not decode in time what it receives with this codec; said each second for as long as it is so.
    DecoderOverloaded {
        /// Its name in `a=rtpmap`: `H264`, `VP8`, `VP9` or `AV1`.
        codec: String,
    },
    /// Asks for the other side's clock (as in RFC 5905 §8).
    ClockPing {
        /// Sender's Unix time on sending, ms.
        t0: f64,
    },
    /// Answers `clock-ping`.
    ClockPong {
        /// As asked.
        t0: f64,
        /// Answerer's Unix time on receiving, ms.
        t1: f64,
        /// Answerer's Unix time on sending, ms.
        t2: f64,
    },
}
