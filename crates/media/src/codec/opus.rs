//! Opus (RFC 6716, RFC 7587) over libopus: 48 kHz, mono or stereo, 20 ms packets.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::error::MediaError;
use crate::frame::{
    AUDIO_FRAME_SAMPLES, AUDIO_RATE_HZ, AudioFrame, Bitrate, EncodedAudioFrame, MediaTime,
};

/// Longest packet that Opus knows, in samples: 120 ms (RFC 6716 §3.2.5).
pub const MAX_PACKET_SAMPLES: usize = 5760;
/// Samples of a packet made here: 20 ms.
pub const PACKET_SAMPLES: usize = 2 * AUDIO_FRAME_SAMPLES;

/// What is coded; it decides how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AudioContent {
    /// Speech: in-band FEC, and nothing is sent while nobody speaks if that is wanted.
    #[default]
    Voice,
    /// Whatever can be heard, for its own sake: full band, without in-band FEC, which only the speech
    /// half of Opus has, and without pauses.
    Music,
}

/// How an [`OpusEncoder`] is made.
#[derive(Debug, Clone, Copy)]
pub struct OpusEncoderConfig {
    /// What is coded.
    pub content: AudioContent,
    /// Two channels.
    pub stereo: bool,
    /// Target bitrate.
    pub bitrate: Bitrate,
    /// 0 (fastest) to 10.
    pub complexity: u8,
    /// Send nothing while nobody speaks; never so for music.
    pub dtx: bool,
}

impl OpusEncoderConfig {
    /// For music.
    pub const fn music(stereo: bool) -> Self {
        Self {
            content: AudioContent::Music,
            stereo,
            bitrate: Bitrate::from_kbps(128),
            complexity: DEFAULT_COMPLEXITY,
            dtx: false,
        }
    }
}

impl Default for OpusEncoderConfig {
    fn default() -> Self {
        Self {
            content: AudioContent::Voice,
            stereo: false,
            bitrate: Bitrate::from_kbps(32),
            complexity: DEFAULT_COMPLEXITY,
            dtx: true,
        }
    }
}

/// Turns two [`AudioFrame`]s at a time into an Opus packet. Frames are made mono or stereo as the
/// encoder is.
#[derive(Debug)]
pub struct OpusEncoder {
    encoder: opus::Encoder,
    content: AudioContent,
    stereo: bool,
    /// Interleaved.
    pending: Vec<f32>,
    pending_time: MediaTime,
    output: Vec<u8>,
    packets: BytesMut,
    /// Packets of silence handed out in a row.
    silent_packets: usize,
    /// How many are.
    silence_packets: usize,
    bitrate: Option<Bitrate>,
    expected_loss: Option<u8>,
}

impl OpusEncoder {
    /// An encoder.
    ///
    /// # Errors
    /// libopus refused a setting.
    pub fn new(config: OpusEncoderConfig) -> Result<Self, MediaError> {
        let music = config.content == AudioContent::Music;
        let application = if music { opus::Application::Audio } else { opus::Application::Voip };
        let mut encoder = opus::Encoder::new(AUDIO_RATE_HZ, channels(config.stereo), application)?;
        // With FEC wanted, libopus codes music as speech when packets are lost (`opus_encoder.c`).
        encoder.set_inband_fec(!music)?;
        encoder.set_dtx(config.dtx && !music)?;
        // Otherwise whatever sounds like music is coded by CELT, which carries no FEC.
        encoder.set_signal(if music { opus::Signal::Music } else { opus::Signal::Voice })?;
        encoder.set_complexity(config.complexity.min(10).into())?;
        let mut this = Self {
            encoder,
            content: config.content,
            stereo: config.stereo,
            pending: Vec::with_capacity(2 * PACKET_SAMPLES),
            pending_time: MediaTime::default(),
            output: vec![0; MAX_PACKET_BYTES],
            packets: BytesMut::new(),
            silent_packets: 0,
            silence_packets: 1,
            bitrate: None,
            expected_loss: None,
        };
        this.set_bitrate(config.bitrate)?;
        this.set_expected_loss(0)?;
        Ok(this)
    }

    /// Whether it codes two channels.
    pub fn is_stereo(&self) -> bool {
        self.stereo
    }

    /// What it was made for.
    pub fn content(&self) -> AudioContent {
        self.content
    }

    /// Sets the target bitrate, clamped to what Opus takes (6 to 510 kbps).
    ///
    /// # Errors
    /// libopus refused it.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), MediaError> {
        if self.bitrate.replace(bitrate) == Some(bitrate) {
            return Ok(());
        }
        let bps = i32::try_from(bitrate.as_bps().clamp(6_000, 510_000)).unwrap_or(32_000);
        Ok(self.encoder.set_bitrate(opus::Bitrate::Bits(bps))?)
    }

    /// Sets the expected packet loss in percent: the more, the more bits go to in-band FEC. Less than
    /// 10 is taken as 10 for speech, because libopus sends no FEC at 5 % or less when the bitrate is tight for
    /// full bandwidth, and the first loss comes before anybody expects it.
    ///
    /// # Errors
    /// libopus refused it.
    pub fn set_expected_loss(&mut self, percent: u8) -> Result<(), MediaError> {
        let least = if self.content == AudioContent::Voice { MIN_LOSS_PERCENT } else { 0 };
        let percent = percent.clamp(least, 100);
        if self.expected_loss.replace(percent) == Some(percent) {
            return Ok(());
        }
        Ok(self.encoder.set_packet_loss_perc(percent.into())?)
    }

    /// How many packets of silence are handed out when silence begins; at least one. More of them
    /// take redundant copies of the last sound along.
    pub fn set_silence_packets(&mut self, packets: usize) {
        self.silence_packets = packets.max(1);
    }

    /// Takes 10 ms of sound; every second call yields a packet, except in DTX silence: then the
    /// first packets of at most two bytes are handed out (they tell the receiver, see
    /// [`Self::set_silence_packets`]) and the others are not.
    /// The RTP timestamp has to follow [`EncodedAudioFrame::time`], so it jumps over the silence.
    ///
    /// # Errors
    /// The frame is neither mono nor stereo, or libopus failed.
    pub fn encode(&mut self, frame: &AudioFrame) -> Result<Option<EncodedAudioFrame>, MediaError> {
        let Some(mono) = frame.mono() else {
            return Err(MediaError::Audio(format!("a frame of {} samples", frame.samples.len())));
        };
        if self.pending.is_empty() {
            self.pending_time = frame.time;
        }
        match (self.stereo, frame.is_stereo()) {
            (true, true) => self.pending.extend_from_slice(&frame.samples),
            (true, false) => self.pending.extend(mono.iter().flat_map(|&s| [s, s])),
            (false, _) => self.pending.extend_from_slice(&mono),
        }
        if self.pending.len() < PACKET_SAMPLES * if self.stereo { 2 } else { 1 } {
            return Ok(None);
        }
        let result = self.encoder.encode_float(&self.pending, &mut self.output);
        self.pending.clear();
        let length = result?;
        self.silent_packets = if length <= DTX_MAX_BYTES { self.silent_packets + 1 } else { 0 };
        if self.silent_packets > self.silence_packets {
            return Ok(None);
        }
        Ok(Some(EncodedAudioFrame {
            data: self.take_output(length),
            time: self.pending_time,
            duration: PACKET_DURATION,
        }))
    }

    /// The packet in memory that comes back when it has been sent: no allocation for each.
    fn take_output(&mut self, length: usize) -> Bytes {
        if self.packets.capacity() < length {
            self.packets.reserve(PACKET_MEMORY_BYTES.max(length));
        }
        self.packets.extend_from_slice(&self.output[..length]);
        self.packets.split().freeze()
    }
}

/// Turns Opus packets of any duration, mono or stereo, into 48 kHz mono or, with the channels in
/// turn, stereo. What is counted in samples is per channel.
#[derive(Debug)]
pub struct OpusDecoder {
    decoder: opus::Decoder,
    stereo: bool,
}

impl OpusDecoder {
    /// A decoder to mono.
    ///
    /// # Errors
    /// libopus refused.
    pub fn new() -> Result<Self, MediaError> {
        Self::with_channels(false)
    }

    /// A decoder to stereo or mono.
    ///
    /// # Errors
    /// libopus refused.
    pub fn with_channels(stereo: bool) -> Result<Self, MediaError> {
        Ok(Self { decoder: opus::Decoder::new(AUDIO_RATE_HZ, channels(stereo))?, stereo })
    }

    /// Decodes a packet and appends its samples to `out`; returns how many.
    ///
    /// # Errors
    /// The packet is malformed.
    pub fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<usize, MediaError> {
        if packet.is_empty() {
            return Err(MediaError::Audio("an empty packet".into()));
        }
        self.run(packet, MAX_PACKET_SAMPLES, false, out)
    }

    /// Recovers the `samples` before `packet` from its in-band FEC and appends them; without FEC in
    /// it libopus conceals instead. `packet` itself is decoded by a later [`Self::decode`].
    ///
    /// # Errors
    /// The packet is malformed, or `samples` is not a multiple of 2.5 ms up to 120 ms.
    pub fn decode_fec(
        &mut self,
        packet: &[u8],
        samples: usize,
        out: &mut Vec<f32>,
    ) -> Result<usize, MediaError> {
        if packet.is_empty() {
            return Err(MediaError::Audio("an empty packet".into()));
        }
        self.run(packet, checked_duration(samples)?, true, out)
    }

    /// Makes up `samples` that never came (PLC), fading out over several calls, and appends them.
    ///
    /// # Errors
    /// `samples` is not a multiple of 2.5 ms up to 120 ms.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, MediaError> {
        self.run(&[], checked_duration(samples)?, false, out)
    }

    fn run(
        &mut self,
        packet: &[u8],
        samples: usize,
        fec: bool,
        out: &mut Vec<f32>,
    ) -> Result<usize, MediaError> {
        let start = out.len();
        let channels = if self.stereo { 2 } else { 1 };
        out.resize(start + samples * channels, 0.0);
        let result = self.decoder.decode_float(packet, &mut out[start..], fec);
        out.truncate(start + channels * result.as_ref().map_or(0, |&n| n.min(samples)));
        Ok(result?)
    }
}

/// Samples at 48 kHz that a packet sounds; `None` if it is malformed.
pub fn packet_samples(packet: &[u8]) -> Option<usize> {
    opus::packet::get_nb_samples(packet, AUDIO_RATE_HZ)
        .ok()
        .filter(|n| (1..=MAX_PACKET_SAMPLES).contains(n))
}

/// Whether a packet carries in-band FEC for the one before it: the LBRR flag of its first SILK frame
/// (RFC 6716 §4.2.3 and §4.2.4, as libopus' `opus_packet_has_lbrr` reads it).
pub fn has_fec(packet: &[u8]) -> bool {
    let Some(&toc) = packet.first() else { return false };
    // Configurations from 16 on are CELT alone (RFC 6716 §3.1), which has no FEC.
    if toc >> 3 >= 16 {
        return false;
    }
    let Ok(samples) = opus::packet::get_samples_per_frame(packet, AUDIO_RATE_HZ) else {
        return false;
    };
    let Ok(parsed) = opus::packet::parse(packet) else { return false };
    let Some(&flags) = parsed.frames.first().and_then(|frame| frame.first()) else { return false };
    // One voice activity flag per 20 ms, then the LBRR flag; for stereo the same again.
    let silk_frames = if samples > PACKET_SAMPLES { samples / PACKET_SAMPLES } else { 1 };
    let bit = |index: usize| flags.checked_shr(7 - index.min(7) as u32).is_some_and(|f| f & 1 == 1);
    bit(silk_frames) || (toc & 0x04 != 0 && bit(2 * silk_frames + 1))
}

/// Whether a packet carries two channels: the bit s of its first byte (RFC 6716 §3.1).
pub fn is_stereo(packet: &[u8]) -> bool {
    packet.first().is_some_and(|toc| toc & 0x04 != 0)
}

fn channels(stereo: bool) -> opus::Channels {
    if stereo { opus::Channels::Stereo } else { opus::Channels::Mono }
}

/// Whether a packet only says that silence follows (DTX).
pub fn is_dtx(packet: &[u8]) -> bool {
    packet.len() <= DTX_MAX_BYTES
}

fn checked_duration(samples: usize) -> Result<usize, MediaError> {
    if samples > 0
        && samples <= MAX_PACKET_SAMPLES
        && samples.is_multiple_of(AUDIO_FRAME_SAMPLES / 4)
    {
        Ok(samples)
    } else {
        Err(MediaError::Audio(format!("{samples} samples are no Opus duration")))
    }
}

/// Duration of a packet made here.
const PACKET_DURATION: Duration = Duration::from_millis(20);
/// A recommended bound for one packet (`opus_encode` documentation).
const MAX_PACKET_BYTES: usize = 4000;
/// Packets' memory is reserved in pieces of this size; a second of 32 kbps.
const PACKET_MEMORY_BYTES: usize = 4096;
/// Packets this short need not be sent (`opus_encode` documentation).
const DTX_MAX_BYTES: usize = 2;
/// From 6 on, libopus narrows the bandwidth rather than leaving FEC out (`decide_fec` in its
/// `opus_encoder.c`); at 10 full bandwidth and FEC both fit into 32 kbps.
const MIN_LOSS_PERCENT: u8 = 10;
/// The highest that costs little: 0.7 % of a core against 1.0 % for 9 (`examples/codec_speed.rs`). From
/// 7 on libopus analyses the signal, which its DTX is better for.
const DEFAULT_COMPLEXITY: u8 = 7;
