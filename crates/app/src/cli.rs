//! The command line: for desktop integration, demonstrations and tests. A bad value is said and
//! ends the program with status 2, before a window opens.

use std::net::SocketAddr;

use clap::Parser;
use visavis_engine::{
    CallCode, CameraSource, CertificateFingerprint, MicrophoneSource, Size, SpeakerSink, parse_size,
};

use crate::room_entry::parse_link;

/// Face to face: calls from one computer to another, with nothing in between.
#[derive(Debug, Clone, Parser)]
#[command(name = "visavis", version, about)]
pub(crate) struct Args {
    /// Code (abc-def-ghj-kmn), or a link such as https://HOST/r/abc-def#ghj-kmn
    #[arg(value_name = "ROOM-OR-LINK", value_parser = parse_room)]
    pub(crate) room: Option<RoomOrLink>,
    /// Signaling server, http(s)://HOST[:PORT]; default: the one inside this program
    #[arg(long, value_name = "URL", value_parser = parse_server)]
    pub(crate) server: Option<String>,
    /// Name that the other side sees
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Enters the room at once (a new room, if none is given)
    #[arg(long)]
    pub(crate) join: bool,
    /// test-pattern, none, default, file:PATH.y4m or device:ID
    #[arg(long, value_name = "SOURCE")]
    pub(crate) camera: Option<CameraSource>,
    /// tone, silence, default, file:PATH.wav or device:ID
    #[arg(long, value_name = "SOURCE")]
    pub(crate) microphone: Option<MicrophoneSource>,
    /// none, default, file:PATH.wav or device:ID
    #[arg(long, value_name = "SINK")]
    pub(crate) speaker: Option<SpeakerSink>,
    /// Where the server inside listens, ADDRESS:PORT; 0.0.0.0:8080 lets the network in
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Trusts the server's self-signed certificate with this SHA-256 fingerprint (it prints it)
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) trust_certificate: Option<CertificateFingerprint>,
    /// Opens the debug panel at start
    #[arg(long)]
    pub(crate) debug_panel: bool,
    /// Wanted size of video; default: 1280x720, and larger where camera, line and processor allow it
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    pub(crate) size: Option<Size>,
    /// Wanted pictures a second, 1 to 60
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) fps: u32,
}

/// What was given as the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomOrLink {
    /// The room and the secret.
    pub(crate) code: CallCode,
    /// The link's server.
    pub(crate) server: Option<String>,
}

fn parse_room(text: &str) -> Result<RoomOrLink, String> {
    if let Some((server, code)) = parse_link(text) {
        return Ok(RoomOrLink { code, server: Some(server) });
    }
    let code = text.parse::<CallCode>().map_err(|e| e.to_string())?;
    Ok(RoomOrLink { code, server: None })
}

fn parse_server(text: &str) -> Result<String, String> {
    let known = ["http://", "https://", "ws://", "wss://"];
    let host = known.iter().find_map(|s| text.strip_prefix(s));
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') => Ok(text.to_owned()),
        _ => Err("a server is http://HOST[:PORT] or https://HOST[:PORT]".into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use visavis_engine::DeviceId;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("visavis").chain(line.split_whitespace()))
    }

    #[test]
    fn link_brings_its_server() {
        let args = parse("https://meet.example:8443/r/abc-def#ghj-kmn --join").unwrap();
        let room = args.room.unwrap();
        assert_eq!(room.server.as_deref(), Some("https://meet.example:8443"));
        assert_eq!(room.code.to_string(), "abc-def-ghj-kmn");
        assert!(args.join);
        assert_eq!(parse("ABC-def-ghj-kmn").unwrap().room.unwrap().server, None);
    }

    #[test]
    fn sources_are_read() {
        let args = parse(
            "--camera device:/dev/video0 --microphone file:a.wav --speaker none --size 640x360 --fps 15",
        )
        .unwrap();
        assert_eq!(args.camera, Some(CameraSource::Device(DeviceId("/dev/video0".into()))));
        assert_eq!(args.microphone, Some(MicrophoneSource::File("a.wav".into())));
        assert_eq!(args.speaker, Some(SpeakerSink::None));
        assert_eq!((args.size, args.fps), (Some(Size::new(640, 360)), 15));
    }

    #[test]
    fn bad_values_end_with_status_2() {
        for line in [
            "not-a-room",
            "--server example.org",
            "--server https://",
            "--camera webcam",
            "--microphone device:",
            "--speaker loud",
            "--listen everywhere",
            "--size 641x360",
            "--size 1280",
            "--fps 0",
            "--unknown",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
