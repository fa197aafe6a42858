//! Known answers from the field layouts of the payload formats, and the way there and back through the
//! depacketizers.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use visavis_media::VideoCodec::{Av1, H264, Vp8, Vp9};
use visavis_media::depacketize::{CodedPicture, assemble, inspect};
use visavis_media::obu::leb128;

use super::*;

/// Of a keyframe of 640x360 (RFC 6386 §9.1).
const VP8_KEY: [u8; 10] = [0x50, 1, 2, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
/// Of a keyframe of 640x360 (VP9 bitstream specification §6.2).
const VP9_KEY: [u8; 9] = [0x82, 0x49, 0x83, 0x42, 0x40, 0x27, 0xf0, 0x16, 0x70];

/// A frame that begins with `header`, `len` bytes in all.
fn frame(header: &[u8], len: usize) -> Bytes {
    let body = (header.len()..len).map(|i| (i % 251) as u8);
    header.iter().copied().chain(body).collect()
}

/// An OBU with its size; `layers` in its header.
fn obu(kind: u8, layers: Option<u8>, payload: &[u8]) -> Vec<u8> {
    let mut obu = vec![kind << 3 | 2 | u8::from(layers.is_some()) << 2];
    obu.extend(layers);
    obu.extend(leb128(payload.len()));
    obu.extend(payload);
    obu
}

fn put_together(codec: VideoCodec, payloads: &[Bytes]) -> CodedPicture {
    assemble(codec, payloads.iter().map(|p| &p[..]), &mut BytesMut::new()).unwrap()
}

/// All as long as the first one, but for the last, which is not longer.
fn equal_but_for_the_last(payloads: &[Bytes]) -> bool {
    payloads.split_last().is_none_or(|(last, others)| {
        others.iter().all(|p| p.len() == others[0].len())
            && others.first().is_none_or(|p| last.len() <= p.len())
    })
}

#[test]
fn vp8_descriptors_are_as_specified() {
    let mut packetizer = FramePacketizer::new(0xfffe);
    let key = frame(&VP8_KEY, 24);
    let payloads = packetizer.payloads(Vp8, &key, 16);
    assert_eq!(payloads.len(), 2);
    assert_eq!(payloads[0][..4], [0x90, 0x80, 0xff, 0xfe]);
    assert_eq!(payloads[0][4..], key[..12]);
    assert_eq!(payloads[1][..4], [0x80, 0x80, 0xff, 0xfe]);
    assert_eq!(payloads[1][4..], key[12..]);
    let inter = frame(&[0x51, 1, 2], 3);
    assert_eq!(packetizer.payloads(Vp8, &inter, 16), [&[0x90, 0x80, 0xff, 0xff, 0x51, 1, 2][..]]);
    // After the highest number comes 0.
    assert_eq!(packetizer.payloads(Vp8, &inter, 16)[0][2..4], [0x80, 0x00]);
}

#[test]
fn vp9_descriptors_are_as_specified() {
    let mut packetizer = FramePacketizer::new(0x0102);
    let key = frame(&VP9_KEY, 28);
    let payloads = packetizer.payloads(Vp9, &key, 16);
    let structure = [0x10, 0x02, 0x80, 0x01, 0x68];
    assert_eq!(payloads.len(), 3);
    // I F B V, I F, I F E.
    assert_eq!(payloads[0][..], [&[0x9a, 0x81, 0x02][..], &structure, &key[..6]].concat());
    assert_eq!(payloads[1][..], [&[0x90, 0x81, 0x02][..], &key[6..17]].concat());
    assert_eq!(payloads[2][..], [&[0x94, 0x81, 0x02][..], &key[17..]].concat());
    // I P F B E, referring to the picture before.
    let inter = frame(&[0x86], 2);
    assert_eq!(packetizer.payloads(Vp9, &inter, 16), [&[0xdc, 0x81, 0x03, 0x02, 0x86, 1][..]]);
}

#[test]
fn picture_ids_count_each_codecs_own_pictures() {
    let mut packetizer = FramePacketizer::new(5);
    let ids = |payloads: Vec<Bytes>, at: usize| payloads[0][at + 1];
    assert_eq!(ids(packetizer.payloads(Vp8, &frame(&VP8_KEY, 20), 100), 2), 5);
    assert_eq!(ids(packetizer.payloads(Vp9, &frame(&VP9_KEY, 20), 100), 1), 5);
    assert!(packetizer.payloads(Vp9, &Bytes::from_static(&[0]), 100).is_empty());
    assert_eq!(ids(packetizer.payloads(Vp9, &frame(&VP9_KEY, 20), 100), 1), 6);
    assert_eq!(ids(packetizer.payloads(Vp8, &frame(&VP8_KEY, 20), 100), 2), 6);
}

#[test]
fn av1_aggregation_headers_are_as_specified() {
    let mut packetizer = FramePacketizer::new(0);
    let mut send =
        |obus: &[Vec<u8>], max_len| packetizer.payloads(Av1, &obus.concat().into(), max_len);
    let (delimiter, sequence) = (obu(2, None, &[]), obu(1, None, &[7, 8]));
    // Sequence header and frame in one packet: W 2, N.
    let key = [delimiter.clone(), sequence.clone(), obu(6, None, &[1, 2, 3])];
    assert_eq!(send(&key, 100), [&[0x28, 3, 0x08, 7, 8, 0x30, 1, 2, 3][..]]);
    // A frame alone: W 1.
    let inter = [delimiter.clone(), obu(6, Some(0x20), &[1, 2])];
    assert_eq!(send(&inter, 100), [&[0x10, 0x34, 0x20, 1, 2][..]]);
    // Four elements: W 0, each with its size. Padding and tile lists are left out.
    let many = [obu(3, None, &[1]), obu(15, None, &[9; 9]), obu(4, None, &[2]), obu(8, None, &[1])];
    let many = [&many[..], &[obu(4, None, &[3]), obu(4, None, &[4])]].concat();
    assert_eq!(send(&many, 100), [&[0x00, 2, 0x18, 1, 2, 0x20, 2, 2, 0x20, 3, 2, 0x20, 4][..]]);
    // The frame does not fit: Y, Z Y and Z, equally long.
    let long = [sequence, obu(6, None, &[5; 30])];
    let payloads = send(&long, 16);
    assert_eq!(payloads.iter().map(|p| p[0]).collect::<Vec<_>>(), [0x68, 0xd0, 0x90]);
    assert_eq!(payloads[0][1..6], [3, 0x08, 7, 8, 0x30]);
    assert_eq!(payloads.iter().map(Bytes::len).collect::<Vec<_>>(), [13, 13, 12]);
    assert!(send(&[delimiter], 100).is_empty());
}

#[test]
fn what_cannot_be_read_is_not_sent() {
    let mut packetizer = FramePacketizer::new(0);
    let cases: [(VideoCodec, &[u8]); 9] = [
        (Vp8, &[]),
        (Vp8, &[0x51, 1]),
        (Vp8, &VP8_KEY[..9]),
        (Vp9, &[]),
        (Vp9, &[0x42]),
        (Vp9, &VP9_KEY[..8]),
        (Av1, &[]),
        (Av1, &[0x30, 1, 2]),          // no size
        (Av1, &[0x12, 0, 0x32, 3, 1]), // cut short
    ];
    for (codec, bytes) in cases {
        let payloads = packetizer.payloads(codec, &Bytes::copy_from_slice(bytes), 1000);
        assert!(payloads.is_empty(), "{codec} {bytes:?}");
    }
    // 65,536 pixels cannot be said in 16 bits.
    let wide = [0x82, 0x49, 0x83, 0x42, 0x4f, 0xff, 0xf0, 0x16, 0x70];
    assert!(packetizer.payloads(Vp9, &frame(&wide, 20), 1000).is_empty());
}

/// Types and payloads of OBUs: what is sent and what is left out.
fn obus() -> impl Strategy<Value = Vec<(u8, Option<u8>, Vec<u8>)>> {
    let kind = prop::sample::select(vec![2u8, 3, 4, 5, 6, 6, 7, 8, 15]);
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(any::<u8>(), 0..4000),
    ];
    prop::collection::vec((kind, prop::option::of(any::<u8>()), payload), 0..8)
}

proptest! {
    #[test]
    fn vp8_and_vp9_frames_come_back(len in 10usize..6000, key: bool, max_len in 0usize..1300, first_id: u16) {
        let mut packetizer = FramePacketizer::new(first_id);
        for (codec, header) in [
            (Vp8, if key { &VP8_KEY[..] } else { &[0x51] }),
            (Vp9, if key { &VP9_KEY[..] } else { &[0x86] }),
        ] {
            let frame = frame(header, len);
            let payloads = packetizer.payloads(codec, &frame, max_len);
            prop_assert!(payloads.iter().all(|p| p.len() <= max_len.max(MIN_PAYLOAD)));
            prop_assert!(equal_but_for_the_last(&payloads));
            for (index, payload) in payloads.iter().enumerate() {
                let info = inspect(codec, payload).unwrap();
                prop_assert_eq!(info.leads_picture, index == 0);
                prop_assert_eq!(info.keyframe, index == 0 && key);
                prop_assert_eq!(info.idr, index == 0 && key);
            }
            let picture = put_together(codec, &payloads);
            prop_assert_eq!(picture.keyframe, key);
            prop_assert!(picture.data == frame);
        }
    }

    #[test]
    fn av1_temporal_units_come_back(obus in obus(), key: bool, max_len in 0usize..1300) {
        let sequence = key.then(|| (1, None, vec![3; 11]));
        let obus: Vec<_> = sequence.into_iter().chain(obus).collect();
        let stream = |wanted: fn(u8) -> bool| -> Bytes {
            obus.iter().filter(|o| wanted(o.0)).flat_map(|(k, l, p)| obu(*k, *l, p)).collect()
        };
        let (unit, expected) = (stream(|_| true), stream(|kind| (1..8).contains(&kind) && kind != 2));
        let payloads = FramePacketizer::new(0).payloads(Av1, &unit, max_len);
        prop_assert!(payloads.iter().all(|p| p.len() <= max_len.max(MIN_PAYLOAD)));
        for (index, payload) in payloads.iter().enumerate() {
            let info = inspect(Av1, payload).unwrap();
            prop_assert_eq!(info.leads_picture, index == 0 && key);
            prop_assert_eq!(info.keyframe, index == 0 && key);
            prop_assert_eq!(info.idr, index == 0 && key);
        }
        let picture = put_together(Av1, &payloads);
        prop_assert_eq!(picture.keyframe, key);
        prop_assert!(picture.data == expected);
    }

    #[test]
    fn usual_av1_temporal_units_fill_their_packets(len in 1usize..20_000, key: bool, max_len in 64usize..1300) {
        let sequence = if key { obu(1, None, &[3; 11]) } else { Vec::new() };
        let unit: Bytes = [sequence, obu(6, None, &vec![5; len])].concat().into();
        let payloads = FramePacketizer::new(0).payloads(Av1, &unit, max_len);
        prop_assert!(equal_but_for_the_last(&payloads));
        let sent = len + 1 + if key { 13 } else { 0 };
        prop_assert_eq!(payloads.len(), sent.div_ceil(max_len - 1));
    }

    #[test]
    fn h264_access_units_come_back(slice in prop::collection::vec(2u8.., 1..4000), key: bool, max_len in 0usize..1300) {
        let mut unit = Vec::new();
        let parameter_sets: &[&[u8]] = if key { &[&[0x67, 1, 2, 3], &[0x68, 4]] } else { &[] };
        let slice = [&[if key { 0x65 } else { 0x61 }], &slice[..]].concat();
        for nal in parameter_sets.iter().copied().chain([&slice[..]]) {
            unit.extend([0, 0, 0, 1]);
            unit.extend(nal);
        }
        let unit = Bytes::from(unit);
        let payloads = FramePacketizer::new(0).payloads(H264, &unit, max_len);
        prop_assert!(payloads.iter().all(|p| inspect(H264, p).is_some()));
        let picture = put_together(H264, &payloads);
        prop_assert_eq!(picture.keyframe, key);
        prop_assert!(picture.data == unit);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), header in 0usize..5, max_len: usize) {
        let header = [&[][..], &VP8_KEY, &VP9_KEY, &[0x12, 0], &[0x0a, 1, 2, 0x32]][header];
        let frame: Bytes = [header, &bytes].concat().into();
        let mut packetizer = FramePacketizer::new(0);
        for codec in VideoCodec::ALL {
            for max_len in [max_len, max_len % 40] {
                let payloads = packetizer.payloads(codec, &frame, max_len);
                prop_assert!(payloads.iter().all(|p| p.len() <= max_len.max(MIN_PAYLOAD)));
                for payload in payloads {
                    let _ = inspect(codec, &payload);
                }
            }
        }
    }
}
