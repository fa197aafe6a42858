//! Microphones and speakers: lists, opening, sample formats.
//!
//! Each open device has two threads: the sound system's, whose callback only moves samples in or
//! out of a lock-free ring (it never locks, allocates or logs), and one of this crate, which does
//! the rest.

mod complaints;
mod convert;
mod microphone;
mod speaker;

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{BufferSize, ErrorKind, SampleFormat, StreamConfig, SupportedStreamConfigRange};
use visavis_media::AUDIO_RATE_HZ;

pub use self::microphone::Microphone;
pub use self::speaker::Speaker;
use crate::device::number_equal_names;
use crate::{CaptureError, DeviceId, DeviceInfo, DeviceKind};

/// What an open microphone or speaker does on the side of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioDeviceFormat {
    /// The device's name.
    pub name: String,
    /// Samples a second and channel.
    pub rate_hz: u32,
    /// Interleaved channels.
    pub channels: u16,
    /// Frames that the sound system moves at once, if it says so.
    pub block_frames: Option<u32>,
}

/// What went wrong so far without ending the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AudioStats {
    /// How often the sound system reported that its own buffer over- or underran.
    pub xruns: u64,
    /// How often a block was lost between the sound system and this program: no room for what
    /// the microphone delivered, or nothing there that the speaker could play.
    pub gaps: u64,
}

/// [`AudioStats`] as the callbacks count them.
#[derive(Debug, Default)]
struct Counters {
    xruns: AtomicU64,
    gaps: AtomicU64,
    /// Blocks moved.
    blocks: AtomicU64,
}

impl Counters {
    fn read(&self) -> AudioStats {
        AudioStats {
            xruns: self.xruns.load(Ordering::Relaxed),
            gaps: self.gaps.load(Ordering::Relaxed),
        }
    }
}

/// The block that is asked for: one audio frame.
const BLOCK: Duration = visavis_media::AUDIO_FRAME;
/// How long the sound system may take to open a stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(3);

/// See [`crate::list_microphones`] and [`crate::list_speakers`].
pub(crate) fn list(kind: DeviceKind) -> Vec<DeviceInfo> {
    quiet_alsa();
    let host = cpal::default_host();
    let default_device = default_device(&host, kind);
    let default = default_device.as_ref().and_then(id_of);
    let mut list: Vec<DeviceInfo> = Vec::new();
    // ALSA's own list can lack its default.
    for device in default_device.into_iter().chain(host.devices().into_iter().flatten()) {
        let Some(id) = id_of(&device) else { continue };
        // Which way ALSA's default goes is not known until it is opened.
        let fits = Some(&id) == default.as_ref() || goes(&device, kind);
        if !fits || !for_people(&id, kind) || list.iter().any(|d| d.id == id) {
            continue;
        }
        let name = name_of(&device);
        list.push(DeviceInfo { default: Some(&id) == default.as_ref(), id, name });
    }
    one_of_each_card(&mut list);
    number_equal_names(&mut list);
    list
}

fn goes(device: &cpal::Device, kind: DeviceKind) -> bool {
    match kind {
        DeviceKind::Speaker => device.supports_output(),
        _ => device.supports_input(),
    }
}

/// Whether a person would call it a microphone or a speaker.
fn for_people(id: &DeviceId, kind: DeviceKind) -> bool {
    if let Some(pcm) = id.as_str().strip_prefix("alsa:") {
        return match pcm {
            // They are there even if nothing is behind them.
            "default" | "pulse" | "pipewire" => opens(pcm, kind),
            _ => card_of(pcm).is_some(),
        };
    }
    // PulseAudio: what a speaker plays can be recorded; offered as a microphone it would send
    // the remote side's voice back.
    !(id.as_str().starts_with("pulseaudio:") && id.as_str().ends_with(".monitor"))
}

/// Whether something is behind an ALSA name.
#[cfg(target_os = "linux")]
fn opens(pcm: &str, kind: DeviceKind) -> bool {
    let direction = match kind {
        DeviceKind::Speaker => alsa::Direction::Playback,
        _ => alsa::Direction::Capture,
    };
    // Not waiting for one that is in use: that it is shows that it is there.
    alsa::PCM::new(pcm, direction, true).err().is_none_or(|e| e.errno() == libc::EBUSY)
}

#[cfg(not(target_os = "linux"))]
fn opens(_pcm: &str, _kind: DeviceKind) -> bool {
    false
}

/// Of an ALSA name for a piece of hardware, the card.
///
/// ALSA has dozens of names for each card (`hw`, `front`, `surround51`, `dmix`, …). The one that
/// converts formats and nothing else, `plughw`, stands for them all.
fn card_of(pcm: &str) -> Option<&str> {
    pcm.strip_prefix("plughw:CARD=")?.split(',').next()
}

/// Keeps a card's first device: the others are its further HDMI plugs and digital outputs, each
/// of which the card's own mixer can be set to.
fn one_of_each_card(list: &mut Vec<DeviceInfo>) {
    let mut cards: Vec<String> = Vec::new();
    list.retain(|device| {
        let Some(card) = device.id.as_str().strip_prefix("alsa:").and_then(card_of) else {
            return true;
        };
        let first = !cards.iter().any(|c| c == card);
        if first {
            cards.push(card.to_owned());
        }
        first
    });
}

/// The id, with the number of an ALSA card replaced by its name, which does not depend on the
/// order in which cards were found.
fn id_of(device: &cpal::Device) -> Option<DeviceId> {
    let id = device.id().ok()?.to_string();
    Some(DeviceId::new(stable_id(&id, |number| {
        std::fs::read_to_string(format!("/proc/asound/card{number}/id")).ok()
    })))
}

fn stable_id(id: &str, card_name: impl Fn(u32) -> Option<String>) -> String {
    let renamed = || {
        let (before, rest) = id.strip_prefix("alsa:")?.split_once(":CARD=")?;
        let (number, after) = rest.split_once(',')?;
        let name = card_name(number.parse().ok()?)?;
        Some(format!("alsa:{before}:CARD={},{after}", name.trim()))
    };
    renamed().unwrap_or_else(|| id.to_owned())
}

fn name_of(device: &cpal::Device) -> String {
    let id = device.id().map(|id| id.to_string()).unwrap_or_default();
    match id.as_str() {
        "alsa:default" => return "System default".to_owned(),
        "alsa:pulse" => return "PulseAudio".to_owned(),
        "alsa:pipewire" => return "PipeWire".to_owned(),
        _ => {}
    }
    device.description().map(|d| d.name().to_owned()).unwrap_or(id)
}

fn default_device(host: &cpal::Host, kind: DeviceKind) -> Option<cpal::Device> {
    match kind {
        DeviceKind::Speaker => host.default_output_device(),
        _ => host.default_input_device(),
    }
}

/// The device with this id, or the default one.
fn find(kind: DeviceKind, id: Option<&DeviceId>) -> Result<cpal::Device, CaptureError> {
    quiet_alsa();
    let Some(id) = id else {
        return default_device(&cpal::default_host(), kind).ok_or(CaptureError::NoDevice(kind));
    };
    let gone = || CaptureError::Gone { device: id.to_string() };
    // The id names its sound system, which need not be the one in use now.
    let host = cpal::DeviceId::from_str(id.as_str()).map_err(|_| gone())?.host();
    let host = cpal::host_from_id(host).map_err(|_| gone())?;
    let devices = host.devices().map_err(|e| failure(kind, &id.to_string(), &e))?;
    default_device(&host, kind)
        .into_iter()
        .chain(devices.filter(|d| goes(d, kind)))
        .find(|d| id_of(d).as_ref() == Some(id))
        .ok_or_else(gone)
}

/// How a stream is opened.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StreamFormat {
    config: StreamConfig,
    samples: SampleFormat,
}

/// The format for a device: 48 kHz if it can, `channels` or few, floating point, blocks of 10 ms.
fn choose_format(channels: u16, ranges: &[SupportedStreamConfigRange]) -> Option<StreamFormat> {
    let cost = |range: &SupportedStreamConfigRange| {
        let channels = match range.channels() {
            wanted if wanted == channels => 0,
            1 | 2 => 1,
            n => u32::from(n),
        };
        let rate = rate_within(range).abs_diff(AUDIO_RATE_HZ);
        Some((rate, channels, convert::rank(range.sample_format())?))
    };
    let best = ranges
        .iter()
        .filter(|r| r.channels() > 0 && r.max_sample_rate() >= r.min_sample_rate())
        .filter_map(|r| Some((cost(r)?, r)))
        .min_by_key(|(cost, _)| *cost)?
        .1;
    let rate = rate_within(best);
    let block = (u64::from(rate) * BLOCK.as_millis() as u64 / 1000) as u32;
    let buffer_size = match best.buffer_size() {
        cpal::SupportedBufferSize::Range { min, max } if *min <= *max => {
            BufferSize::Fixed(block.clamp(*min, *max))
        }
        _ => BufferSize::Fixed(block),
    };
    Some(StreamFormat {
        config: StreamConfig { channels: best.channels(), sample_rate: rate, buffer_size },
        samples: best.sample_format(),
    })
}

/// The rate that is best to use of a range.
fn rate_within(range: &SupportedStreamConfigRange) -> u32 {
    AUDIO_RATE_HZ.clamp(range.min_sample_rate(), range.max_sample_rate())
}

/// Asks the device what it can and chooses.
fn format_of(
    kind: DeviceKind,
    channels: u16,
    device: &cpal::Device,
) -> Result<StreamFormat, CaptureError> {
    let name = name_of(device);
    let failed = |e: cpal::Error| failure(kind, &name, &e);
    let ranges: Vec<_> = match kind {
        DeviceKind::Speaker => device.supported_output_configs().map_err(failed)?.collect(),
        _ => device.supported_input_configs().map_err(failed)?.collect(),
    };
    choose_format(channels, &ranges).ok_or(CaptureError::NoUsableFormat { device: name })
}

/// Opens a stream with small blocks, or, where those are refused, with the system's own.
fn with_small_blocks<S>(
    format: StreamFormat,
    mut build: impl FnMut(StreamConfig) -> Result<S, cpal::Error>,
) -> Result<S, cpal::Error> {
    match build(format.config) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnsupportedConfig | ErrorKind::InvalidInput | ErrorKind::BackendError
            ) =>
        {
            tracing::debug!(%error, "small blocks refused");
            build(StreamConfig { buffer_size: BufferSize::Default, ..format.config })
        }
        other => other,
    }
}

/// Sorts an error of the sound system by its kind.
fn failure(kind: DeviceKind, device: &str, error: &cpal::Error) -> CaptureError {
    let device = if device.is_empty() { kind.to_string() } else { device.to_owned() };
    match error.kind() {
        ErrorKind::DeviceBusy => CaptureError::Busy { device },
        ErrorKind::PermissionDenied => CaptureError::PermissionDenied { device, advice: ADVICE },
        ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated => {
            CaptureError::Gone { device }
        }
        ErrorKind::UnsupportedConfig | ErrorKind::UnsupportedOperation => {
            CaptureError::NoUsableFormat { device }
        }
        _ => CaptureError::Failed { device, detail: error.to_string() },
    }
}

#[cfg(target_os = "linux")]
const ADVICE: &str = "add yourself to the group \"audio\" and log in again";
#[cfg(not(target_os = "linux"))]
const ADVICE: &str = "allow access for this program in the system's privacy settings";

/// Keeps alsa-lib from writing its complaints about each name it tries to standard error, for the
/// calling thread. What matters comes back as an error.
fn quiet_alsa() {
    #[cfg(target_os = "linux")]
    if let Err(error) = alsa::Output::local_error_handler() {
        tracing::debug!(%error, "alsa-lib keeps its own error output");
    }
}

#[cfg(test)]
mod tests {
    use cpal::SupportedBufferSize;

    use super::*;

    fn range(
        channels: u16,
        rates: (u32, u32),
        buffer: SupportedBufferSize,
        samples: SampleFormat,
    ) -> SupportedStreamConfigRange {
        SupportedStreamConfigRange::new(channels, rates.0, rates.1, buffer, samples)
    }

    const ANY: SupportedBufferSize = SupportedBufferSize::Unknown;

    #[test]
    fn a_native_rate_matters_more_than_channels_and_format() {
        let ranges = [
            range(1, (44_100, 44_100), ANY, SampleFormat::F32),
            range(8, (48_000, 48_000), ANY, SampleFormat::I16),
            range(2, (48_000, 48_000), ANY, SampleFormat::I32),
            range(2, (8_000, 96_000), ANY, SampleFormat::I16),
        ];
        let chosen = choose_format(1, &ranges);
        let config =
            StreamConfig { channels: 2, sample_rate: 48_000, buffer_size: BufferSize::Fixed(480) };
        assert_eq!(chosen, Some(StreamFormat { config, samples: SampleFormat::I16 }));
    }

    #[test]
    fn a_device_has_as_many_channels_as_wanted_where_there_is_a_choice() {
        let ranges: Vec<_> =
            (1..=8).map(|n| range(n, (1, 384_000), ANY, SampleFormat::F32)).collect();
        let channels = |wanted| choose_format(wanted, &ranges).map(|f| f.config.channels);
        assert_eq!(channels(1), Some(1));
        assert_eq!(channels(2), Some(2));
    }

    #[test]
    fn a_device_of_another_rate_keeps_it_and_its_block_limits() {
        let limits = SupportedBufferSize::Range { min: 512, max: 4096 };
        let chosen = choose_format(2, &[range(2, (44_100, 44_100), limits, SampleFormat::I16)]);
        let config =
            StreamConfig { channels: 2, sample_rate: 44_100, buffer_size: BufferSize::Fixed(512) };
        assert_eq!(chosen, Some(StreamFormat { config, samples: SampleFormat::I16 }));
    }

    #[test]
    fn one_bit_audio_is_not_usable() {
        let ranges = [range(2, (48_000, 48_000), ANY, SampleFormat::DsdU8)];
        assert_eq!(choose_format(2, &ranges), None);
        assert_eq!(choose_format(2, &[]), None);
    }

    #[test]
    fn ids_name_alsa_cards_rather_than_count_them() {
        let name = |n| (n == 1).then(|| "Loopback\n".to_owned());
        let stable = |id| stable_id(id, name);
        assert_eq!(stable("alsa:plughw:CARD=1,DEV=0"), "alsa:plughw:CARD=Loopback,DEV=0");
        assert_eq!(stable("alsa:plughw:CARD=Loopback,DEV=0"), "alsa:plughw:CARD=Loopback,DEV=0");
        assert_eq!(stable("alsa:plughw:CARD=7,DEV=0"), "alsa:plughw:CARD=7,DEV=0");
        assert_eq!(stable("alsa:default"), "alsa:default");
        assert_eq!(stable("pulseaudio:a.CARD=1,b"), "pulseaudio:a.CARD=1,b");
    }

    #[test]
    fn one_name_stands_for_all_of_a_card() {
        assert_eq!(card_of("plughw:CARD=PCH,DEV=3"), Some("PCH"));
        for alias in ["hw:CARD=PCH,DEV=0", "dmix:CARD=PCH,DEV=0", "surround51:CARD=PCH", "null"] {
            assert_eq!(card_of(alias), None, "{alias}");
        }
        let device =
            |id: &str| DeviceInfo { id: DeviceId::new(id), name: String::new(), default: false };
        let mut list = vec![
            device("alsa:default"),
            device("alsa:plughw:CARD=PCH,DEV=3"),
            device("alsa:plughw:CARD=PCH,DEV=7"),
            device("alsa:plughw:CARD=USB,DEV=0"),
        ];
        one_of_each_card(&mut list);
        let ids: Vec<_> = list.iter().map(|d| d.id.as_str()).collect();
        assert_eq!(
            ids,
            ["alsa:default", "alsa:plughw:CARD=PCH,DEV=3", "alsa:plughw:CARD=USB,DEV=0"]
        );
    }

    #[test]
    fn unknown_devices_are_gone() {
        for id in ["alsa:plughw:CARD=NoSuchCard,DEV=0", "not an id", "nosystem:x"] {
            let id = DeviceId::new(id);
            for kind in [DeviceKind::Microphone, DeviceKind::Speaker] {
                let error = find(kind, Some(&id)).err();
                assert_eq!(error, Some(CaptureError::Gone { device: id.to_string() }));
            }
        }
    }
}
