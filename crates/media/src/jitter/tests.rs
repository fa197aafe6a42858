//! Playout on virtual time: a sender, a network that delays and drops, a speaker every 10 ms.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::audio::level::Level;
use crate::audio::tone_meter::ToneMeter;
use crate::codec::opus::{OpusEncoder, OpusEncoderConfig};
use crate::frame::AudioFrame;
use crate::random::SplitMix64;
use crate::synthetic::Tone;
use proptest::prelude::*;

/// 10 ms for the speaker, mixed to mono.
struct PlayoutFrame {
    samples: Vec<f32>,
    concealed: bool,
    fec: bool,
}

fn pull(buffer: &mut JitterBuffer, now: MediaTime) -> PlayoutFrame {
    let mut block = PlayoutBlock::SILENCE;
    let kind = buffer.pull_into(now, &mut block);
    PlayoutFrame {
        samples: block.mono().to_vec(),
        concealed: kind == PlayoutKind::Concealed,
        fec: kind == PlayoutKind::Fec,
    }
}

struct Run {
    stats: PlayoutStats,
    samples: Vec<f32>,
    frames: Vec<PlayoutFrame>,
}

/// Encodes `frames` of 10 ms, delivers packet `n` after `delay_ms(n)` (`None`: lost), and plays.
fn play(
    first_sequence: u16,
    frames: usize,
    mut source: impl FnMut(usize) -> Vec<f32>,
    mut delay_ms: impl FnMut(usize) -> Option<u64>,
) -> Run {
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let mut network: Vec<ReceivedRtp> = Vec::new();
    let mut count = 0;
    for n in 0..frames {
        let time = MediaTime::from_micros(n as u64 * 10_000);
        let Some(packet) = encoder.encode(&AudioFrame { samples: source(n), time }).unwrap() else {
            continue;
        };
        let sent_us = n as u64 * 10_000;
        if let Some(delay) = delay_ms(count) {
            network.push(ReceivedRtp {
                codec: None,
                sequence: first_sequence.wrapping_add(u16::try_from(count).unwrap()),
                timestamp: u32::try_from(packet.time.as_micros() * 48 / 1000)
                    .unwrap()
                    .wrapping_add(0xffff_0000),
                marker: false,
                payload: packet.data,
                arrival: MediaTime::from_micros(sent_us + delay * 1000),
                retransmitted: false,
            });
        }
        count += 1;
    }
    network.sort_by_key(|p| p.arrival);
    let mut buffer = JitterBuffer::new().unwrap();
    let mut network = network.into_iter().peekable();
    let mut run = Run { stats: PlayoutStats::default(), samples: Vec::new(), frames: Vec::new() };
    for n in 0..frames as u64 {
        let now = MediaTime::from_micros(n * 10_000 + 3_000);
        while let Some(packet) = network.next_if(|p| p.arrival <= now) {
            buffer.push(&packet);
        }
        let frame = pull(&mut buffer, now);
        run.samples.extend(&frame.samples);
        run.frames.push(frame);
    }
    run.stats = buffer.stats();
    run
}

fn tone() -> impl FnMut(usize) -> Vec<f32> {
    let mut tone = Tone::default();
    move |_| tone.next_frame(MediaTime::default()).samples
}

fn tone_hz(samples: &[f32]) -> Option<f32> {
    let mut meter = ToneMeter::new();
    meter.push(samples);
    meter.tone_hz()
}

/// Something like a voice: harmonics of 140 Hz in syllables, because only speech gets FEC.
fn voice() -> impl FnMut(usize) -> Vec<f32> {
    let mut n = 0u32;
    move |_| {
        (0..480)
            .map(|_| {
                n += 1;
                let t = n as f32 / 48_000.0;
                let syllable = 0.5 - 0.5 * (std::f32::consts::TAU * 4.0 * t).cos();
                let sum: f32 = (1..12)
                    .map(|h| (std::f32::consts::TAU * 140.0 * h as f32 * t).sin() / h as f32)
                    .sum();
                0.15 * syllable * sum
            })
            .collect()
    }
}

/// A number for `n` that is as good as random.
fn noise(n: usize) -> u64 {
    SplitMix64::new((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).bits() >> 16
}

#[test]
fn a_clean_network_is_played_without_concealment_at_low_delay() {
    let run = play(65_500, 1000, tone(), |_| Some(5));
    assert_eq!(run.stats.concealed_samples, 0, "{:?}", run.stats);
    assert_eq!((run.stats.packets_lost, run.stats.packets_received), (0, 499));
    assert_eq!(run.stats.target_delay, Duration::from_millis(20));
    assert!(run.stats.current_delay <= Duration::from_millis(35), "{:?}", run.stats);
    assert_eq!(
        run.stats.removed_samples_for_acceleration + run.stats.inserted_samples_for_deceleration,
        0
    );
    assert!((tone_hz(&run.samples).unwrap() - 440.0).abs() < 1.0);
    assert!(run.frames[20..].iter().all(|f| !f.concealed && !f.fec));
}

#[test]
fn jitter_raises_the_delay_until_little_is_concealed() {
    let run = play(0, 3000, tone(), |n| Some(20 + noise(n) % 60));
    let late: usize = run.frames[1000..].iter().filter(|f| f.concealed).count();
    assert!(late < 30, "{late} of 2000 frames");
    assert!((50..90).contains(&run.stats.target_delay.as_millis()), "{:?}", run.stats);
    assert!(run.stats.current_delay < Duration::from_millis(110), "{:?}", run.stats);
    assert!(run.stats.jitter > Duration::from_millis(5), "{:?}", run.stats);
    assert!((tone_hz(&run.samples).unwrap() - 440.0).abs() < 6.0);
}

#[test]
fn delay_goes_back_after_a_storm() {
    let run = play(0, 4000, tone(), |n| {
        Some(if (200..500).contains(&n) { 10 + noise(n) % 120 } else { 10 })
    });
    assert_eq!(run.stats.target_delay, Duration::from_millis(20));
    assert!(run.stats.current_delay < Duration::from_millis(45), "{:?}", run.stats);
    assert!(run.stats.removed_samples_for_acceleration > 0);
}

#[test]
fn single_losses_are_recovered_by_fec() {
    let run = play(0, 3000, voice(), |n| (n % 20 != 10).then_some(10 + noise(n) % 25));
    assert_eq!(run.stats.packets_lost, 75);
    // The first few teach it to wait for the next packet; pauses between syllables carry no FEC.
    assert!(run.stats.fec_recovered_packets >= 45, "{:?}", run.stats);
    assert!(run.stats.concealed_samples < 30 * 960, "{:?}", run.stats);
    assert!(run.frames.iter().any(|f| f.fec));
    assert!(run.stats.current_delay < Duration::from_millis(85), "{:?}", run.stats);
}

#[test]
fn a_long_outage_fades_out_and_playback_resumes() {
    let run = play(0, 1000, tone(), |n| (!(200..250).contains(&n)).then_some(10));
    assert_eq!(run.stats.packets_lost, 50);
    // From frame 425 on everything is faded out; at 520 the tone is back.
    assert_eq!(Level::of(&run.samples[430 * 480..495 * 480]), Level::SILENCE);
    assert!(Level::of(&run.samples[520 * 480..]).rms_dbfs > -16.0);
    assert!((900..=1000).contains(&(run.stats.concealed_samples / 48)), "{:?}", run.stats);
    assert_eq!(run.stats.concealment_events, 1);
    assert!(run.stats.current_delay < Duration::from_millis(45), "{:?}", run.stats);
}

#[test]
fn a_burst_after_a_stall_is_caught_up_with() {
    // Nothing for a second, then everything at once.
    let run = play(0, 1500, tone(), |n| {
        Some(if (200..250).contains(&n) { 10 + 20 * (250 - n as u64) } else { 10 })
    });
    assert_eq!(run.stats.packets_lost, 0);
    assert!(run.stats.current_delay < Duration::from_millis(500), "{:?}", run.stats);
    let after = play(0, 3000, tone(), |n| {
        Some(if (200..250).contains(&n) { 10 + 20 * (250 - n as u64) } else { 10 })
    });
    assert!(after.stats.current_delay < Duration::from_millis(45), "{:?}", after.stats);
}

#[test]
fn silence_by_dtx_is_not_concealment() {
    // A tone, three seconds of silence, a tone.
    let mut tone = Tone::default();
    let source = move |n: usize| {
        if (300..600).contains(&n) {
            vec![0.0; 480]
        } else {
            tone.next_frame(MediaTime::default()).samples
        }
    };
    let run = play(0, 1000, source, |n| Some(10 + noise(n) % 5));
    assert!(run.stats.packets_received < 450, "{:?}", run.stats);
    assert!(run.stats.concealed_samples <= 480, "{:?}", run.stats);
    assert_eq!(run.stats.packets_lost, 0);
    assert!(Level::of(&run.samples[400 * 480..590 * 480]).rms_dbfs < -60.0);
    assert!(Level::of(&run.samples[640 * 480..]).rms_dbfs > -16.0);
    assert!(run.stats.current_delay < Duration::from_millis(45), "{:?}", run.stats);
}

#[test]
fn reordering_within_the_delay_costs_nothing() {
    // Every fifth packet is overtaken by the next.
    let run = play(0, 1500, tone(), |n| Some(if n % 5 == 0 { 35 } else { 10 }));
    let concealed = run.frames[300..].iter().filter(|f| f.concealed || f.fec).count();
    assert_eq!(concealed, 0, "{:?}", run.stats);
}

#[test]
fn duplicates_and_late_packets_are_ignored() {
    let mut buffer = JitterBuffer::new().unwrap();
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let mut source = tone();
    let packets: Vec<ReceivedRtp> = (0..40)
        .filter_map(|n| {
            let time = MediaTime::from_micros(n * 10_000);
            encoder.encode(&AudioFrame { samples: source(0), time }).unwrap()
        })
        .zip(0u16..)
        .map(|(p, n)| ReceivedRtp {
            codec: None,
            sequence: n,
            timestamp: u32::from(n) * 960,
            marker: false,
            payload: p.data,
            arrival: MediaTime::from_micros(u64::from(n) * 20_000),
            retransmitted: false,
        })
        .collect();
    for packet in &packets {
        for _ in 0..3 {
            buffer.push(packet);
        }
        for half in 0..2 {
            pull(&mut buffer, packet.arrival + Duration::from_millis(10 * half));
        }
    }
    // Long played.
    buffer.push(&packets[3]);
    let stats = buffer.stats();
    assert_eq!(
        (stats.packets_received, stats.duplicates, stats.packets_discarded, stats.packets_lost),
        (20, 41, 0, 0)
    );
}

#[test]
fn a_sender_that_begins_anew_is_heard_again() {
    let mut buffer = JitterBuffer::new().unwrap();
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let mut source = tone();
    let mut out = Vec::new();
    let mut count = 0u16;
    for n in 0..600u64 {
        let time = MediaTime::from_micros(n * 10_000);
        if let Some(packet) = encoder.encode(&AudioFrame { samples: source(0), time }).unwrap() {
            let (sequence, timestamp) = if n < 300 {
                (count, u32::from(count) * 960)
            } else {
                (count + 30_000, u32::from(count) * 960 + 0x9000_0000)
            };
            count += 1;
            buffer.push(&ReceivedRtp {
                codec: None,
                sequence,
                timestamp,
                marker: false,
                payload: packet.data,
                arrival: time,
                retransmitted: false,
            });
        }
        out.extend(pull(&mut buffer, time).samples);
    }
    assert!((tone_hz(&out[400 * 480..]).unwrap() - 440.0).abs() < 1.0);
    assert!(buffer.stats().packets_lost < 5, "{:?}", buffer.stats());
}

#[test]
fn extra_delay_is_gone_to_and_back_without_a_gap() {
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let (mut buffer, mut source) = (JitterBuffer::new().unwrap(), voice());
    let (mut delays, mut added, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..2000u64 {
        let time = MediaTime::from_micros(n * 10_000);
        buffer.set_extra_delay(Duration::from_millis(if (500..1200).contains(&n) {
            100
        } else {
            0
        }));
        if let Some(packet) = encoder.encode(&AudioFrame { samples: source(0), time }).unwrap() {
            buffer.push(&ReceivedRtp {
                codec: None,
                sequence: (n / 2) as u16,
                timestamp: (n as u32 - 1) * 480,
                marker: false,
                payload: packet.data,
                arrival: time,
                retransmitted: false,
            });
        }
        pull(&mut buffer, time);
        delays.push(buffer.stats().current_delay.as_millis());
        added.push(buffer.extra_delay().as_millis());
        own.push(delays[n as usize] - added[n as usize]);
    }
    assert_eq!(buffer.stats().concealed_samples, 0);
    // What was added is told apart from the buffer's own delay all the way.
    assert!(own[200..].iter().all(|own| (12..=40).contains(own)), "{own:?}");
    assert!((85..=100).contains(&added[1190]), "{}", added[1190]);
    assert_eq!((added[490], added[1990]), (0, 0));
    assert!((105..140).contains(&delays[1190]), "{}", delays[1190]);
    assert!(delays[1999] < 40, "{}", delays[1999]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_packets_never_panic_and_always_give_10_ms(
        packets in proptest::collection::vec(
            (any::<u16>(), any::<u32>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..30), 0u64..50_000),
            0..120,
        ),
    ) {
        let mut buffer = JitterBuffer::new().unwrap();
        let mut now = 0;
        for (index, (sequence, timestamp, near, payload, step)) in packets.into_iter().enumerate() {
            now += step;
            let index = index as u16;
            buffer.push(&ReceivedRtp {
                codec: None,
                sequence: if near { index.wrapping_add(sequence % 4) } else { sequence },
                timestamp: if near { u32::from(index) * 960 + timestamp % 2000 } else { timestamp },
                marker: false,
                payload: Bytes::from(payload),
                arrival: MediaTime::from_micros(now),
                retransmitted: step % 3 == 0,
            });
            let frame = pull(&mut buffer, MediaTime::from_micros(now));
            prop_assert_eq!(frame.samples.len(), AUDIO_FRAME_SAMPLES);
            prop_assert!(buffer.packets.len() <= MAX_PACKETS && buffer.decoded.len() < 20_000);
            let _ = buffer.stats();
        }
    }

    #[test]
    fn any_loss_and_delay_leaves_the_buffer_sane(seed in any::<usize>(), loss_percent in 0u64..60, spread in 1u64..200) {
        let run = play(0, 600, tone(), |n| {
            let r = noise(n.wrapping_add(seed));
            (r % 100 >= loss_percent).then_some(10 + (r >> 8) % spread)
        });
        prop_assert!(run.samples.iter().all(|s| s.is_finite() && s.abs() < 2.0));
        prop_assert!(run.stats.current_delay < Duration::from_millis(900), "{:?}", run.stats);
        prop_assert!(run.stats.concealed_samples <= run.stats.total_samples_received);
    }
}
