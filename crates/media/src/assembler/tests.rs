//! The assembler on virtual time, against a packetizer of its own.
#![allow(clippy::unwrap_used)]

use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;
use proptest::prelude::*;

const MTU: usize = 100;

fn at(ms: u64) -> MediaTime {
    MediaTime::from_micros(ms * 1000)
}

/// A picture's NAL unit of `len` bytes that says which picture it is.
fn nal(header: u8, index: usize, len: usize) -> Vec<u8> {
    let mut unit = vec![header];
    unit.extend((0..len).map(|i| u8::try_from((index + i) % 251).unwrap()));
    unit
}

struct Picture {
    packets: Vec<ReceivedRtp>,
    data: Vec<u8>,
    keyframe: bool,
}

/// Pictures as RFC 6184 packets from `first_sequence` on; every `keyframe_every`th is a keyframe.
fn pictures(count: usize, keyframe_every: usize, first_sequence: u16) -> Vec<Picture> {
    let mut sequence = first_sequence;
    (0..count)
        .map(|index| {
            let keyframe = index % keyframe_every == 0;
            let length = if keyframe { 450 } else { 30 + 70 * (index % 4) };
            let slice = nal(if keyframe { 0x65 } else { 0x61 }, index, length);
            let sets = [nal(0x67, index, 9), nal(0x68, index, 3)];
            let mut payloads = Vec::new();
            let mut data = Vec::new();
            if keyframe {
                let mut stap = vec![24];
                for set in &sets {
                    stap.extend(u16::try_from(set.len()).unwrap().to_be_bytes());
                    stap.extend(set);
                    data.extend([0, 0, 0, 1]);
                    data.extend(set);
                }
                payloads.push(stap);
            }
            data.extend([0, 0, 0, 1]);
            data.extend(&slice);
            if slice.len() - 1 <= MTU {
                payloads.push(slice);
            } else {
                let chunks: Vec<&[u8]> = slice[1..].chunks(MTU).collect();
                for (i, chunk) in chunks.iter().enumerate() {
                    let flags = if i == 0 {
                        0x80
                    } else if i + 1 == chunks.len() {
                        0x40
                    } else {
                        0
                    };
                    let mut fragment = vec![slice[0] & 0xe0 | 28, flags | slice[0] & 0x1f];
                    fragment.extend(*chunk);
                    payloads.push(fragment);
                }
            }
            let last = payloads.len() - 1;
            let packets = payloads
                .into_iter()
                .enumerate()
                .map(|(i, payload)| {
                    sequence = sequence.wrapping_add(1);
                    ReceivedRtp {
                        codec: Some(VideoCodec::H264),
                        sequence: sequence.wrapping_sub(1),
                        timestamp: u32::try_from(index).unwrap() * 3000,
                        marker: i == last,
                        payload: Bytes::from(payload),
                        arrival: at(33 * index as u64),
                        retransmitted: false,
                    }
                })
                .collect();
            Picture { packets, data, keyframe }
        })
        .collect()
}

fn feed(
    assembler: &mut FrameAssembler,
    packets: &[ReceivedRtp],
    now: MediaTime,
) -> Vec<AssemblerOutput> {
    let mut out = Vec::new();
    for packet in packets {
        assembler.push(packet.clone(), now);
        out.extend(std::iter::from_fn(|| assembler.poll(now)));
    }
    out
}

/// Stands for a picture's bytes, so that a failure is short to read.
fn digest(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

fn frame_data(outputs: &[AssemblerOutput]) -> Vec<u64> {
    outputs
        .iter()
        .filter_map(|o| match o {
            AssemblerOutput::Frame(f) => Some(digest(&f.data)),
            AssemblerOutput::NeedKeyframe => None,
        })
        .collect()
}

fn requests(outputs: &[AssemblerOutput]) -> usize {
    outputs.iter().filter(|o| matches!(o, AssemblerOutput::NeedKeyframe)).count()
}

#[test]
fn each_picture_goes_out_with_its_last_packet() {
    let mut assembler = FrameAssembler::new();
    // Across the wrap of the sequence number.
    for (index, picture) in pictures(40, 20, 65_500).iter().enumerate() {
        let (last, before) = picture.packets.split_last().unwrap();
        assert_eq!(feed(&mut assembler, before, at(0)), []);
        let out = feed(&mut assembler, std::slice::from_ref(last), at(1));
        let [AssemblerOutput::Frame(frame)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(frame.data, picture.data);
        assert_eq!(frame.keyframe, picture.keyframe);
        assert_eq!(frame.rtp_timestamp, u32::try_from(index).unwrap() * 3000);
        assert_eq!(frame.first_sequence, picture.packets[0].sequence);
        assert_eq!(frame.last_sequence, last.sequence);
        assert_eq!(assembler.next_deadline(), None);
    }
    assert_eq!(assembler.stats().frames, 40);
    assert_eq!(assembler.stats().keyframes, 2);
}

#[test]
fn a_stream_joined_midway_waits_for_a_keyframe_and_asks_again() {
    let all = pictures(30, 25, 100);
    let mut assembler = FrameAssembler::new();
    assembler.set_gap_deadline(Duration::from_millis(50));
    assert_eq!(feed(&mut assembler, &all[1].packets, at(0)), []);
    assert_eq!(assembler.next_deadline(), Some(at(50)));
    assert_eq!(assembler.poll(at(49)), None);
    assert_eq!(assembler.poll(at(50)), Some(AssemblerOutput::NeedKeyframe));
    assert_eq!(assembler.poll(at(51)), None);
    assert_eq!(feed(&mut assembler, &all[2].packets, at(100)), []);
    assert_eq!(assembler.poll(at(550)), Some(AssemblerOutput::NeedKeyframe));
    let out: Vec<_> =
        all[24..].iter().flat_map(|p| feed(&mut assembler, &p.packets, at(600))).collect();
    assert_eq!(frame_data(&out), all[25..].iter().map(|p| digest(&p.data)).collect::<Vec<_>>());
}

#[test]
fn a_gap_is_filled_by_a_retransmission_before_the_deadline() {
    let all = pictures(8, 100, 0);
    let mut assembler = FrameAssembler::new();
    assembler.set_gap_deadline(Duration::from_millis(80));
    let lost = all[3].packets[1].clone();
    let mut out = Vec::new();
    for (index, picture) in all.iter().enumerate() {
        let kept: Vec<_> =
            picture.packets.iter().filter(|p| p.sequence != lost.sequence).cloned().collect();
        out.extend(feed(&mut assembler, &kept, at(10 * index as u64)));
    }
    assert_eq!(frame_data(&out).len(), 3);
    assert!(assembler.next_deadline().is_some());
    out.extend(feed(&mut assembler, &[lost.clone(), lost], at(75)));
    assert_eq!(frame_data(&out), all.iter().map(|p| digest(&p.data)).collect::<Vec<_>>());
    assert_eq!(requests(&out), 0);
    assert_eq!(assembler.stats().late, 1);
    assert_eq!(assembler.next_deadline(), None);
}

#[test]
fn an_expired_gap_asks_for_a_keyframe_and_resumes_there() {
    let all = pictures(20, 10, 0);
    let mut assembler = FrameAssembler::new();
    assembler.set_gap_deadline(Duration::from_millis(80));
    let mut out = Vec::new();
    for picture in &all[..3] {
        out.extend(feed(&mut assembler, &picture.packets, at(0)));
    }
    // Picture 3 loses its first packet; the gap shows when its second one comes.
    let mut late = all[3].packets[1..].to_vec();
    late.iter_mut().for_each(|p| p.arrival = at(5));
    out.extend(feed(&mut assembler, &late, at(5)));
    assert_eq!(assembler.next_deadline(), Some(at(85)));
    assert_eq!(assembler.poll(at(84)), None);
    assert_eq!(assembler.poll(at(85)), Some(AssemblerOutput::NeedKeyframe));
    for picture in &all[4..10] {
        assert_eq!(feed(&mut assembler, &picture.packets, at(90)), []);
    }
    for picture in &all[10..] {
        out.extend(feed(&mut assembler, &picture.packets, at(100)));
    }
    let expected: Vec<_> = all[..3].iter().chain(&all[10..]).map(|p| digest(&p.data)).collect();
    assert_eq!(frame_data(&out), expected);
    assert_eq!(assembler.stats().gaps_given_up, 1);
}

#[test]
fn a_whole_keyframe_behind_a_gap_is_jumped_to_at_once() {
    let all = pictures(20, 10, 0);
    let mut assembler = FrameAssembler::new();
    let mut out = feed(&mut assembler, &all[0].packets, at(0));
    for picture in &all[2..] {
        out.extend(feed(&mut assembler, &picture.packets, at(1)));
    }
    let expected: Vec<_> = all[..1].iter().chain(&all[10..]).map(|p| digest(&p.data)).collect();
    assert_eq!(frame_data(&out), expected);
    assert_eq!(requests(&out), 0);
}

#[test]
fn a_keyframe_that_is_still_arriving_is_not_asked_for_again() {
    let all = pictures(2, 1, 0);
    let mut assembler = FrameAssembler::new();
    assembler.set_gap_deadline(Duration::from_millis(50));
    for (index, packet) in all[0].packets[..4].iter().enumerate() {
        let now = at(40 * index as u64);
        let packet = ReceivedRtp { arrival: now, ..packet.clone() };
        assert_eq!(feed(&mut assembler, &[packet], now), []);
    }
    assert_eq!(assembler.poll(at(169)), None);
    assert_eq!(assembler.poll(at(171)), Some(AssemblerOutput::NeedKeyframe));
}

#[test]
fn padding_between_pictures_and_a_missing_marker_do_not_stop_the_stream() {
    let mut all = pictures(4, 100, 10);
    let mut packets = Vec::new();
    all[1].packets.last_mut().unwrap().marker = false;
    for picture in &all {
        packets.extend(picture.packets.clone());
        if picture.packets[0].timestamp == 6000 {
            let last = packets.last().unwrap().clone();
            // With the payload type of a codec that was sent before.
            packets.extend([1, 2].map(|_| ReceivedRtp {
                codec: Some(VideoCodec::Vp8),
                payload: Bytes::new(),
                marker: false,
                ..last.clone()
            }));
        }
    }
    for (packet, sequence) in packets.iter_mut().zip(10..) {
        packet.sequence = sequence;
    }
    let mut assembler = FrameAssembler::new();
    let out = feed(&mut assembler, &packets, at(0));
    assert_eq!(frame_data(&out), all.iter().map(|p| digest(&p.data)).collect::<Vec<_>>());
    assert_eq!(assembler.next_deadline(), None);
}

#[test]
fn a_sender_that_begins_anew_is_followed_and_a_single_stray_is_not() {
    let (old, new) = (pictures(5, 100, 1000), pictures(5, 100, 40_000));
    let mut assembler = FrameAssembler::new();
    let mut out = Vec::new();
    for picture in &old[..4] {
        out.extend(feed(&mut assembler, &picture.packets, at(0)));
    }
    let stray = ReceivedRtp { sequence: 20_000, ..old[0].packets[0].clone() };
    out.extend(feed(&mut assembler, &[stray], at(0)));
    out.extend(feed(&mut assembler, &old[4].packets, at(0)));
    assert_eq!(frame_data(&out).len(), 5);
    // The first packet of the new stream goes as a stray; the keyframe after next is whole.
    for picture in &new {
        out.extend(feed(&mut assembler, &picture.packets, at(10)));
    }
    assert_eq!(assembler.stats().restarts, 1);
    out.extend(std::iter::from_fn(|| assembler.poll(at(1000))));
    assert_eq!(requests(&out), 1);
    for picture in pictures(3, 100, 40_100) {
        out.extend(feed(&mut assembler, &picture.packets, at(1100)));
    }
    assert_eq!(frame_data(&out).len(), 8);
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let mut assembler = FrameAssembler::new();
    for n in 0..20_000u16 {
        let packet = ReceivedRtp {
            codec: Some(VideoCodec::H264),
            sequence: n * 2,
            timestamp: n.into(),
            marker: false,
            payload: Bytes::from(vec![0x61; 9000]),
            arrival: at(0),
            retransmitted: false,
        };
        assembler.push(packet, at(0));
        while assembler.poll(at(0)).is_some() {}
        assert!(assembler.packets.len() <= MAX_PACKETS && assembler.buffered_bytes <= MAX_BYTES);
    }
}

#[test]
fn a_picture_the_decoder_refused_leads_to_a_request_and_a_fresh_start() {
    let all = pictures(6, 4, 0);
    let mut assembler = FrameAssembler::new();
    feed(&mut assembler, &all[0].packets, at(0));
    assembler.wait_for_keyframe(at(1));
    assert_eq!(assembler.poll(at(1)), Some(AssemblerOutput::NeedKeyframe));
    let out: Vec<_> =
        all[1..].iter().flat_map(|p| feed(&mut assembler, &p.packets, at(2))).collect();
    assert_eq!(frame_data(&out), all[4..].iter().map(|p| digest(&p.data)).collect::<Vec<_>>());
}

/// Packets in the order in which a network that delays each by up to `spread` packets delivers them.
fn reordered(packets: &[ReceivedRtp], delays: &[u8], spread: usize) -> Vec<ReceivedRtp> {
    let mut order: Vec<(usize, usize)> = (0..packets.len())
        .map(|i| (i + usize::from(delays[i % delays.len()]) % (spread + 1), i))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, i)| packets[i].clone()).collect()
}

proptest! {
    #[test]
    fn reordering_and_duplication_lose_nothing(
        delays in proptest::collection::vec(any::<u8>(), 1..60),
        spread in 0usize..40,
        duplicates in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
        first_sequence in any::<u16>(),
    ) {
        let all = pictures(40, 15, first_sequence);
        let packets: Vec<_> = all.iter().flat_map(|p| p.packets.clone()).collect();
        let mut sent = reordered(&packets, &delays, spread);
        for index in &duplicates {
            let at = index.index(sent.len());
            let copy = sent[at].clone();
            sent.insert(at, copy);
        }
        let mut assembler = FrameAssembler::new();
        let out = feed(&mut assembler, &sent, at(0));
        prop_assert_eq!(requests(&out), 0);
        // A keyframe that completes ahead of earlier packets is jumped to; nothing else is skipped.
        let got = frame_data(&out);
        let mut expected = all.iter().map(|p| digest(&p.data));
        for data in &got {
            prop_assert!(expected.any(|e| e == *data), "out of order or not a picture that was sent");
        }
        prop_assert_eq!(got.last(), Some(&digest(&all[39].data)));
    }

    #[test]
    fn with_losses_only_whole_decodable_runs_come_out(
        lost in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        delays in proptest::collection::vec(any::<u8>(), 1..40),
        spread in 0usize..10,
        first_sequence in any::<u16>(),
    ) {
        let all = pictures(60, 12, first_sequence);
        let packets: Vec<_> = all.iter().flat_map(|p| p.packets.clone()).collect();
        let gone: Vec<usize> = lost.iter().map(|i| i.index(packets.len())).collect();
        let kept: Vec<_> = packets.iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, p)| p.clone()).collect();
        let mut assembler = FrameAssembler::new();
        let mut last: Option<usize> = None;
        for packet in reordered(&kept, &delays, spread) {
            let now = packet.arrival;
            assembler.push(packet, now);
            while let Some(output) = assembler.poll(now) {
                if let AssemblerOutput::Frame(frame) = output {
                    let index = all.iter().position(|p| p.data == frame.data);
                    prop_assert!(index.is_some(), "a picture that was never sent");
                    let follows = last.is_some_and(|l| index == Some(l + 1));
                    prop_assert!(follows || frame.keyframe, "{last:?} then {index:?}");
                    prop_assert!(index > last);
                    last = index;
                }
            }
        }
    }

    #[test]
    fn arbitrary_packets_never_panic_and_stay_bounded(
        packets in proptest::collection::vec(
            (0u16..64, any::<bool>(), 0u32..4, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..12), 0u64..100),
            0..200,
        ),
    ) {
        let mut assembler = FrameAssembler::new();
        let mut now = 0;
        for (sequence, far, timestamp, marker, payload, step) in packets {
            now += step;
            let packet = ReceivedRtp {
                codec: Some(VideoCodec::H264),
                sequence: if far { sequence.wrapping_mul(1021) } else { sequence },
                timestamp,
                marker,
                payload: Bytes::from(payload),
                arrival: at(now),
                retransmitted: false,
            };
            assembler.push(packet, at(now));
            let mut outputs = 0;
            while assembler.poll(at(now)).is_some() {
                outputs += 1;
                prop_assert!(outputs < 1000, "poll does not end");
            }
        }
    }
}
