//! From what a call left behind to the figures of a row: the same arithmetic for both systems.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Case, Extra, Outcome, Picture, Sound};
use crate::link::{Recording, StreamKind};

/// Figures by name. What is unknown is absent.
pub type Figures = BTreeMap<String, f64>;

/// A queue below this is settled.
const SETTLED: Duration = Duration::from_millis(100);
/// What is calm has to stay so for this long.
const HOLD: Duration = Duration::from_secs(1);
/// The tone is at -15 dBFS; what conceals a gap fades out long before 2 s.
const SOUND_DBFS: f64 = -35.0;
/// Latency is normal again at its median before plus this, ms.
const NORMAL_MARGIN_MS: f64 = 30.0;

/// The figures of one measurement. `recording` is that of the impaired direction, `begun_ms` the
/// beginning of its schedule in Unix time.
#[expect(clippy::cast_precision_loss, reason = "counts of a call")]
pub fn figures(case: &Case, outcomes: &[Outcome], recording: &Recording, begun_ms: f64) -> Figures {
    let mut out = Figures::new();
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    // Of several calls, the one that is worse off; what adds up is added.
    let worst = |pick: fn(&Outcome) -> Option<f64>, most: fn(f64, f64) -> f64| {
        outcomes.iter().map(pick).collect::<Option<Vec<_>>>()?.into_iter().reduce(most)
    };
    put("fps", worst(|o| o.fps, f64::min));
    put("latency_p50_ms", worst(|o| percentile(&o.pictures, 0.5), f64::max));
    put("latency_p95_ms", worst(|o| percentile(&o.pictures, 0.95), f64::max));
    put("frozen_s", worst(|o| o.frozen_s, f64::max));
    put("concealed_percent", worst(|o| o.concealed.map(|c| c * 100.0), f64::max));
    let seconds = case.duration.as_secs_f64();
    let kbps = |bytes: u64| bytes as f64 * 8e-3 / seconds;
    put("sent_kbps", Some(kbps(recording.payload_bytes(StreamKind::Video))));
    let wire = recording.record.bins.iter().map(|bin| bin.offered_bytes).sum();
    put("wire_kbps", Some(kbps(wire)));
    put("retransmitted", worst(|o| o.retransmitted_packets, |a, b| a + b));
    put("lost", Some(recording.dropped_packets(StreamKind::Video) as f64));
    put("height_px", worst(|o| usual_height(&o.pictures), f64::min));
    put("cpu_s", worst(|o| o.cpu_s, |a, b| a + b));
    let queue = recording.record.bins.iter().map(|bin| bin.queue_delay_max_us).max();
    put("queue_max_ms", queue.map(|us| us as f64 / 1e3));

    let in_seconds = |d: Duration| d.as_secs_f64();
    match case.extra {
        Extra::None => {}
        Extra::Steps { bps, drop, rise } => {
            let before = recording.record.delivered_bps(drop / 2, drop);
            put("rate_before_kbps", Some(before / 1e3));
            // What never had the rate cannot get it back.
            let had_it = before >= bps / 2.0;
            let back = recording.record.rate_reached_after(rise, 0.9 * before).filter(|_| had_it);
            put("rate_back_s", back.map(in_seconds));
            let settled = recording.record.settled_after(drop, SETTLED, HOLD);
            put("settled_s", settled.map(in_seconds));
        }
        Extra::Blackout { from, until } => {
            let at = |d: Duration| begun_ms + d.as_secs_f64() * 1e3;
            let (from_ms, until_ms) = (at(from), at(until));
            if let Some(o) = outcomes.first() {
                put("picture_back_ms", picture_back(&o.pictures, until_ms));
                put("sound_back_ms", sound_back(&o.sounds, from_ms, until_ms));
                put("latency_normal_ms", latency_normal(&o.pictures, from_ms, until_ms));
            }
        }
        Extra::StartUp => {
            let second = Duration::from_secs(1);
            let kbps = |n: u32| {
                recording.offered_bps(StreamKind::Video, second * n, second * (n + 1)) / 1e3
            };
            put("first_second_kbps", Some(kbps(0)));
            put("second_second_kbps", Some(kbps(1)));
            put("third_second_kbps", Some(kbps(2)));
        }
        Extra::Speech => put("stoi", outcomes.first().and_then(|o| o.stoi)),
        // Measured in calls of its own.
        Extra::LipSync => {}
        Extra::Fairness => put("smaller_share_percent", smaller_share(recording)),
    }
    out
}

/// A quantile of the latencies that are known, ms.
pub fn percentile(pictures: &[Picture], quantile: f64) -> Option<f64> {
    let mut all: Vec<f64> = pictures.iter().filter_map(|p| p.latency_ms).collect();
    all.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let rank = (all.len() as f64 * quantile) as usize;
    all.get(rank.min(all.len().checked_sub(1)?)).copied()
}

/// The height that most pictures had.
fn usual_height(pictures: &[Picture]) -> Option<f64> {
    let mut counts = BTreeMap::<u32, usize>::new();
    for picture in pictures {
        *counts.entry(picture.height_px).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(height, _)| f64::from(height))
}

/// From the end of a blackout to the first picture.
fn picture_back(pictures: &[Picture], until_ms: f64) -> Option<f64> {
    pictures.iter().map(|p| p.unix_ms - until_ms).find(|ms| *ms > 0.0)
}

/// From the end of a blackout to the first sound; `None` also if it never stopped.
fn sound_back(sounds: &[Sound], from_ms: f64, until_ms: f64) -> Option<f64> {
    let within = |s: &&Sound| s.unix_ms > from_ms && s.unix_ms < until_ms;
    sounds.iter().filter(within).find(|s| s.level_dbfs < SOUND_DBFS)?;
    let after = sounds.iter().filter(|s| s.unix_ms > until_ms);
    after.filter(|s| s.level_dbfs >= SOUND_DBFS).map(|s| s.unix_ms - until_ms).next()
}

/// From the end of a blackout to the first picture as fresh as before it, nine tenths of those of the
/// second behind it ([`HOLD`]) being so, too. As fresh: within the 95th percentile or 30 ms over the
/// median, whichever is more.
fn latency_normal(pictures: &[Picture], from_ms: f64, until_ms: f64) -> Option<f64> {
    let split = pictures.partition_point(|p| p.unix_ms < from_ms);
    let before = &pictures[..split];
    let limit = (percentile(before, 0.5)? + NORMAL_MARGIN_MS).max(percentile(before, 0.95)?);
    let is_fresh = |p: &Picture| p.latency_ms.is_none_or(|l| l <= limit);
    let after: Vec<&Picture> = pictures.iter().filter(|p| p.unix_ms > until_ms).collect();
    let hold = HOLD.as_secs_f64() * 1e3;
    (0..after.len()).find_map(|i| {
        let begin = after[i].unix_ms;
        let held: Vec<_> = after[i..].iter().take_while(|p| p.unix_ms < begin + hold).collect();
        let fresh = held.iter().filter(|p| is_fresh(p)).count();
        let complete = after.last().is_some_and(|p| p.unix_ms >= begin + hold);
        let calm = is_fresh(after[i]) && fresh * 10 >= held.len() * 9;
        (calm && complete).then_some(begin - until_ms)
    })
}

/// What the weaker of two calls got of all that was delivered, by pairs of ports.
#[expect(clippy::cast_precision_loss, reason = "bytes of a call")]
fn smaller_share(recording: &Recording) -> Option<f64> {
    let mut calls = BTreeMap::<(u16, u16), u64>::new();
    for (name, flow) in recording.names.iter().zip(&recording.record.flows) {
        *calls.entry(name.ports).or_default() += flow.delivered_bytes;
    }
    let mut bytes: Vec<u64> = calls.into_values().collect();
    bytes.sort_unstable();
    let (most, second) = (bytes.pop()?, bytes.pop()?);
    Some(100.0 * second as f64 / (most + second) as f64)
}

/// The median of each figure that all seeds have; one that a seed lacks is absent, for what never
/// came about has no time. `seeds` counts them.
pub fn medians(seeds: &[Figures]) -> Figures {
    let Some(first) = seeds.first() else { return Figures::new() };
    let median = |name: &String| {
        let mut values = seeds.iter().map(|s| s.get(name).copied()).collect::<Option<Vec<_>>>()?;
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some((name.clone(), f64::midpoint(*low, *high)))
    };
    let mut out: Figures = first.keys().filter_map(median).collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    out.insert("seeds".to_owned(), seeds.len() as f64);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pictures(times: impl Iterator<Item = (u32, f64)>) -> Vec<Picture> {
        times
            .map(|(ms, latency)| Picture {
                unix_ms: f64::from(ms),
                latency_ms: Some(latency),
                height_px: 720,
            })
            .collect()
    }

    #[test]
    fn a_blackout_is_read_from_the_series() {
        // Normal 60 ms; nothing from 1000 to 3080; late until 3400.
        let times = (0..200u32).map(|n| n * 33).filter(|ms| !(1000..3080).contains(ms));
        let late = |ms: u32| if (3000..3400).contains(&ms) { 300.0 } else { 60.0 };
        let series = pictures(times.map(|ms| (ms, late(ms))));
        assert_eq!(picture_back(&series, 3000.0), Some(102.0));
        let normal = latency_normal(&series, 1000.0, 3000.0).unwrap();
        assert!((400.0..440.0).contains(&normal), "{normal}");
        let sounds: Vec<Sound> = (0..600)
            .map(|n| Sound {
                unix_ms: f64::from(n * 10),
                level_dbfs: if (110..305).contains(&n) { -90.0 } else { -15.0 },
                made_up: false,
            })
            .collect();
        assert_eq!(sound_back(&sounds, 1000.0, 3000.0), Some(50.0));
        // A tone that never stopped was not cut off: the blackout did not happen.
        assert_eq!(sound_back(&sounds[..100], 0.0, 500.0), None);
    }

    #[test]
    fn latency_that_stays_high_never_is_normal() {
        let series = pictures((0..200).map(|n| (n * 33, if n > 90 { 200.0 } else { 60.0 })));
        assert_eq!(latency_normal(&series, 1000.0, 3000.0), None);
    }

    #[test]
    fn medians_are_of_what_every_seed_has() {
        let named = |name: &str, v: f64| Figures::from([(name.to_owned(), v)]);
        let seeds: Vec<Figures> = [3.0, 1.0, 2.0].map(|v| named("fps", v)).into();
        let found = medians(&seeds);
        assert_eq!((found["fps"], found["seeds"], found.len()), (2.0, 3.0, 2));
        let mut lacking = seeds;
        lacking[0].insert("rate_back_s".to_owned(), 1.0);
        assert!(!medians(&lacking).contains_key("rate_back_s"));
    }
}
