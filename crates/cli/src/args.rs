//! Flags.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use visavis_engine::{
    AddressPolicy, CallCode, CameraSource, CertificateFingerprint, DisplaySink, IceServer,
    MicrophoneSource, Size, SpeakerSink, Switch, VideoCodec, parse_size,
};

/// Visavis without a window.
#[derive(Debug, Parser)]
#[command(name = "visavis-cli", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a room and stay until the call ends.
    Join(Box<JoinArgs>),
    /// List cameras, microphones and speakers.
    Devices(DevicesArgs),
    /// Measure calls on this machine.
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// Code (abc-def-ghj-kmn) or link.
    pub(crate) code: CallCode,
    /// Signaling server, such as http://127.0.0.1:8080.
    #[arg(long)]
    pub(crate) server: String,
    /// Name shown to the other side.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// test-pattern, grainy-test-pattern, none, file:PATH.y4m, device:ID or default.
    #[arg(long, default_value = "test-pattern")]
    pub(crate) camera: CameraSource,
    /// tone, stereo-tone, beep, silence, file:PATH.wav, device:ID or default.
    #[arg(long, default_value = "tone")]
    pub(crate) microphone: MicrophoneSource,
    /// none or file:PATH.y4m.
    #[arg(long, default_value = "none")]
    pub(crate) display: DisplaySink,
    /// Size at which received pictures are shown, which the other side is told, and of the frames in that file; without it
    /// that of the first one.
    #[arg(long, value_parser = parse_size)]
    pub(crate) display_size: Option<Size>,
    /// none, file:PATH.wav, stereo-file:PATH.wav, device:ID or default.
    #[arg(long, default_value = "none")]
    pub(crate) speaker: SpeakerSink,
    /// Start with the microphone off: nothing of it is sent.
    #[arg(long)]
    pub(crate) muted: bool,
    /// Lock the room once both are in it: nobody else can enter.
    #[arg(long)]
    pub(crate) lock: bool,
    /// Who is let in when somebody asks to join the call: all or none.
    #[arg(long, value_name = "WHO", default_value = "none")]
    pub(crate) admit: Admit,
    /// Keep in this file what it takes to come back to the call, should this program be killed; the
    /// next run with the same file, room and server then takes its seat without being asked.
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<std::path::PathBuf>,
    /// Send sound as music: as it is, in stereo where the microphone has two channels, up to 128 kbps.
    #[arg(long)]
    pub(crate) music: bool,
    /// Take out what the speaker plays: auto (for microphones only), on or off.
    #[arg(long, value_name = "SWITCH", default_value = "auto")]
    pub(crate) echo_cancellation: Switch,
    /// Take out steady noise: auto, on or off.
    #[arg(long, value_name = "SWITCH", default_value = "auto")]
    pub(crate) noise_suppression: Switch,
    /// Bring speech to the same level: auto, on or off.
    #[arg(long, value_name = "SWITCH", default_value = "auto")]
    pub(crate) automatic_gain: Switch,
    /// Take out rumble: auto, on or off.
    #[arg(long, value_name = "SWITCH", default_value = "auto")]
    pub(crate) high_pass: Switch,
    /// Size of the pictures sent.
    #[arg(long, default_value = "1280x720", value_parser = parse_size)]
    pub(crate) size: Size,
    /// Size of the largest pictures sent, where camera, line and processor allow it. Default: 1920x1080, or --size if that
    /// is given.
    #[arg(long, value_parser = parse_size)]
    pub(crate) max_size: Option<Size>,
    /// Pictures a second.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=120))]
    pub(crate) fps: u32,
    /// Ceiling of the video bitrate, bits a second. Default: 2500000 up to 1280x720, 4500000 beyond.
    #[arg(long, value_parser = clap::value_parser!(u64).range(50_000..=50_000_000))]
    pub(crate) max_bitrate: Option<u64>,
    /// Video codecs that may be used, both ways: av1, vp9, h264, vp8, with commas between them. Which of them is sent
    /// with is chosen by line and processor. Default: all.
    #[arg(long, value_delimiter = ',', value_parser = video_codec)]
    pub(crate) video_codecs: Vec<VideoCodec>,
    /// A STUN or TURN server besides the server's own: URL or URL,USER,CREDENTIAL. Repeatable.
    #[arg(long = "ice-server", value_parser = ice_server)]
    pub(crate) ice_servers: Vec<IceServer>,
    /// Trust the server's self-signed certificate with this SHA-256 fingerprint (the server prints it).
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) trust_certificate: Option<CertificateFingerprint>,
    /// Use relayed candidates only, and tell no address of this machine.
    #[arg(long)]
    relay_only: bool,
    /// Tell random names for this machine's addresses in the local network, which it alone resolves.
    #[arg(long, conflicts_with = "relay_only")]
    hide_local_addresses: bool,
    /// Hang up after this time, such as 20s, 500ms or 2m.
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// JSON lines on standard output; the last one is the summary.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a JSON line for every picture received and every 10 ms of sound played.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Admit {
    All,
    None,
}

impl JoinArgs {
    pub(crate) fn addresses(&self) -> AddressPolicy {
        match (self.relay_only, self.hide_local_addresses) {
            (true, _) => AddressPolicy::RelayOnly,
            (false, true) => AddressPolicy::HideLocal,
            (false, false) => AddressPolicy::All,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) kind: BenchKind,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchKind {
    /// Two headless peers on one machine, 1280x720 at 30 fps and Opus both ways.
    Loopback(LoopbackArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LoopbackArgs {
    /// Calls measured; the figures are their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Length of each call.
    #[arg(long, default_value = "15s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// JSON on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Flags of `join` for both peers, behind `--`, such as `-- --video-codecs av1`.
    #[arg(last = true)]
    pub(crate) peer_flags: Vec<String>,
}

fn ice_server(text: &str) -> Result<IceServer, String> {
    let mut parts = text.splitn(3, ',');
    let url = parts.next().unwrap_or_default().to_owned();
    let (username, credential) = (parts.next().map(str::to_owned), parts.next().map(str::to_owned));
    let is_turn = url.starts_with("turn:") || url.starts_with("turns:");
    if !(is_turn || url.starts_with("stun:") || url.starts_with("stuns:")) {
        return Err("expected stun:HOST[:PORT], turn:HOST[:PORT],USER,CREDENTIAL or turns:…".into());
    }
    if is_turn && credential.is_none() {
        return Err("a TURN server needs a user and a credential: URL,USER,CREDENTIAL".into());
    }
    Ok(IceServer { urls: vec![url], username, credential })
}

fn video_codec(name: &str) -> Result<VideoCodec, String> {
    VideoCodec::from_name(name).ok_or_else(|| "expected av1, vp9, h264 or vp8".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a time such as 500ms, 20s, 2m or 1h".into()),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|n| Duration::try_from_secs_f64(n * factor).ok())
        .ok_or_else(|| "expected a time such as 500ms, 20s, 2m or 1h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "-1s", "5d", "1e400s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(ice_server("stun:127.0.0.1:3478").is_ok());
        assert!(ice_server("turn:127.0.0.1:3478").is_err());
        assert!(ice_server("turn:127.0.0.1:3478,user,pass,word").is_ok());
        assert!(ice_server("http://x").is_err());
    }
}
