#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const RTT: Option<Duration> = Some(Duration::from_millis(40));

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn reordering_within_the_wait_asks_for_nothing() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 10, false);
    gaps.on_packet(start + ms(1), 12, false);
    gaps.on_packet(start + ms(3), 11, false);
    assert_eq!(gaps.deadline(RTT), None);
    assert!(gaps.due(start + ms(100), RTT).is_empty());
}

#[test]
fn a_gap_is_asked_for_after_the_wait_and_then_once_a_round_trip() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 65_534, false);
    gaps.on_packet(start, 1, false);
    assert!(gaps.due(start + ms(3), RTT).is_empty());
    assert_eq!(gaps.due(start + REORDER_WAIT, RTT), vec![65_535, 0]);
    let mut requests = 0;
    let mut now = start + REORDER_WAIT;
    while now < start + ms(204) {
        now += ms(1);
        requests += gaps.due(now, RTT).len();
    }
    // 200 ms at one request every 50 ms (a round trip and a quarter), two packets.
    assert_eq!(requests, 8);
}

#[test]
fn a_retransmission_fills_its_gap() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 1, false);
    gaps.on_packet(start, 3, false);
    assert_eq!(gaps.due(start + ms(5), RTT), vec![2]);
    gaps.on_packet(start + ms(35), 2, true);
    assert!(gaps.due(start + ms(500), RTT).is_empty());
    assert_eq!(gaps.deadline(RTT), None);
}

#[test]
fn what_was_lost_before_the_first_packet_that_came_is_asked_for() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 2, false);
    gaps.begins_within(start);
    let asked = gaps.due(start + ms(5), RTT);
    assert_eq!(asked.len(), MAX_BEFORE_FIRST as usize);
    assert!(asked.ends_with(&[65_535, 0, 1]), "{asked:?}");
    let mut stubborn = gaps.clone();
    let later = (1..50).map(|n| stubborn.due(start + ms(5 + 20 * n), RTT).len());
    assert_eq!(later.sum::<usize>(), 2 * asked.len());
    // The picture began with 0: there is nothing before it.
    gaps.on_packet(start + ms(35), 0, true);
    gaps.picture_begins(0);
    assert_eq!(gaps.due(start + ms(100), RTT), vec![1]);
}

#[test]
fn a_picture_that_begins_anew_needs_nothing_from_before_the_first_packet() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 100, false);
    gaps.begins_within(start);
    gaps.on_packet(start, 102, false);
    gaps.on_packet(start, 103, false);
    gaps.picture_begins(103);
    assert_eq!(gaps.due(start + ms(5), RTT), vec![101]);
}

#[test]
fn the_round_trip_is_learnt_from_answers() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 1, false);
    gaps.on_packet(start, 3, false);
    assert_eq!(gaps.due(start + ms(4), None), vec![2]);
    gaps.on_packet(start + ms(204), 2, true);
    gaps.on_packet(start + ms(300), 5, false);
    assert_eq!(gaps.due(start + ms(304), None), vec![4]);
    assert!(gaps.due(start + ms(304 + 249), None).is_empty());
    assert_eq!(gaps.due(start + ms(304 + 250), None), vec![4]);
}

#[test]
fn requests_for_one_packet_end() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 1, false);
    gaps.on_packet(start, 3, false);
    let mut requests = 0;
    for step in 0..10_000 {
        requests += gaps.due(start + ms(step), Some(ms(1))).len();
    }
    assert_eq!(requests, usize::from(MAX_REQUESTS));
    assert_eq!(gaps.deadline(Some(ms(1))), None);

    let slow = Some(ms(2000));
    gaps.on_packet(start + ms(10_000), 5, false);
    let mut requests = 0;
    for step in 10_000..20_000 {
        requests += gaps.due(start + ms(step), slow).len();
    }
    assert_eq!(requests, 2, "at 500 ms a request, one second allows two");
}

#[test]
fn a_new_start_of_the_stream_is_not_loss() {
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    gaps.on_packet(start, 1, false);
    gaps.on_packet(start, 3, false);
    gaps.on_packet(start, 20_000, false);
    assert!(gaps.due(start + ms(50), RTT).is_empty());
}

#[test]
fn three_percent_loss_costs_about_one_request_a_loss() {
    // A line that loses every 33rd packet and every 33rd retransmission, 30 ms round trip.
    let start = Instant::now();
    let mut gaps = GapTracker::default();
    let mut in_flight: Vec<(Instant, u16)> = Vec::new();
    let (mut losses, mut requests) = (0, 0);
    let mut lottery = 0u32;
    let mut lost = move || {
        lottery = lottery.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        lottery >> 16 < 65_536 * 3 / 100
    };
    for sequence in 0..3384u32 {
        let now = start + ms(u64::from(sequence) * 3);
        if lost() {
            losses += 1;
        } else {
            gaps.on_packet(now, sequence as u16, false);
        }
        in_flight.retain(|(at, repaired)| {
            let arrived = *at <= now;
            if arrived {
                gaps.on_packet(now, *repaired, true);
            }
            !arrived
        });
        for wanted in gaps.due(now, Some(ms(30))) {
            requests += 1;
            if !lost() {
                in_flight.push((now + ms(30), wanted));
            }
        }
    }
    assert!(losses > 50, "{losses}");
    assert!(requests <= losses + losses / 10, "{requests} requests for {losses} losses");
}

proptest! {
    #[test]
    fn any_order_of_packets_stays_bounded(
        packets in prop::collection::vec((any::<u16>(), any::<bool>(), 0u64..50), 0..400)
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut gaps = GapTracker::default();
        for (sequence, retransmitted, wait) in packets {
            now += ms(wait);
            gaps.on_packet(now, sequence, retransmitted);
            let due = gaps.due(now, RTT);
            prop_assert!(due.len() <= MAX_MISSING);
            prop_assert!(gaps.missing.len() <= MAX_MISSING);
        }
        prop_assert!(gaps.due(now + MAX_AGE + MAX_RETRY, RTT).is_empty());
        prop_assert_eq!(gaps.deadline(RTT), None);
    }

    #[test]
    fn unwrapping_stays_next_to_the_reference(reference in 0x1_0000u64.., sequence: u16) {
        prop_assume!(reference < u64::MAX - 0x1_0000);
        let unwrapped = unwrap(reference, sequence);
        prop_assert_eq!(unwrapped as u16, sequence);
        prop_assert!(unwrapped.abs_diff(reference) <= 0x8000);
    }
}
