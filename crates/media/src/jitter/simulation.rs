//! Whole audio paths on virtual time: speech, Opus with RED, a link with bursts of loss, jitter, queues
//! and outages that video shares, the jitter buffer, a speaker with a clock of its own. Receiver
//! reports go back, so that the sender's protection follows the loss as in a call.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use visavis_media_testing::stoi::stoi;

use super::*;
use crate::audio::protection::ProtectionControl;
use crate::codec::opus::{OpusEncoder, OpusEncoderConfig};
use crate::frame::{AudioFrame, Bitrate};
use crate::random::SplitMix64;
use crate::red::{self, RedEncoder, Redundancy};

/// Gilbert-Elliott: every packet of the link moves it on; all are lost in the bad state.
struct Bursts {
    random: SplitMix64,
    bad: bool,
    to_bad: f64,
    to_good: f64,
}

impl Bursts {
    fn new(seed: u64, loss: f64, mean_burst: f64) -> Self {
        // Single losses are bursts of 1/(1-p) packets.
        let to_good = (1.0 / mean_burst).min(1.0 - loss);
        let to_bad = if loss > 0.0 { loss * to_good / (1.0 - loss) } else { 0.0 };
        Self { random: SplitMix64::new(seed), bad: false, to_bad, to_good }
    }

    fn lost(&mut self) -> bool {
        let turn = self.random.unit();
        self.bad = if self.bad { turn >= self.to_good } else { turn < self.to_bad };
        self.bad
    }
}

#[derive(Clone, Copy)]
struct Link {
    seconds: u64,
    seed: u64,
    loss: f64,
    /// In packets of the link.
    mean_burst: f64,
    /// Video packets between two audio packets; they are lost and move the bursts on alike.
    video_packets: usize,
    one_way_ms: f64,
    /// Added to each packet, uniform.
    jitter_ms: f64,
    /// Extra queueing delay at a time.
    queue_ms: fn(f64) -> f64,
    /// Sound shares a path with video whose rate drops at 10 s ([`drop_queue_ms`]).
    drop: bool,
    /// Nothing gets through.
    dead_s: Option<(f64, f64)>,
    /// How much faster the receiver's sound card runs.
    drift_ppm: f64,
    red: bool,
    speaker_blocks: u64,
}

const CLEAN: Link = Link {
    seconds: 30,
    seed: 1,
    loss: 0.0,
    mean_burst: 1.0,
    video_packets: 5,
    one_way_ms: 25.0,
    jitter_ms: 0.0,
    queue_ms: |_| 0.0,
    drop: false,
    dead_s: None,
    drift_ppm: 0.0,
    red: true,
    speaker_blocks: 1,
};

struct Outcome {
    stats: PlayoutStats,
    concealed: f64,
    stoi: f64,
    /// Mean from capture of a sample (its packet's last) to hand-out, milliseconds, over the run.
    delay_ms: f64,
    /// The delay that the buffer says, each 10 ms.
    delays_ms: Vec<f64>,
    kinds: Vec<PlayoutKind>,
    samples: Vec<f32>,
    wire_kbps: f64,
}

/// Vowels with formants, moving pitch, noise between them, pauses of 150 ms: rich enough for STOI.
fn speech(seconds: u64) -> Vec<f32> {
    let mut random = SplitMix64::new(7);
    let rate = AUDIO_RATE_HZ as f32;
    let vowels = [
        [730.0, 1090.0, 2440.0],
        [270.0, 2290.0, 3010.0],
        [300.0, 870.0, 2240.0],
        [530.0, 1840.0, 2480.0],
        [570.0, 840.0, 2410.0],
    ];
    let mut out = Vec::new();
    let mut phase = 0f32;
    let mut state = [[0f32; 2]; 3];
    let mut syllable = 0usize;
    while out.len() < (seconds * u64::from(AUDIO_RATE_HZ)) as usize {
        let vowel = vowels[(random.bits() % 5) as usize];
        let pitch = 95.0 + 60.0 * random.unit() as f32;
        let length = (0.12 + 0.1 * random.unit() as f32) * rate;
        let fricative = (0.05 * rate) as usize;
        for n in 0..fricative {
            let envelope = (std::f32::consts::PI * n as f32 / fricative as f32).sin();
            out.push(0.05 * envelope * (random.unit() as f32 - 0.5));
        }
        for n in 0..length as usize {
            let t = n as f32 / length;
            phase = (phase + pitch * (1.1 - 0.2 * t) / rate).fract();
            // A glottal pulse through three resonances.
            let pulse = if phase < 0.1 { 1.0 - phase * 10.0 } else { 0.0 } - 0.05
                + 0.02 * (random.unit() as f32 - 0.5);
            let mut sum = 0.0;
            for (formant, memory) in vowel.iter().zip(&mut state) {
                let radius = 1.0 - std::f32::consts::PI * 90.0 / rate;
                let cosine = (std::f32::consts::TAU * formant / rate).cos();
                let y =
                    pulse * 0.02 + 2.0 * radius * cosine * memory[0] - radius * radius * memory[1];
                *memory = [y, memory[0]];
                sum += y;
            }
            out.push((0.35 * sum * (std::f32::consts::PI * t).sin().sqrt()).clamp(-0.9, 0.9));
        }
        syllable += 1;
        if syllable.is_multiple_of(4) {
            out.extend(std::iter::repeat_n(0.0, (0.15 * rate) as usize));
        }
    }
    out.truncate((seconds * u64::from(AUDIO_RATE_HZ)) as usize);
    out
}

/// What sound that is sent at each 10 ms waits in a path of 1.5 Mbps that becomes one of 0.6 Mbps at
/// 10 s, behind the packets of 30 pictures a second. The sender goes on at 1.4 Mbps for 130 to 260 ms,
/// drains the queue at 0.35 Mbps and stays at 0.5 Mbps.
fn drop_queue_ms(seed: u64, seconds: u64) -> Vec<f64> {
    let mut random = SplitMix64::new(seed ^ 0xd509);
    let notice_ms = 10_130.0 + 130.0 * random.unit();
    let capacity = |at_ms: f64| if at_ms < 10_000.0 { 1500.0 } else { 600.0 };
    let (mut picture_ms, mut packet_ms, mut left) = (random.unit() * 33.3, 0.0, 0.0);
    // When the path is free again; bits over kbps are milliseconds.
    let mut free_ms = 0f64;
    let mut queue = Vec::new();
    for n in 0..seconds * 100 {
        let now_ms = n as f64 * 10.0;
        loop {
            if left <= 0.0 {
                let drained = picture_ms > notice_ms + 900.0;
                let kbps = match picture_ms {
                    at if at < notice_ms => 1400.0,
                    _ if drained => 500.0,
                    _ => 350.0,
                };
                left = kbps * 33.3 * (0.7 + 0.6 * random.unit());
                packet_ms = picture_ms.max(packet_ms);
                picture_ms += 33.3;
            }
            if packet_ms > now_ms {
                break;
            }
            let bits = f64::min(left, 10_000.0);
            left -= bits;
            free_ms = free_ms.max(packet_ms) + bits / capacity(free_ms.max(packet_ms));
            // Pictures are paced at 1.5 times the path's rate.
            packet_ms += bits / (1.5 * if packet_ms < notice_ms { 1500.0 } else { 600.0 });
        }
        if n % 2 == 1 {
            free_ms = free_ms.max(now_ms) + 1100.0 / capacity(free_ms.max(now_ms));
        }
        queue.push((free_ms - now_ms).max(0.0));
    }
    queue
}

fn run(link: Link) -> Outcome {
    run_with(link, &speech(link.seconds))
}

/// `sound` is repeated if it is shorter than the run; then its packets are as well.
fn run_with(link: Link, sound: &[f32]) -> Outcome {
    let blocks = sound.len() / AUDIO_FRAME_SAMPLES;
    let mut encoded: Vec<Option<Bytes>> = Vec::new();
    let mut encoder = OpusEncoder::new(OpusEncoderConfig::default()).unwrap();
    let mut control = ProtectionControl::default();
    let mut red = RedEncoder::default();
    let mut bursts = Bursts::new(link.seed, link.loss, link.mean_burst);
    let mut jitter = SplitMix64::new(link.seed ^ 0x5555);
    let mut buffer = JitterBuffer::new().unwrap();
    // Payload (with or without RED), number, timestamp, arrival.
    let mut network: Vec<(MediaTime, u16, u32, Bytes, bool)> = Vec::new();
    let (mut sequence, mut sent, mut lost, mut wire_bytes) = (0u16, 0u32, 0u32, 0usize);
    let mut reports: VecDeque<(u64, f64)> = VecDeque::new();
    let mut out = Outcome {
        stats: PlayoutStats::default(),
        concealed: 0.0,
        stoi: 0.0,
        delay_ms: 0.0,
        delays_ms: Vec::new(),
        kinds: Vec::new(),
        samples: Vec::new(),
        wire_kbps: 0.0,
    };
    let drop_queue = if link.drop { drop_queue_ms(link.seed, link.seconds) } else { Vec::new() };
    let pull_us = 10_000.0 / (1.0 + link.drift_ppm * 1e-6);
    let (mut pulls, mut block) = (0u64, PlayoutBlock::SILENCE);
    let (mut delay_sum, mut delay_count) = (0.0, 0u64);
    for n in 0..link.seconds * 100 {
        let now_us = n * 10_000;
        while reports.front().is_some_and(|(at, _)| *at <= now_us) {
            control.on_report(reports.pop_front().unwrap().1);
        }
        if n % 50 == 0 && sent > 0 {
            let back = (2.0 * link.one_way_ms * 1000.0) as u64;
            reports.push_back((now_us + back, f64::from(lost) / f64::from(sent)));
            (sent, lost) = (0, 0);
        }
        let protection = control.protection(link.red);
        encoder.set_bitrate(protection.bitrate).unwrap();
        encoder.set_expected_loss(protection.expected_loss_percent).unwrap();
        encoder.set_silence_packets(protection.silence_packets());
        let from = n as usize % blocks * AUDIO_FRAME_SAMPLES;
        let samples = sound[from..from + AUDIO_FRAME_SAMPLES].to_vec();
        let frame = AudioFrame { samples, time: MediaTime::from_micros(now_us) };
        for _ in 0..link.video_packets * usize::from(n % 2 == 0) {
            bursts.lost();
        }
        if encoded.len() < blocks {
            encoded.push(encoder.encode(&frame).unwrap().map(|packet| packet.data));
        }
        if let Some(data) = encoded[n as usize % blocks].clone() {
            let timestamp = (n as u32 - 1) * AUDIO_FRAME_SAMPLES as u32;
            let copies = red.encode(timestamp, &data, 111, protection.redundancy);
            let is_red = copies.is_some();
            let payload = copies.unwrap_or(data);
            wire_bytes += payload.len() + 68;
            // A block is there when its last sample is.
            let sent_us = now_us as f64 + 10_000.0;
            let at_s = sent_us / 1e6;
            let dead = link.dead_s.is_some_and(|(from, to)| (from..to).contains(&at_s));
            let gone = bursts.lost() || dead;
            sent += 1;
            lost += u32::from(gone);
            if !gone {
                let queue_ms =
                    (link.queue_ms)(at_s) + drop_queue.get(n as usize).copied().unwrap_or(0.0);
                let delay_us =
                    1000.0 * (link.one_way_ms + link.jitter_ms * jitter.unit() + queue_ms);
                let arrival = MediaTime::from_micros((sent_us + delay_us) as u64);
                network.push((arrival, sequence, timestamp, payload, is_red));
            }
            sequence = sequence.wrapping_add(1);
        }
        // The speaker, in blocks.
        while (pulls + link.speaker_blocks - 1) as f64 * pull_us + 3_000.0 <= now_us as f64 {
            let now_f = (pulls + link.speaker_blocks - 1) as f64 * pull_us + 3_000.0;
            let now = MediaTime::from_micros(now_f as u64);
            network.sort_by_key(|p| p.0);
            let due = network.partition_point(|p| p.0 <= now);
            for (arrival, sequence, timestamp, payload, is_red) in network.drain(..due) {
                let mut push = |payload, timestamp, retransmitted| {
                    buffer.push(&ReceivedRtp {
                        codec: None,
                        sequence,
                        timestamp,
                        marker: false,
                        payload,
                        arrival,
                        retransmitted,
                    });
                };
                if is_red {
                    assert!(red::parse(&payload, |b| push(
                        b.payload,
                        timestamp.wrapping_sub(b.timestamp_offset),
                        b.timestamp_offset != 0
                    )));
                } else {
                    push(payload, timestamp, false);
                }
            }
            for _ in 0..link.speaker_blocks {
                if let Some(next) = buffer.next_timestamp() {
                    delay_sum += now_f / 1000.0 - f64::from(next) / 48.0;
                    delay_count += 1;
                }
                out.kinds.push(buffer.pull_into(now, &mut block));
                out.samples.extend_from_slice(&block.left);
                out.delays_ms.push(buffer.delay_us.unwrap_or(0.0) / 1000.0);
                pulls += 1;
            }
        }
    }
    out.stats = buffer.stats();
    out.concealed =
        out.stats.concealed_samples as f64 / out.stats.total_samples_received.max(1) as f64;
    out.delay_ms = delay_sum / delay_count.max(1) as f64;
    out.wire_kbps = wire_bytes as f64 * 8.0 / 1000.0 / link.seconds as f64;
    if link.loss > 0.0 {
        out.stoi = aligned_stoi(sound, &out.samples, out.delay_ms);
    }
    out
}

/// STOI by stretches of a second, each at the delay where it fits best: playout moves.
fn aligned_stoi(sent: &[f32], heard: &[f32], delay_ms: f64) -> f64 {
    let second = AUDIO_RATE_HZ as usize;
    let (mut sum, mut count) = (0.0, 0);
    let mut at = 5 * second;
    while at + 3 * second < heard.len() {
        let middle = (delay_ms * 48.0) as usize;
        let reference = &sent[at..at + second];
        let fit = |lag: usize| {
            heard.get(at + lag..at + lag + second).map_or(0.0, |h| {
                h.iter().zip(reference).step_by(3).map(|(a, b)| f64::from(a * b)).sum::<f64>()
            })
        };
        let range = middle.saturating_sub(7200)..middle + 9600;
        let coarse = range.step_by(24).max_by(|a, b| fit(*a).total_cmp(&fit(*b))).unwrap_or(middle);
        let lag = (coarse.saturating_sub(24)..coarse + 24)
            .max_by(|a, b| fit(*a).total_cmp(&fit(*b)))
            .unwrap_or(coarse);
        sum += stoi(reference, &heard[at + lag..at + lag + second], AUDIO_RATE_HZ);
        count += 1;
        at += second;
    }
    sum / f64::from(count.max(1))
}

fn show(name: &str, o: &Outcome) {
    println!(
        "{name}: concealed {:.2} % stoi {:.3} delay {:.0} ms (target {} now {}) wire {:.0} kbps \
         fec {} red {} lost {} late {} events {} +{} -{}",
        o.concealed * 100.0,
        o.stoi,
        o.delay_ms,
        o.stats.target_delay.as_millis(),
        o.stats.current_delay.as_millis(),
        o.wire_kbps,
        o.stats.fec_recovered_packets,
        o.stats.red_recovered_packets,
        o.stats.packets_lost,
        o.stats.packets_discarded,
        o.stats.concealment_events,
        o.stats.inserted_samples_for_deceleration,
        o.stats.removed_samples_for_acceleration,
    );
}

/// Three seeds; the middle one by concealment.
fn median(name: &str, link: Link) -> Outcome {
    let mut outcomes: Vec<Outcome> = (1..=3).map(|seed| run(Link { seed, ..link })).collect();
    outcomes.sort_by(|a, b| a.concealed.total_cmp(&b.concealed));
    let middle = outcomes.swap_remove(1);
    show(name, &middle);
    middle
}

#[test]
fn a_clean_link_costs_no_delay_and_no_sound() {
    let o = median("clean", CLEAN);
    assert!(o.concealed < 0.001, "{:?}", o.stats);
    assert!(o.stats.current_delay <= Duration::from_millis(30), "{:?}", o.stats);
    assert_eq!(o.stats.red_recovered_packets, 0);
    // 20 ms of a packet, 25 ms of the link, and the buffer.
    assert!(o.delay_ms < 85.0, "{}", o.delay_ms);
    assert!(o.wire_kbps < 75.0);
}

#[test]
fn single_losses_cost_little_sound() {
    for (loss, concealed, delay_ms) in
        [(0.03, 0.008, 95.0), (0.1, 0.015, 110.0), (0.2, 0.04, 140.0)]
    {
        let o = median(&format!("loss {loss}"), Link { loss, ..CLEAN });
        assert!(o.concealed <= concealed, "{loss}: {} {:?}", o.concealed, o.stats);
        assert!(o.delay_ms <= delay_ms, "{loss}: {}", o.delay_ms);
        assert!(o.stoi > 0.9, "{}", o.stoi);
        assert!(o.wire_kbps < 200.0, "{}", o.wire_kbps);
    }
}

#[test]
fn bursts_of_loss_cost_little_sound() {
    let o = median("burst 10 %", Link { loss: 0.1, mean_burst: 4.0, one_way_ms: 75.0, ..CLEAN });
    assert!(o.concealed <= 0.03, "{} {:?}", o.concealed, o.stats);
    let o = median("burst 30 %", Link { loss: 0.3, mean_burst: 4.0, ..CLEAN });
    assert!(o.concealed <= 0.12 && o.stoi >= 0.75, "{} {} {:?}", o.concealed, o.stoi, o.stats);
    // Without video every packet of a burst is sound.
    let alone = Link { video_packets: 0, mean_burst: 4.0, ..CLEAN };
    let o = median("burst 10 % alone", Link { loss: 0.1, ..alone });
    assert!(o.concealed <= 0.06, "{} {:?}", o.concealed, o.stats);
    let o = median("burst 30 % alone", Link { loss: 0.3, ..alone });
    assert!(o.concealed <= 0.16 && o.stoi >= 0.75, "{} {} {:?}", o.concealed, o.stoi, o.stats);
}

#[test]
fn copies_are_worth_their_bits() {
    let link = Link { loss: 0.2, ..CLEAN };
    let (with, without) =
        (median("20 % red", link), median("20 % no red", Link { red: false, ..link }));
    assert!(with.concealed < without.concealed / 3.0);
}

#[test]
fn jitter_is_waited_for_and_forgotten() {
    let o = median("jitter 60", Link { jitter_ms: 60.0, ..CLEAN });
    assert!(o.concealed <= 0.004, "{} {:?}", o.concealed, o.stats);
    assert!(o.stats.current_delay <= Duration::from_millis(90), "{:?}", o.stats);
    // Jitter for three seconds, then none.
    let queue = |t: f64| if (5.0..8.0).contains(&t) { 80.0 * (t * 7919.0).fract() } else { 0.0 };
    let o = median("storm", Link { queue_ms: queue, ..CLEAN });
    assert!(o.delays_ms[1800..].iter().all(|&d| d < 45.0), "{:?}", &o.delays_ms[1800..1810]);
}

#[test]
fn a_lone_spike_does_not_hold_the_delay_up() {
    // One packet 150 ms late, the next ones in its wake.
    let queue = |t: f64| if (10.0..10.15).contains(&t) { 150.0 - (t - 10.0) * 1000.0 } else { 0.0 };
    let o = run(Link { queue_ms: queue, ..CLEAN });
    show("spike", &o);
    assert!(o.delays_ms[1200..].iter().all(|&d| d < 45.0), "{:?}", &o.delays_ms[1195..1210]);
}

#[test]
fn a_queue_that_builds_up_is_followed_without_gaps_and_down_again() {
    // From 1.5 to 0.6 Mbps: 0.57 s of queue a second, until the sender has noticed; drained later.
    let queue = |t: f64| match t {
        t if t < 10.0 => 0.0,
        t if t < 10.35 => (t - 10.0) * 570.0,
        t if t < 11.35 => 200.0 - (t - 10.35) * 200.0,
        _ => 0.0,
    };
    let o = run(Link { queue_ms: queue, seconds: 60, ..CLEAN });
    show("ramp", &o);
    assert!(o.concealed <= 0.0008, "{} {:?}", o.concealed, o.stats);
    assert!(o.delays_ms[1400..].iter().all(|&d| d < 60.0), "{:?}", &o.delays_ms[1395..1400]);
}

#[test]
fn sound_behind_the_video_of_a_path_that_drops_is_drawn_out_rather_than_broken() {
    let mut made_up: Vec<usize> = Vec::new();
    for seed in 1..=12 {
        let o = run(Link { drop: true, seed, seconds: 16, ..CLEAN });
        show(&format!("drop {seed}"), &o);
        let concealed = |n: &usize| o.kinds[*n] == PlayoutKind::Concealed;
        let at: Vec<usize> = (1000..1300).filter(concealed).collect();
        let most = o.delays_ms[1000..1300].iter().fold(0f64, |m, d| m.max(*d));
        let later = o.delays_ms[1500..].iter().fold(0f64, |m, d| m.max(*d));
        println!("   at {at:?}, most {most:.0} ms, later {later:.0} ms");
        // Nothing is skipped for it, and the delay goes back with the queue.
        assert_eq!(o.stats.packets_discarded, 0, "{:?}", o.stats);
        assert!(later < 140.0, "{later}");
        made_up.push(at.len() * 10);
    }
    made_up.sort_unstable();
    let mean = made_up.iter().sum::<usize>() / made_up.len();
    println!("made up, ms: {made_up:?}, mean {mean}");
    // 160 and 240 ms where only the last packet was drawn out, to half speed.
    assert!(mean <= 95 && made_up.last() <= Some(&170), "{made_up:?}");
}

#[test]
fn after_an_outage_sound_is_back_at_once_and_the_delay_normal() {
    for dead_s in [0.5, 2.0, 5.0] {
        let o = run(Link { dead_s: Some((10.0, 10.0 + dead_s)), ..CLEAN });
        show(&format!("dead {dead_s}"), &o);
        // The first packet after it is sent within 20 ms and there after 25 ms.
        let back = 1000 + (dead_s * 100.0) as usize;
        let sound = o.kinds[back..].iter().position(|k| *k == PlayoutKind::Played).unwrap();
        assert!(sound <= 11, "{dead_s}: {sound}0 ms");
        let late = o.delays_ms[back + 100..].iter().fold(0f64, |m, d| m.max(*d));
        assert!(late < 45.0, "{dead_s}: {late}");
    }
}

#[test]
fn what_waited_behind_an_outage_is_skipped() {
    // Nothing for 2 s, then all of it at once.
    let queue = |t: f64| if (10.0..12.0).contains(&t) { (12.0 - t) * 1000.0 } else { 0.0 };
    let o = run(Link { queue_ms: queue, ..CLEAN });
    show("held up", &o);
    assert!(o.delays_ms[1300..].iter().all(|&d| d < 50.0), "{:?}", &o.delays_ms[1295..1305]);
    assert!(o.stats.target_delay <= Duration::from_millis(30), "{:?}", o.stats);
}

#[test]
fn sound_cards_that_drift_apart_make_no_gaps_and_no_delay() {
    let sound = speech(60);
    for drift_ppm in [-300.0, 300.0] {
        let link = Link { drift_ppm, seconds: 1800, ..CLEAN };
        let o = run_with(link, &sound);
        show(&format!("drift {drift_ppm}"), &o);
        assert!(o.concealed < 1e-4, "{drift_ppm}: {:?}", o.stats);
        let most = o.delays_ms[500..].iter().fold(0f64, |m, d| m.max(*d));
        assert!(most < 50.0, "{drift_ppm}: {most}");
    }
}

#[test]
fn silence_keeps_its_sound_when_it_is_not_sent() {
    // Speech for 4 s, then a room's noise for 6 s, in which nothing is sent for long.
    let mut random = SplitMix64::new(3);
    let mut sound = speech(10);
    for (n, sample) in sound.iter_mut().enumerate() {
        let noise = 0.006 * (random.unit() as f32 - 0.5);
        *sample = if n < 4 * 48_000 { *sample + noise } else { noise };
    }
    let o = run_with(Link { seconds: 10, ..CLEAN }, &sound);
    show("dtx", &o);
    let level = |from: usize, to: usize| {
        crate::audio::level::Level::of(&o.samples[from * 480..to * 480]).rms_dbfs
    };
    let (sent, silent) = (level(430, 450), level(700, 950));
    println!("room {sent} dBFS, comfort noise {silent} dBFS");
    assert!((sent - silent).abs() < 10.0, "{sent} {silent}");
    assert!(o.concealed < 0.001, "{:?}", o.stats);
}

#[test]
fn speech_comes_through_in_mutual_order_of_protection() {
    // The budget bounds what copies take.
    let mut control = ProtectionControl::default();
    (0..10).for_each(|_| control.on_report(0.3));
    control.set_budget(Some(Bitrate::from_kbps(90)));
    let bounded = control.protection(true);
    assert!(bounded.redundancy != Redundancy::NONE && bounded.redundancy.depth() < 4);
}
