//! Sources, sinks and sizes as people write them on a command line.

use std::path::PathBuf;
use std::str::FromStr;

use crate::{CameraSource, DeviceId, DisplaySink, MicrophoneSource, Size, SpeakerSink, Switch};

/// What would have been understood instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct CliSyntaxError(&'static str);

/// Reads `WIDTHxHEIGHT`. Even sizes only: I420 halves the chroma planes.
///
/// # Errors
///
/// Not of that form, odd, or a side outside 32 to 3840 pixels (what the encoder takes).
pub fn parse_size(text: &str) -> Result<Size, CliSyntaxError> {
    let side = |s: &str| s.parse().ok().filter(|n| (32..=3840).contains(n) && n % 2 == 0);
    text.split_once('x')
        .and_then(|(w, h)| Some(Size::new(side(w)?, side(h)?)))
        .ok_or(CliSyntaxError("WIDTHxHEIGHT, even numbers from 32 to 3840"))
}

enum Given {
    File(PathBuf),
    StereoFile(PathBuf),
    Device(DeviceId),
}

fn given(text: &str) -> Option<Given> {
    match text.split_once(':')? {
        (_, "") => None,
        ("file", path) => Some(Given::File(path.into())),
        ("stereo-file", path) => Some(Given::StereoFile(path.into())),
        ("device", id) => Some(Given::Device(DeviceId(id.to_owned()))),
        _ => None,
    }
}

impl FromStr for CameraSource {
    type Err = CliSyntaxError;

    fn from_str(text: &str) -> Result<Self, CliSyntaxError> {
        match (text, given(text)) {
            ("test-pattern", _) => Ok(Self::TestPattern),
            ("grainy-test-pattern", _) => Ok(Self::GrainyTestPattern),
            ("none", _) => Ok(Self::None),
            ("default", _) => Ok(Self::Default),
            (_, Some(Given::File(path))) => Ok(Self::File(path)),
            (_, Some(Given::Device(id))) => Ok(Self::Device(id)),
            _ => Err(CliSyntaxError(
                "test-pattern, grainy-test-pattern, none, default, file:PATH.y4m or device:ID",
            )),
        }
    }
}

impl FromStr for Switch {
    type Err = CliSyntaxError;

    fn from_str(text: &str) -> Result<Self, CliSyntaxError> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(CliSyntaxError("auto, on or off")),
        }
    }
}

impl FromStr for MicrophoneSource {
    type Err = CliSyntaxError;

    fn from_str(text: &str) -> Result<Self, CliSyntaxError> {
        match (text, given(text)) {
            ("tone", _) => Ok(Self::Tone),
            ("stereo-tone", _) => Ok(Self::StereoTone),
            ("beep", _) => Ok(Self::Beep),
            ("silence", _) => Ok(Self::Silence),
            ("default", _) => Ok(Self::Default),
            (_, Some(Given::File(path))) => Ok(Self::File(path)),
            (_, Some(Given::Device(id))) => Ok(Self::Device(id)),
            _ => Err(CliSyntaxError(
                "tone, stereo-tone, beep, silence, default, file:PATH.wav or device:ID",
            )),
        }
    }
}

impl FromStr for SpeakerSink {
    type Err = CliSyntaxError;

    fn from_str(text: &str) -> Result<Self, CliSyntaxError> {
        match (text, given(text)) {
            ("none", _) => Ok(Self::None),
            ("default", _) => Ok(Self::Default),
            (_, Some(Given::File(path))) => Ok(Self::File(path)),
            (_, Some(Given::StereoFile(path))) => Ok(Self::StereoFile(path)),
            (_, Some(Given::Device(id))) => Ok(Self::Device(id)),
            _ => Err(CliSyntaxError(
                "none, default, file:PATH.wav, stereo-file:PATH.wav or device:ID",
            )),
        }
    }
}

impl FromStr for DisplaySink {
    type Err = CliSyntaxError;

    fn from_str(text: &str) -> Result<Self, CliSyntaxError> {
        match (text, given(text)) {
            ("none", _) => Ok(Self::None),
            (_, Some(Given::File(path))) => Ok(Self::File(path)),
            _ => Err(CliSyntaxError("none or file:PATH.y4m")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_refused() {
        assert_eq!(parse_size("640x360"), Ok(Size::new(640, 360)));
        for bad in ["", "640", "641x360", "0x0", "9999x9999", "axb"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!("file:a:b.y4m".parse(), Ok(CameraSource::File("a:b.y4m".into())));
        assert_eq!("device:x".parse(), Ok(MicrophoneSource::Device(DeviceId("x".into()))));
        assert_eq!("none".parse(), Ok(SpeakerSink::None));
        assert_eq!("stereo-file:a.wav".parse(), Ok(SpeakerSink::StereoFile("a.wav".into())));
        assert!("stereo-file:a.y4m".parse::<CameraSource>().is_err());
        assert!("file:".parse::<CameraSource>().is_err());
        assert!("loud".parse::<MicrophoneSource>().is_err());
        assert!("device:x".parse::<DisplaySink>().is_err());
    }
}
