//! A deterministic simulation of flows over one bottleneck, in steps of a millisecond: pictures at
//! the target rate through the real pacer, a drop-tail link, reports at their real times, the real
//! estimator. The cases are those of RFC 8867 §5 and of the benchmark.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use visavis_media::random::SplitMix64;

use super::estimator::{Estimator, Limits};
use super::feedback::FeedbackTiming;
use super::history::PacketResult;
use super::pacer::{Pacer, Priority};
use crate::types::MediaKind;

#[derive(Clone)]
struct Path {
    /// Link rate in bits a second from each time on, in ms.
    rates: Vec<(u64, f64)>,
    queue_ms: f64,
    delay_ms: u64,
    jitter_ms: f64,
    keeps_order: bool,
    loss: f64,
    burst: f64,
    /// Share of reports lost on the way back.
    feedback_loss: f64,
    /// From, to: nothing gets through.
    blackout: Option<(u64, u64)>,
    /// From, to: how much somebody else sends meanwhile without minding anything.
    cross: Option<(u64, u64, f64)>,
}

impl Path {
    fn new(rate: f64, queue_ms: f64) -> Self {
        Self {
            rates: vec![(0, rate)],
            queue_ms,
            delay_ms: 25,
            jitter_ms: 0.0,
            keeps_order: true,
            loss: 0.0,
            burst: 1.0,
            feedback_loss: 0.0,
            blackout: None,
            cross: None,
        }
    }

    fn rate(&self, ms: u64) -> f64 {
        self.rates.iter().rev().find(|(at, _)| *at <= ms).unwrap().1
    }
}

const SOUND_BYTES: u32 = 144;
const PROBE_BYTES: u32 = 1200;

struct Packet {
    sent: Instant,
    bytes: u32,
    frame: usize,
    last: bool,
}

struct Flow {
    start_ms: u64,
    /// Never more video than this.
    max_bps: f64,
    estimator: Estimator,
    pacer: Pacer<(usize, bool, u32)>,
    encoder_bps: f64,
    frames_made: Vec<u64>,
    frames_done: Vec<Option<u64>>,
    /// Packets in order of sending: size, arrival.
    sent: Vec<(Instant, u32, Option<f64>)>,
    reported: usize,
    feedback: FeedbackTiming,
    /// Highest packet that has arrived.
    arrived: usize,
    delivered: Vec<u32>,
    targets: Vec<f64>,
    reports: VecDeque<(u64, Vec<PacketResult>)>,
    skipped: usize,
    /// When sound was sent, and how long it was under way, ms.
    sound: Vec<(u64, u64)>,
}

impl Flow {
    fn new(start_ms: u64, max_bps: f64) -> Self {
        let limits = Limits { min_bps: 80_000.0, start_bps: 800_000.0, max_bps };
        Self {
            start_ms,
            max_bps,
            estimator: Estimator::new(limits),
            pacer: Pacer::new(2_000_000.0),
            encoder_bps: 800_000.0,
            frames_made: Vec::new(),
            frames_done: Vec::new(),
            sent: Vec::new(),
            reported: 0,
            feedback: FeedbackTiming::default(),
            arrived: 0,
            delivered: Vec::new(),
            targets: Vec::new(),
            reports: VecDeque::new(),
            skipped: 0,
            sound: Vec::new(),
        }
    }

    fn rate_bps(&self, from_ms: u64, to_ms: u64) -> f64 {
        let bytes: u64 =
            self.delivered[from_ms as usize..to_ms as usize].iter().map(|b| u64::from(*b)).sum();
        bytes as f64 * 8000.0 / (to_ms - from_ms) as f64
    }

    fn latencies(&self, from_ms: u64, to_ms: u64) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .frames_made
            .iter()
            .zip(&self.frames_done)
            .filter(|(made, _)| (from_ms..to_ms).contains(made))
            .filter_map(|(made, done)| Some(done.as_ref()? - made))
            .collect();
        all.sort_unstable();
        all
    }

    fn percentile(&self, from_ms: u64, to_ms: u64, share: f64) -> u64 {
        let all = self.latencies(from_ms, to_ms);
        all.get(((all.len() as f64 * share) as usize).min(all.len().saturating_sub(1)))
            .copied()
            .unwrap_or(0)
    }
}

/// Runs the flows over the path.
fn simulate(path: &Path, flows: &mut [Flow], length_ms: u64, seed: u64) {
    let origin = Instant::now();
    let at = |ms: u64| origin + Duration::from_millis(ms);
    let mut random = SplitMix64::new(seed);
    // When the link will have sent all that it holds, ms.
    let mut busy_until = 0.0f64;
    let mut cross_credit = 0.0;
    let mut lossy = false;
    // Arrival time, flow, index of the packet.
    let mut flying: Vec<(f64, usize, usize)> = Vec::new();
    let mut last_arrival = 0.0f64;
    let mut packets: Vec<Vec<Packet>> = flows.iter().map(|_| Vec::new()).collect();
    for ms in 0..length_ms {
        let now = at(ms);
        let rate = path.rate(ms);
        for (index, flow) in flows.iter_mut().enumerate() {
            flow.delivered.push(0);
            flow.targets.push(flow.estimator.target_bps());
            if ms < flow.start_ms {
                continue;
            }
            let age = ms - flow.start_ms;
            flow.pacer.start(now);
            flow.pacer.set_rate(flow.estimator.pacing_bps());
            // Sound: 50 packets a second.
            if age % 20 == 0 {
                let bytes = SOUND_BYTES;
                flow.pacer.push(now, Priority::Immediate, bytes, (usize::MAX, false, bytes));
                packets[index].push(Packet { sent: now, bytes, frame: usize::MAX, last: false });
            }
            // Video: the encoder follows its target within a few pictures and varies by 15 %.
            if age % 100 == 0 || age % 100 == 33 || age % 100 == 66 {
                let wanted =
                    (flow.estimator.target_bps() - 58_000.0).max(50_000.0).min(flow.max_bps);
                flow.encoder_bps += 0.5 * (wanted - flow.encoder_bps);
                if flow.pacer.queue_time() > Duration::from_millis(50) {
                    flow.skipped += 1;
                } else {
                    let mut bytes = flow.encoder_bps / 240.0 * (0.85 + 0.3 * random.unit());
                    if age == 0 {
                        bytes = 20_000.0;
                    }
                    let count = (bytes / 1150.0).ceil().max(1.0) as usize;
                    flow.frames_made.push(ms);
                    flow.frames_done.push(None);
                    let frame = flow.frames_made.len() - 1;
                    for n in 0..count {
                        let size = (bytes / count as f64) as u32 + 50;
                        flow.pacer.push(now, Priority::Media, size, (frame, n + 1 == count, size));
                    }
                }
            }
            let window = 500.min(age.max(1));
            let recent: u64 = packets[index]
                .iter()
                .rev()
                .take_while(|p| p.sent + Duration::from_millis(window) > now)
                .map(|p| u64::from(p.bytes))
                .sum();
            if age % 50 == 0 && age > 300 {
                flow.estimator.on_sent_rate(now, recent as f64 * 8000.0 / window as f64);
                if let Some((bytes, _)) = flow.estimator.poll_probe(now) {
                    for _ in 0..bytes / 1150 {
                        let probe = (usize::MAX, false, PROBE_BYTES);
                        flow.pacer.push(now, Priority::Padding, PROBE_BYTES, probe);
                    }
                }
            }
            while let Some((frame, last, bytes)) = flow.pacer.pop(now) {
                packets[index].push(Packet { sent: now, bytes, frame, last });
            }
            // What left now goes into the link.
            for (n, packet) in packets[index].iter().enumerate().skip(flow.sent.len()) {
                flow.sent.push((packet.sent, packet.bytes, None));
                let full = busy_until - ms as f64 > path.queue_ms;
                lossy = if lossy {
                    random.unit() >= 1.0 / path.burst
                } else {
                    random.unit() < path.loss / (path.burst * (1.0 - path.loss))
                };
                if path.burst <= 1.0 {
                    lossy = random.unit() < path.loss;
                }
                let dead = path.blackout.is_some_and(|(from, to)| (from..to).contains(&ms));
                if !full && !lossy && !dead {
                    busy_until =
                        busy_until.max(ms as f64) + f64::from(packet.bytes) * 8000.0 / rate;
                    let jitter = path.jitter_ms * random.unit();
                    let mut arrival = busy_until + path.delay_ms as f64 + jitter;
                    if path.keeps_order {
                        arrival = arrival.max(last_arrival);
                        last_arrival = arrival;
                    }
                    flying.push((arrival, index, n));
                }
            }
        }
        if let Some((from, to, bps)) = path.cross
            && (from..to).contains(&ms)
        {
            cross_credit += bps / 8000.0;
            while cross_credit >= 1200.0 {
                cross_credit -= 1200.0;
                if busy_until - ms as f64 <= path.queue_ms {
                    busy_until = busy_until.max(ms as f64) + 1200.0 * 8000.0 / rate;
                }
            }
        }
        let landed: Vec<_> = flying.iter().filter(|(t, ..)| *t <= ms as f64).copied().collect();
        flying.retain(|(t, ..)| *t > ms as f64);
        for (arrival, flow, n) in landed {
            let flow_index = flow;
            let flow = &mut flows[flow];
            flow.sent[n].2 = Some(arrival);
            flow.arrived = flow.arrived.max(n + 1);
            flow.delivered[ms as usize] += flow.sent[n].1;
            let packet = &packets[flow_index][n];
            flow.feedback.on_packet(now, packet.bytes);
            if packet.bytes == SOUND_BYTES {
                let sent_ms = (packet.sent - origin).as_millis();
                flow.feedback.on_media(now, MediaKind::Audio, sent_ms as u32 * 48);
                flow.sound.push((sent_ms as u64, ms - sent_ms as u64));
            } else if let Some(made) = flow.frames_made.get(packet.frame) {
                flow.feedback.on_media(now, MediaKind::Video, *made as u32 * 90);
            }
            if packet.last && packet.frame != usize::MAX {
                flow.frames_done[packet.frame] = Some(ms);
            }
        }
        for flow in flows.iter_mut() {
            let dead = path.blackout.is_some_and(|(from, to)| (from..to).contains(&ms));
            if flow.feedback.deadline().is_some_and(|due| due <= now) {
                flow.feedback.on_report(now);
                let results = flow.sent[flow.reported..flow.arrived]
                    .iter()
                    .map(|(sent, bytes, arrival)| PacketResult {
                        sent: *sent,
                        bytes: *bytes,
                        arrival_us: arrival.map(|ms| (ms * 1000.0) as i64 + 77_000_000),
                        was_missing: false,
                    })
                    .collect();
                flow.reported = flow.arrived;
                if random.unit() >= path.feedback_loss && !dead {
                    flow.reports.push_back((ms + path.delay_ms, results));
                }
            }
            while flow.reports.front().is_some_and(|(t, _)| *t <= ms) {
                let (_, results) = flow.reports.pop_front().unwrap();
                flow.estimator.set_rtt(Duration::from_millis(2 * path.delay_ms));
                flow.estimator.on_feedback(now, &results);
            }
        }
    }
}

fn one(path: &Path, length_ms: u64) -> Flow {
    let mut flows = [Flow::new(0, 2_700_000.0)];
    simulate(path, &mut flows, length_ms, 1);
    let [flow] = flows;
    flow
}

/// What a case has to reach; the last second of `rates` counts for the end.
fn assert_steady(name: &str, flow: &Flow, from: u64, to: u64, least_kbps: f64, most_p95_ms: u64) {
    let (rate, p95) = (flow.rate_bps(from, to) / 1000.0, flow.percentile(from, to, 0.95));
    println!("{name}: {rate:.0} kbps, p50 {} ms, p95 {p95} ms", flow.percentile(from, to, 0.5));
    assert!(rate >= least_kbps, "{name}: {rate:.0} kbps");
    assert!(p95 <= most_p95_ms, "{name}: p95 {p95} ms");
}

#[test]
fn a_constant_link_is_filled_without_a_standing_queue() {
    for (rate, queue, least, p95) in
        [(0.3e6, 300.0, 280.0, 170), (1e6, 300.0, 940.0, 110), (2.5e6, 300.0, 2_250.0, 100)]
    {
        let flow = one(&Path::new(rate, queue), 30_000);
        assert_steady(&format!("{rate} bps"), &flow, 0, 30_000, least, p95);
    }
}

#[test]
fn an_open_link_is_used_within_a_second() {
    let flow = one(&Path::new(100e6, 300.0), 10_000);
    assert!(flow.rate_bps(0, 1000) >= 1.5e6, "{}", flow.rate_bps(0, 1000));
    assert!(flow.rate_bps(1000, 2000) >= 2.1e6, "{}", flow.rate_bps(1000, 2000));
    assert_steady("open", &flow, 1000, 10_000, 2_600.0, 60);
}

/// RFC 8867 §5.1: variable available capacity.
#[test]
fn a_drop_drains_within_two_seconds_and_a_rise_is_used_within_eight() {
    let mut path = Path::new(1.5e6, 500.0);
    path.rates = vec![(0, 1.5e6), (20_000, 0.6e6), (40_000, 1.5e6)];
    let flow = one(&path, 60_000);
    assert_steady("1.5 0.6 1.5 Mbps", &flow, 0, 60_000, 1_080.0, 130);
    // Four packets out of the queue show it, 130 ms later: the queue has grown by 180 ms already.
    let mut worst = Vec::new();
    for seed in 1..=7 {
        let mut flows = [Flow::new(0, 2_700_000.0)];
        simulate(&path, &mut flows, 22_000, seed);
        worst.push(flows[0].percentile(20_000, 22_000, 1.0));
    }
    worst.sort_unstable();
    assert!(worst[3] <= 350, "{worst:?} ms at the drop");
    let settled = flow.percentile(22_000, 39_000, 0.98);
    assert!(settled <= 150, "{settled} ms two seconds after the drop");
    assert!(flow.rate_bps(48_000, 49_000) >= 0.9 * 1.5e6, "{}", flow.rate_bps(48_000, 49_000));
}

/// In the second after the queue is gone the path is known to be full.
#[test]
fn nothing_is_probed_right_after_a_drain() {
    let mut path = Path::new(1.5e6, 500.0);
    path.rates = vec![(0, 1.5e6), (20_000, 0.6e6)];
    for seed in 1..=9 {
        let mut flows = [Flow::new(0, 2_700_000.0)];
        let begun = Instant::now();
        simulate(&path, &mut flows, 22_000, seed);
        let at = |(sent, ..): &&(Instant, u32, Option<f64>)| {
            sent.saturating_duration_since(begun) >= Duration::from_millis(20_100)
        };
        let probes = flows[0].sent.iter().filter(at).filter(|(_, bytes, _)| *bytes == PROBE_BYTES);
        assert_eq!(probes.count(), 0, "seed {seed}");
    }
}

#[test]
fn loss_that_the_rate_does_not_change_does_not_change_the_rate() {
    for (loss, burst, delay, least) in [
        (0.03, 1.0, 25, 2_450.0),
        (0.1, 1.0, 25, 2_200.0),
        (0.2, 1.0, 25, 1_900.0),
        (0.1, 4.0, 75, 2_000.0),
        (0.3, 4.0, 25, 1_500.0),
    ] {
        let mut path = Path::new(100e6, 300.0);
        (path.loss, path.burst, path.delay_ms) = (loss, burst, delay);
        let flow = one(&path, 30_000);
        let name = format!("loss {loss} in bursts of {burst}");
        assert_steady(&name, &flow, 0, 30_000, least, delay + 35);
    }
}

#[test]
fn loss_of_a_queue_too_short_for_the_delay_is_congestion() {
    let flow = one(&Path::new(1e6, 20.0), 30_000);
    assert_steady("20 ms queue", &flow, 0, 30_000, 780.0, 80);
    let lost = flow.sent.iter().filter(|(.., arrival)| arrival.is_none()).count();
    let share = lost as f64 / flow.sent.len() as f64;
    assert!(share < 0.06, "{share} lost");
}

#[test]
fn jitter_does_not_pass_for_congestion() {
    for keeps_order in [true, false] {
        let mut path = Path::new(100e6, 300.0);
        (path.jitter_ms, path.keeps_order) = (60.0, keeps_order);
        let flow = one(&path, 30_000);
        assert_steady("jitter", &flow, 0, 30_000, 1_500.0, 120);
        path.rates = vec![(0, 1e6)];
        let flow = one(&path, 30_000);
        assert_steady("jitter on 1 Mbps", &flow, 0, 30_000, 700.0, 260);
    }
}

#[test]
fn a_rate_that_changes_every_second_is_followed() {
    let mut path = Path::new(2e6, 300.0);
    path.rates =
        (0..30).map(|n| (n * 1000, [2e6, 1.2e6, 1.6e6, 0.8e6, 1.4e6][n as usize % 5])).collect();
    let flow = one(&path, 30_000);
    assert_steady("changing each second", &flow, 0, 30_000, 1_000.0, 200);
}

/// RFC 8867 §5.2 in short: somebody else takes half of the link for a while.
#[test]
fn cross_traffic_gets_its_share_and_gives_it_back() {
    let mut path = Path::new(2e6, 300.0);
    path.cross = Some((10_000, 20_000, 1e6));
    let flow = one(&path, 30_000);
    assert_steady("beside 1 Mbps", &flow, 12_000, 20_000, 800.0, 200);
    assert!(flow.rate_bps(26_000, 30_000) >= 1.7e6, "{}", flow.rate_bps(26_000, 30_000));
}

#[test]
fn a_blackout_and_lost_reports_cost_no_more_than_their_time() {
    let mut path = Path::new(2e6, 300.0);
    path.blackout = Some((10_000, 12_000));
    path.feedback_loss = 0.2;
    let flow = one(&path, 20_000);
    assert_steady("after a blackout", &flow, 12_300, 20_000, 1_700.0, 150);
}

/// RFC 8867 §5.4: flows with the same round trip that compete.
#[test]
fn two_flows_share_a_link() {
    for (start, seed) in [(13, 1), (13, 2), (5, 3), (10_000, 1), (10_000, 2)] {
        let mut flows = [Flow::new(0, 2_700_000.0), Flow::new(start, 2_700_000.0)];
        simulate(&Path::new(3e6, 300.0), &mut flows, 40_000, seed);
        let from = start.max(2_000) + 8_000;
        let rates = flows.each_ref().map(|f| f.rate_bps(from, 40_000));
        let total = rates[0] + rates[1];
        let share = rates[0].min(rates[1]) / total;
        println!("start {start}: {rates:?}, smaller share {share:.2}");
        // A flow that comes late gains on the other slowly.
        assert!(share >= if start > 1000 { 0.3 } else { 0.38 }, "{rates:?}");
        assert!(total >= 2.7e6, "{rates:?}");
    }
}

#[test]
fn an_idle_encoder_does_not_keep_the_estimate_down() {
    // The path drops while little is sent; the estimate has to climb by probes alone.
    let limits = Limits { min_bps: 80_000.0, start_bps: 300_000.0, max_bps: 2_700_000.0 };
    let mut flow = Flow::new(0, 100_000.0);
    flow.estimator = Estimator::new(limits);
    let mut flows = [flow];
    simulate(&Path::new(100e6, 300.0), &mut flows, 30_000, 1);
    let target = flows[0].estimator.target_bps();
    assert!(target >= 1.5e6, "{target}");
    assert!(flows[0].rate_bps(10_000, 30_000) < 400_000.0, "{}", flows[0].rate_bps(10_000, 30_000));
}
