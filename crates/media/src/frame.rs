//! The units of media: time, rate, pictures and sound.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::VideoCodec;

/// Sample rate of all audio inside the application, Hz (RFC 7587: Opus' RTP clock is the same).
pub const AUDIO_RATE_HZ: u32 = 48_000;
/// Duration of one [`AudioFrame`] inside, and of a capture block.
pub const AUDIO_FRAME: Duration = Duration::from_millis(10);
/// Samples of one [`AudioFrame`] (mono).
pub const AUDIO_FRAME_SAMPLES: usize = 480;

/// A point on the sender's or receiver's own monotonic clock, microseconds since an origin that
/// the owner of the clock chose. Never crosses the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaTime(u64);

impl MediaTime {
    /// From microseconds since the origin.
    pub const fn from_micros(us: u64) -> Self {
        Self(us)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time since `earlier`, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for MediaTime {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// Bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// From bits a second.
    pub const fn from_bps(bps: u64) -> Self {
        Self(bps)
    }

    /// From kilobits (1000 bits) a second.
    pub const fn from_kbps(kbps: u64) -> Self {
        Self(kbps * 1000)
    }

    /// Bits a second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }
}

/// Width and height in luma pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Size {
    /// Pixels across.
    pub width_px: u32,
    /// Pixels down.
    pub height_px: u32,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width_px, self.height_px)
    }
}

impl Size {
    /// A size.
    pub const fn new(width_px: u32, height_px: u32) -> Self {
        Self { width_px, height_px }
    }

    /// Luma pixels in all.
    pub const fn pixels(self) -> u64 {
        self.width_px as u64 * self.height_px as u64
    }
}

/// How luma and chroma make colours (`matrix_coefficients` of ITU-T H.264 Table E-5); limited range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorMatrix {
    /// ITU-R BT.601: what cameras deliver and what we send.
    #[default]
    Bt601,
    /// ITU-R BT.709.
    Bt709,
}

/// One I420 picture, limited range, tightly packed: Y of `width * height`, then
/// U and V of `ceil(width/2) * ceil(height/2)` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct I420Buffer {
    size: Size,
    data: Vec<u8>,
    matrix: ColorMatrix,
}

impl I420Buffer {
    /// A black picture.
    pub fn black(size: Size) -> Self {
        let (luma, chroma) = (luma_len(size), chroma_len(size));
        let mut data = vec![16; luma + 2 * chroma];
        data[luma..].fill(128);
        Self { size, data, matrix: ColorMatrix::default() }
    }

    /// Takes over packed planes; `None` unless `data` is exactly as long as `size` asks.
    pub fn from_packed(size: Size, data: Vec<u8>) -> Option<Self> {
        (data.len() == luma_len(size) + 2 * chroma_len(size)).then_some(Self {
            size,
            data,
            matrix: ColorMatrix::default(),
        })
    }

    /// Width and height.
    pub fn size(&self) -> Size {
        self.size
    }

    /// How its colours are to be read.
    pub fn matrix(&self) -> ColorMatrix {
        self.matrix
    }

    /// Says how its colours are to be read.
    pub fn set_matrix(&mut self, matrix: ColorMatrix) {
        self.matrix = matrix;
    }

    /// Bytes a row of U and V.
    pub fn chroma_stride(&self) -> usize {
        self.size.width_px.div_ceil(2) as usize
    }

    /// Bytes a row of Y.
    pub fn luma_stride(&self) -> usize {
        self.size.width_px as usize
    }

    /// Y, U, V.
    pub fn planes(&self) -> [&[u8]; 3] {
        let (y, rest) = self.data.split_at(luma_len(self.size));
        let (u, v) = rest.split_at(chroma_len(self.size));
        [y, u, v]
    }

    /// Y, U, V.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let (y, rest) = self.data.split_at_mut(luma_len(self.size));
        let (u, v) = rest.split_at_mut(chroma_len(self.size));
        [y, u, v]
    }

    /// All planes, packed.
    pub fn as_packed(&self) -> &[u8] {
        &self.data
    }
}

fn luma_len(size: Size) -> usize {
    size.width_px as usize * size.height_px as usize
}

fn chroma_len(size: Size) -> usize {
    size.width_px.div_ceil(2) as usize * size.height_px.div_ceil(2) as usize
}

/// A picture with its time; cheap to clone.
#[derive(Debug, Clone)]
pub struct VideoFrame {
    /// The pixels.
    pub buffer: Arc<I420Buffer>,
    /// When it was captured (sending) or handed out by the decoder (receiving).
    pub time: MediaTime,
    /// RTP timestamp (90 kHz) of a received picture; 0 for captured ones.
    pub rtp_timestamp: u32,
}

/// 10 ms of captured sound at [`AUDIO_RATE_HZ`], mono or stereo; samples from -1 to 1.
#[derive(Debug, Clone)]
pub struct AudioFrame {
    /// Mono: [`AUDIO_FRAME_SAMPLES`]. Stereo: twice as many, left and right in turn.
    pub samples: Vec<f32>,
    /// When the first sample was captured.
    pub time: MediaTime,
}

impl AudioFrame {
    /// Whether it has two channels.
    pub fn is_stereo(&self) -> bool {
        self.samples.len() == 2 * AUDIO_FRAME_SAMPLES
    }

    /// The mean of its channels; `None` if it has neither length.
    pub fn mono(&self) -> Option<[f32; AUDIO_FRAME_SAMPLES]> {
        if let Ok(mono) = self.samples[..].try_into() {
            return Some(mono);
        }
        let pairs = self.samples.as_chunks::<2>().0;
        let mut mono = [0.0; AUDIO_FRAME_SAMPLES];
        self.is_stereo().then(|| {
            mono.iter_mut().zip(pairs).for_each(|(m, [l, r])| *m = (l + r) / 2.0);
            mono
        })
    }
}

/// 10 ms of sound for a speaker at [`AUDIO_RATE_HZ`]; samples from -1 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct PlayoutBlock {
    /// Left channel.
    pub left: [f32; AUDIO_FRAME_SAMPLES],
    /// Right channel; the same as `left` unless `stereo`.
    pub right: [f32; AUDIO_FRAME_SAMPLES],
    /// Whether the channels differ.
    pub stereo: bool,
}

impl PlayoutBlock {
    /// Nothing to hear.
    pub const SILENCE: Self =
        Self { left: [0.0; AUDIO_FRAME_SAMPLES], right: [0.0; AUDIO_FRAME_SAMPLES], stereo: false };

    /// The mean of the channels.
    pub fn mono(&self) -> [f32; AUDIO_FRAME_SAMPLES] {
        let mut mono = self.left;
        if self.stereo {
            mono.iter_mut().zip(&self.right).for_each(|(m, r)| *m = (*m + r) / 2.0);
        }
        mono
    }
}

/// One coded picture.
#[derive(Debug, Clone)]
pub struct EncodedVideoFrame {
    /// What it is coded with.
    pub codec: VideoCodec,
    /// The coded picture. H.264: an access unit (ITU-T H.264 Annex B). VP8: a frame (RFC 6386 §9). VP9: a
    /// frame, or a superframe with its index (VP9 bitstream specification, Annex B). AV1: a temporal unit of OBUs
    /// that have a size field (low-overhead format, AV1 specification §5.2).
    pub data: Bytes,
    /// Whether it can be decoded without others (H.264: an IDR picture with SPS and PPS; AV1: with its sequence
    /// header).
    pub keyframe: bool,
    /// Capture time.
    pub time: MediaTime,
    /// Coded size.
    pub size: Size,
}

/// One Opus packet.
#[derive(Debug, Clone)]
pub struct EncodedAudioFrame {
    /// The packet.
    pub data: Bytes,
    /// Capture time of its first sample.
    pub time: MediaTime,
    /// How long it sounds.
    pub duration: Duration,
}

/// One RTP packet as it leaves `rtc`: decrypted, RTX undone, not yet deduplicated or ordered.
#[derive(Debug, Clone)]
pub struct ReceivedRtp {
    /// What the payload is coded with; `None` for sound.
    pub codec: Option<VideoCodec>,
    /// Sequence number of the media stream (the original one for RTX; that of the carrier for a
    /// redundant copy).
    pub sequence: u16,
    /// RTP timestamp in the stream's clock.
    pub timestamp: u32,
    /// Marker bit: end of a picture, start of a talkspurt.
    pub marker: bool,
    /// Payload without padding.
    pub payload: Bytes,
    /// When the datagram came out of the socket, on the receiver's media clock.
    pub arrival: MediaTime,
    /// Whether it came as a retransmission, or, for audio, as a redundant copy in a later packet
    /// (RFC 2198).
    pub retransmitted: bool,
}
