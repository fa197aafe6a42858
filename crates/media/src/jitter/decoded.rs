//! Opus packets to sound that waits to be handed out, in as many channels as the packets have.
//!
//! Mono is decoded as mono and costs what it did before there was stereo. The first stereo packet makes
//! the decoder a stereo one; after [`MONO_PACKETS`] of mono it becomes a mono one again.

use bytes::Bytes;

use crate::audio::stretch::{self, Likeness};
use crate::codec::opus::{OpusDecoder, is_stereo, packet_samples};
use crate::error::MediaError;
use crate::frame::{AUDIO_FRAME_SAMPLES, PlayoutBlock};

/// See the module.
#[derive(Debug)]
pub(super) struct Decoded {
    decoder: OpusDecoder,
    /// One channel or two, equally long.
    channels: Vec<Vec<f32>>,
    /// What the stereo decoder delivers.
    interleaved: Vec<f32>,
    /// The packet decoded last.
    last: Bytes,
    /// Mono packets in a row that the stereo decoder got.
    mono_packets: u32,
}

impl Decoded {
    pub(super) fn new() -> Result<Self, MediaError> {
        Ok(Self {
            decoder: OpusDecoder::new()?,
            channels: vec![Vec::with_capacity(CAPACITY)],
            interleaved: Vec::new(),
            last: Bytes::new(),
            mono_packets: 0,
        })
    }

    /// Samples of each channel.
    pub(super) fn len(&self) -> usize {
        self.channels[0].len()
    }

    /// Appends what a packet sounds; returns how many samples.
    pub(super) fn decode(&mut self, packet: &Bytes) -> Result<usize, MediaError> {
        self.follow(packet)?;
        let appended = self.run(|decoder, out| decoder.decode(packet, out))?;
        self.last = packet.clone();
        Ok(appended)
    }

    /// Appends the `samples` before `packet` out of its in-band FEC.
    pub(super) fn decode_fec(
        &mut self,
        packet: &Bytes,
        samples: usize,
    ) -> Result<usize, MediaError> {
        self.follow(packet)?;
        self.run(|decoder, out| decoder.decode_fec(packet, samples, out))
    }

    /// Appends `samples` that are made up.
    pub(super) fn conceal(&mut self, samples: usize) {
        let from = self.len();
        if !matches!(self.run(|decoder, out| decoder.conceal(samples, out)), Ok(1..)) {
            self.channels.iter_mut().for_each(|c| c.resize(from + samples, 0.0));
        }
    }

    /// Multiplies what lies from `from` on by a gain that depends on the distance from there.
    pub(super) fn scale(&mut self, from: usize, gain: impl Fn(usize) -> f32) {
        for channel in &mut self.channels {
            let samples = channel.iter_mut().skip(from);
            samples.enumerate().for_each(|(n, sample)| *sample *= gain(n));
        }
    }

    /// Leaves out a period after `from`; returns its length.
    pub(super) fn shorten(&mut self, from: usize, likeness: Likeness) -> usize {
        stretch::shorten(&mut self.channels, from, likeness)
    }

    /// Repeats a period after `from`; returns its length.
    pub(super) fn lengthen(&mut self, from: usize, likeness: Likeness) -> usize {
        stretch::lengthen(&mut self.channels, from, likeness)
    }

    /// Hands out the first 10 ms; there have to be as many.
    pub(super) fn take(&mut self, out: &mut PlayoutBlock) {
        out.stereo = self.channels.len() == 2;
        let right = self.channels.get(1).unwrap_or(&self.channels[0]);
        out.right.copy_from_slice(&right[..AUDIO_FRAME_SAMPLES]);
        out.left.copy_from_slice(&self.channels[0][..AUDIO_FRAME_SAMPLES]);
        for channel in &mut self.channels {
            channel.drain(..AUDIO_FRAME_SAMPLES);
        }
    }

    /// Has as many channels as `packet`.
    fn follow(&mut self, packet: &Bytes) -> Result<(), MediaError> {
        let stereo = is_stereo(packet);
        self.mono_packets = if stereo { 0 } else { self.mono_packets.saturating_add(1) };
        match self.channels.len() {
            1 if stereo => {
                self.decoder = OpusDecoder::with_channels(true)?;
                self.channels.push(self.channels[0].clone());
            }
            2 if self.mono_packets > MONO_PACKETS => {
                self.decoder = OpusDecoder::new()?;
                if let Some(right) = self.channels.pop() {
                    let pairs = self.channels[0].iter_mut().zip(right);
                    pairs.for_each(|(left, right)| *left = (*left + right) / 2.0);
                }
            }
            _ => return Ok(()),
        }
        // A decoder begins in silence; with the packet before it is about where the other one was.
        if packet_samples(&self.last).is_some() {
            self.interleaved.clear();
            // It was decoded before; if this fails now, the sound fades in.
            let _ = self.decoder.decode(&self.last, &mut self.interleaved);
        }
        Ok(())
    }

    fn run(
        &mut self,
        decode: impl FnOnce(&mut OpusDecoder, &mut Vec<f32>) -> Result<usize, MediaError>,
    ) -> Result<usize, MediaError> {
        match &mut self.channels[..] {
            [left, right] => {
                self.interleaved.clear();
                let appended = decode(&mut self.decoder, &mut self.interleaved)?;
                let pairs = self.interleaved.as_chunks::<2>().0;
                left.extend(pairs.iter().map(|[left, _]| left));
                right.extend(pairs.iter().map(|[_, right]| right));
                Ok(appended)
            }
            [mono, ..] => decode(&mut self.decoder, mono),
            [] => Ok(0),
        }
    }
}

/// A packet, what was left of the one before, and what stretching adds.
const CAPACITY: usize = 8 * AUDIO_FRAME_SAMPLES;
/// 5 s: an encoder that changes its mind from packet to packet makes no new decoder each time.
const MONO_PACKETS: u32 = 250;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::audio::level::Level;
    use crate::codec::opus::{OpusEncoder, OpusEncoderConfig};
    use crate::frame::{AudioFrame, MediaTime};
    use crate::synthetic::StereoTone;

    fn packets(stereo: bool, count: usize) -> Vec<Bytes> {
        let mut tone = StereoTone::default();
        let mut encoder = OpusEncoder::new(OpusEncoderConfig::music(stereo)).unwrap();
        let mut next = || encoder.encode(&tone.next_frame(MediaTime::default())).unwrap();
        std::iter::repeat_with(&mut next).flatten().take(count).map(|p| p.data).collect()
    }

    fn play(decoded: &mut Decoded, packets: &[Bytes]) -> Vec<PlayoutBlock> {
        let mut blocks = Vec::new();
        for packet in packets {
            assert_eq!(decoded.decode(packet).unwrap(), 960);
            while decoded.len() >= AUDIO_FRAME_SAMPLES {
                let mut block = PlayoutBlock::SILENCE;
                decoded.take(&mut block);
                blocks.push(block);
            }
        }
        blocks
    }

    #[test]
    fn channels_follow_the_packets_and_stay_apart() {
        let mut decoded = Decoded::new().unwrap();
        assert!(play(&mut decoded, &packets(false, 20)).iter().all(|b| !b.stereo));
        let blocks = play(&mut decoded, &packets(true, 50));
        assert!(blocks.iter().all(|b| b.stereo));
        let all = |of: fn(&PlayoutBlock) -> &[f32; 480]| -> Vec<f32> {
            blocks[20..].iter().flat_map(|b| *of(b)).collect()
        };
        let (left, right) = (all(|b| &b.left), all(|b| &b.right));
        for (samples, own, other) in [(left, 440.0, 880.0), (right, 880.0, 440.0)] {
            let difference = tone_db(&samples, own) - tone_db(&samples, other);
            assert!(difference > 40.0, "{own} Hz is {difference} dB above {other} Hz");
        }
        // A short stretch of mono is played by the same decoder, a long one by another.
        let mono = packets(false, MONO_PACKETS as usize + 10);
        let blocks = play(&mut decoded, &mono);
        assert!(blocks[0].stereo && !blocks.last().unwrap().stereo);
        // The mean of both tones has -18 dBFS; where another decoder takes over 10 ms dip to -23.
        let levels = blocks.iter().skip(10).map(|b| Level::of(&b.left).rms_dbfs);
        let least = levels.fold(0.0, f32::min);
        assert!(least > -25.0, "{least} dBFS");
    }

    #[test]
    fn both_channels_are_concealed_and_faded() {
        let mut decoded = Decoded::new().unwrap();
        play(&mut decoded, &packets(true, 20));
        decoded.conceal(960);
        decoded.scale(0, |n| if n < 480 { 1.0 } else { 0.0 });
        let mut block = PlayoutBlock::SILENCE;
        decoded.take(&mut block);
        assert!(Level::of(&block.left).rms_dbfs > -30.0);
        assert!(Level::of(&block.right).rms_dbfs > -30.0);
        decoded.take(&mut block);
        assert_eq!((block.left, block.right), ([0.0; 480], [0.0; 480]));
    }

    #[test]
    fn a_malformed_packet_leaves_the_channels_equally_long() {
        let mut decoded = Decoded::new().unwrap();
        // Code 3 without the byte that counts the frames, and stereo.
        assert!(decoded.decode(&Bytes::from_static(&[0xff])).is_err());
        decoded.conceal(480);
        assert!(decoded.channels.iter().all(|c| c.len() == 480));
    }

    fn tone_db(samples: &[f32], frequency_hz: f32) -> f32 {
        let (mut re, mut im) = (0.0f32, 0.0f32);
        for (n, sample) in samples.iter().enumerate() {
            let angle = std::f32::consts::TAU * frequency_hz * n as f32 / 48_000.0;
            (re, im) = (re + sample * angle.cos(), im + sample * angle.sin());
        }
        10.0 * ((re * re + im * im) / (samples.len() as f32).powi(2)).max(1e-20).log10()
    }

    #[test]
    fn a_mono_frame_is_mono_for_any_encoder() {
        let frame = AudioFrame { samples: vec![0.1; 480], time: MediaTime::default() };
        for stereo in [false, true] {
            let mut encoder = OpusEncoder::new(OpusEncoderConfig::music(stereo)).unwrap();
            assert!(encoder.encode(&frame).unwrap().is_none());
            let packet = encoder.encode(&frame).unwrap().unwrap();
            assert_eq!(packet_samples(&packet.data), Some(960));
        }
    }
}
