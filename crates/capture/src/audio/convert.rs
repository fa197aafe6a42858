//! Between the device's interleaved samples and `f32`, mono or stereo. Runs in audio callbacks: no
//! locks, no memory.

use cpal::{Data, FromSample, I24, Sample, SampleFormat, SizedSample, U24};

/// How well a sample format suits, 0 best; `None` if it is not understood.
pub(super) fn rank(format: SampleFormat) -> Option<u32> {
    Some(match format {
        SampleFormat::F32 => 0,
        SampleFormat::I16 => 1,
        SampleFormat::I32 => 2,
        SampleFormat::I24 => 3,
        SampleFormat::F64 => 4,
        SampleFormat::U16 => 5,
        SampleFormat::U32 => 6,
        SampleFormat::U24 => 7,
        SampleFormat::U8 => 8,
        SampleFormat::I8 => 9,
        _ => return None,
    })
}

/// Calls the generic function with the data as a slice of its sample type.
macro_rules! by_format {
    ($data:expr, $slice:ident, $function:ident, $($argument:expr),*) => {
        match $data.sample_format() {
            SampleFormat::F32 => $data.$slice::<f32>().map(|s| $function(s, $($argument),*)),
            SampleFormat::I16 => $data.$slice::<i16>().map(|s| $function(s, $($argument),*)),
            SampleFormat::I32 => $data.$slice::<i32>().map(|s| $function(s, $($argument),*)),
            SampleFormat::I24 => $data.$slice::<I24>().map(|s| $function(s, $($argument),*)),
            SampleFormat::F64 => $data.$slice::<f64>().map(|s| $function(s, $($argument),*)),
            SampleFormat::U16 => $data.$slice::<u16>().map(|s| $function(s, $($argument),*)),
            SampleFormat::U32 => $data.$slice::<u32>().map(|s| $function(s, $($argument),*)),
            SampleFormat::U24 => $data.$slice::<U24>().map(|s| $function(s, $($argument),*)),
            SampleFormat::U8 => $data.$slice::<u8>().map(|s| $function(s, $($argument),*)),
            SampleFormat::I8 => $data.$slice::<i8>().map(|s| $function(s, $($argument),*)),
            _ => None,
        }
    };
}

/// How many channels of a microphone with `channels` are kept: both of two where stereo is wanted.
pub(super) fn kept_channels(channels: u16, stereo: bool) -> usize {
    if stereo && channels == 2 { 2 } else { 1 }
}

/// Appends the samples of a stereo device as they are; whether there was room for all of them (else
/// none is taken).
pub(super) fn read_stereo(data: &Data, ring: &mut rtrb::Producer<f32>) -> bool {
    by_format!(data, as_slice, take_all, ring).unwrap_or(false)
}

fn take_all<T>(samples: &[T], ring: &mut rtrb::Producer<f32>) -> bool
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let samples = samples.as_chunks::<2>().0.as_flattened();
    let Ok(room) = ring.write_chunk_uninit(samples.len()) else { return false };
    room.fill_from_iter(samples.iter().map(|&s| f32::from_sample(s)));
    true
}

/// Appends the mean of each frame's channels; whether there was room for all of them (else none
/// is taken).
pub(super) fn read_mono(data: &Data, channels: usize, ring: &mut rtrb::Producer<f32>) -> bool {
    by_format!(data, as_slice, take, channels, ring).unwrap_or(false)
}

fn take<T>(samples: &[T], channels: usize, ring: &mut rtrb::Producer<f32>) -> bool
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let frames = samples.chunks_exact(channels.max(1));
    let Ok(room) = ring.write_chunk_uninit(frames.len()) else { return false };
    let scale = 1.0 / channels.max(1) as f32;
    room.fill_from_iter(
        frames.map(|frame| frame.iter().map(|&s| f32::from_sample(s)).sum::<f32>() * scale),
    );
    true
}

/// Fills a block from the ring, with silence where it runs dry; how many frames were missing.
///
/// The first two channels get left and right, further ones (centre, rear, bass) nothing; a single one
/// gets the mean of both.
pub(super) fn write(
    data: &mut Data,
    channels: usize,
    ring: &mut rtrb::Consumer<[f32; 2]>,
) -> usize {
    by_format!(data, as_slice_mut, give, channels, ring).unwrap_or(0)
}

fn give<T>(samples: &mut [T], channels: usize, ring: &mut rtrb::Consumer<[f32; 2]>) -> usize
where
    T: SizedSample + FromSample<f32>,
{
    let mut missing = 0;
    for frame in samples.chunks_exact_mut(channels.max(1)) {
        let [left, right] = ring.pop().unwrap_or_else(|_| {
            missing += 1;
            [0.0; 2]
        });
        let sample = |value: f32| T::from_sample(value.clamp(-1.0, 1.0));
        match frame {
            [mono] => *mono = sample((left + right) / 2.0),
            [first, second, silent @ ..] => {
                (*first, *second) = (sample(left), sample(right));
                silent.fill(T::EQUILIBRIUM);
            }
            [] => {}
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn channels_are_averaged() {
        let (mut producer, mut consumer) = rtrb::RingBuffer::new(4);
        assert!(take(&[0.5_f32, 0.25, -1.0, 1.0], 2, &mut producer));
        assert_eq!(consumer.pop(), Ok(0.375));
        assert_eq!(consumer.pop(), Ok(0.0));
        assert!(take(&[i16::MIN, 0, 0, 0], 4, &mut producer));
        assert_eq!(consumer.pop(), Ok(-0.25));
        assert!(take(&[128_u8, 192], 1, &mut producer));
        assert_eq!(consumer.pop(), Ok(0.0));
        assert_eq!(consumer.pop(), Ok(0.5));
    }

    #[test]
    fn a_full_ring_takes_nothing() {
        let (mut producer, consumer) = rtrb::RingBuffer::new(3);
        assert!(take(&[0.1_f32, 0.2], 1, &mut producer));
        assert!(!take(&[0.3_f32, 0.4], 1, &mut producer));
        assert_eq!(consumer.slots(), 2);
    }

    #[test]
    fn an_empty_ring_plays_silence() {
        let (mut producer, mut consumer) = rtrb::RingBuffer::new(4);
        producer.push([0.5; 2]).unwrap();
        let mut out = [7_u8; 4];
        assert_eq!(give(&mut out, 2, &mut consumer), 1);
        assert_eq!(out, [192, 192, 128, 128]);
    }

    #[test]
    fn sound_goes_to_the_first_two_of_many_channels() {
        let (mut producer, mut consumer) = rtrb::RingBuffer::new(4);
        producer.push([2.0, -0.5]).unwrap();
        let mut out = [9.0_f32; 6];
        assert_eq!(give(&mut out, 6, &mut consumer), 0);
        assert_eq!(out, [1.0, -0.5, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn left_and_right_are_heard_on_their_sides_or_mixed() {
        let (mut producer, mut consumer) = rtrb::RingBuffer::new(4);
        producer.push([0.5, -0.25]).unwrap();
        let mut out = [9.0_f32; 2];
        assert_eq!(give(&mut out, 2, &mut consumer), 0);
        assert_eq!(out, [0.5, -0.25]);
        producer.push([0.5, -0.25]).unwrap();
        assert_eq!(give(&mut out[..1], 1, &mut consumer), 0);
        assert_eq!(out[0], 0.125);
    }

    #[test]
    fn both_channels_of_a_stereo_device_are_kept_in_turn() {
        let (mut producer, mut consumer) = rtrb::RingBuffer::new(4);
        assert!(take_all(&[0.5_f32, -0.25, 1.0], &mut producer));
        assert_eq!((consumer.pop(), consumer.pop()), (Ok(0.5), Ok(-0.25)));
        assert!(consumer.pop().is_err());
        assert!(!take_all(&[0.0_f32; 6], &mut producer));
        assert_eq!(
            [(2, true), (2, false), (1, true), (6, true)].map(|(n, s)| kept_channels(n, s)),
            [2, 1, 1, 1]
        );
    }
}
