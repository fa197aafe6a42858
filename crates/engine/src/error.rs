//! What can go wrong with sources, sinks and peer connections. None of it ends the program: the run
//! loop logs it, tells the person or the session, and goes on.

use std::path::PathBuf;

use visavis_capture::CaptureError;
use visavis_media::MediaError;
use visavis_rtc::RtcError;

/// Why a source or sink did not open, or ended by itself. Displayed it is fit for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    /// A device of the system.
    #[error("{}", sentence(.0))]
    Capture(#[from] CaptureError),
    /// A file could not be opened or created.
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: MediaError },
    #[error("The picture file ended badly: {0}")]
    PictureFileEnded(#[source] MediaError),
    #[error("The sound file ended badly: {0}")]
    SoundFileEnded(#[source] MediaError),
    #[error("The sound file could not be written: {0}")]
    SoundFileNotWritten(#[source] MediaError),
    #[error("The received pictures are no longer written: {0}")]
    DisplayFileNotWritten(#[source] MediaError),
    #[error("No thread for the device: {0}")]
    Thread(#[source] std::io::Error),
}

/// Why a peer connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("no thread for the decoder: {0}")]
    Thread(#[source] std::io::Error),
    #[error(transparent)]
    JitterBuffer(MediaError),
    #[error(transparent)]
    Rtc(#[from] RtcError),
}

/// Upper-case beginning and full stop.
fn sentence(error: &CaptureError) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let begin = chars.next().map(char::to_uppercase).into_iter().flatten();
    let mut text: String = begin.chain(chars).collect();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use visavis_capture::DeviceKind;

    use super::*;

    #[test]
    fn what_a_device_says_becomes_a_sentence() {
        let error = DeviceError::from(CaptureError::NoDevice(DeviceKind::Camera));
        let words = error.to_string();
        assert!(words.starts_with("No ") && words.ends_with('.'), "{words}");
    }
}
