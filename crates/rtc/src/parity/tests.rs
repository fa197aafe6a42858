#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use rtc::rtp;

use super::receiver::Repair;
use super::sender::Window;
use super::*;

fn picture(first: u16, timestamp: u32, sizes: &[usize]) -> Vec<rtp::Packet> {
    (0..)
        .zip(sizes)
        .map(|(n, size)| rtp::Packet {
            header: rtp::Header {
                version: 2,
                sequence_number: first.wrapping_add(n),
                timestamp,
                marker: usize::from(n) + 1 == sizes.len(),
                payload_type: 96 + u8::try_from(timestamp / 9000 % 2).unwrap(),
                ..Default::default()
            },
            payload: Bytes::from(
                (0..*size).map(|i| (i as u16 ^ (n * 77)) as u8).collect::<Vec<_>>(),
            ),
        })
        .collect()
}

/// What the sender makes of `picture` after what it has in `window`.
fn parity(window: &mut Window, picture: &[rtp::Packet], count: u16) -> Vec<rtp::Packet> {
    picture.iter().for_each(|packet| window.push(packet.clone()));
    let first = picture[0].header.sequence_number;
    (0..count).map(|n| window.parity(1, first.wrapping_mul(3).wrapping_add(n)).unwrap()).collect()
}

proptest! {
    #[test]
    fn lost_packets_come_back_as_they_were(
        sizes in prop::collection::vec(1usize..1162, 1..24),
        first: u16,
        lost in prop::collection::vec(any::<bool>(), 24),
    ) {
        let picture = picture(first, 9000, &sizes);
        let parity = parity(&mut Window::default(), &picture, 6);
        let mut repair = Repair::default();
        let mut found = Vec::new();
        let missing: Vec<_> = picture.iter().zip(&lost).filter(|(_, l)| **l).map(|(p, _)| p.clone()).collect();
        for (packet, _) in picture.iter().zip(&lost).filter(|(_, l)| !**l) {
            found.extend(repair.on_media(packet));
        }
        for packet in &parity {
            found.extend(repair.on_parity(packet));
        }
        found.sort_by_key(|p| p.header.sequence_number.wrapping_sub(first));
        if missing.len() <= 6 {
            prop_assert_eq!(found, missing);
        } else {
            prop_assert!(found.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_survived(packets in prop::collection::vec((any::<bool>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..60)) {
        let mut repair = Repair::default();
        for (is_parity, sequence_number, payload) in packets {
            let packet = rtp::Packet {
                header: rtp::Header { version: 2, sequence_number, ..Default::default() },
                payload: payload.into(),
            };
            if is_parity { repair.on_parity(&packet) } else { repair.on_media(&packet) };
        }
    }
}

#[test]
fn a_retransmission_completes_what_parity_alone_could_not() {
    let picture = picture(65_530, 9000, &[1000; 10]);
    let parity = parity(&mut Window::default(), &picture, 2);
    let mut repair = Repair::default();
    for packet in &picture[3..] {
        assert!(repair.on_media(packet).is_empty());
    }
    assert!(parity.iter().all(|p| repair.on_parity(p).is_empty()));
    assert_eq!(repair.on_media(&picture[1]), [picture[0].clone(), picture[2].clone()]);
}

#[test]
fn the_parity_of_the_next_picture_repairs_what_is_left_of_this_one() {
    let (this, next) = (picture(65_530, 9000, &[1000; 10]), picture(4, 12_000, &[700; 5]));
    let mut window = Window::default();
    let of_this = parity(&mut window, &this, 2);
    let of_next = parity(&mut window, &next, 2);
    let mut repair = Repair::default();
    // Four packets of this picture are lost, one of the next, and one of each one's parity.
    let arrived = this[..6].iter().chain(&next[1..]);
    assert!(arrived.into_iter().all(|p| repair.on_media(p).is_empty()));
    assert!(repair.on_parity(&of_this[0]).is_empty());
    assert!(of_next.iter().all(|p| repair.on_parity(p).is_empty()));
    assert!(repair.on_media(&next[0]).is_empty());
    let mut found = repair.on_parity(&of_this[1]);
    found.sort_by_key(|p| p.header.sequence_number.wrapping_add(10));
    assert_eq!(found, this[6..]);
}

#[test]
fn the_window_holds_three_pictures_of_one_run_of_numbers() {
    let mut window = Window::default();
    let first = |window: &Window| {
        Header::read(&window.parity(1, 0).unwrap().payload)
            .map(|(h, _)| (h.first_sequence, h.blocks))
    };
    for n in 0..4u16 {
        picture(n * 4, u32::from(n) * 3000, &[100; 4]).into_iter().for_each(|p| window.push(p));
    }
    assert_eq!(first(&window), Some((4, 12)));
    // Numbers that do not follow: another stream.
    window.push(picture(900, 0, &[100]).remove(0));
    assert_eq!(first(&window), Some((900, 1)));
    // A keyframe larger than the code.
    picture(901, 0, &[100; 300]).into_iter().for_each(|p| window.push(p));
    assert_eq!(first(&window), Some((901 + 300 - 128, 128)));
}

/// docs/protocol.md shows it.
#[test]
fn the_example_of_the_specification() {
    let mut window = Window::default();
    for (sequence_number, payload) in [(0, &[0x41, 0x9a, 0x01][..]), (1, &[0x41, 0x9b])] {
        let header = rtp::Header {
            sequence_number,
            timestamp: 9000,
            marker: sequence_number == 1,
            payload_type: 102,
            ..Default::default()
        };
        window.push(rtp::Packet { header, payload: Bytes::copy_from_slice(payload) });
    }
    let parity = |index| window.parity(1, index).unwrap().payload;
    assert_eq!(
        parity(0)[..],
        [0, 0, 2, 0, 0x55, 0x85, 0x80, 0x00, 0x00, 0xc4, 0x57, 0x65, 0x58, 0x1b]
    );
    assert_eq!(
        parity(1)[..],
        [0, 0, 2, 1, 0x01, 0xca, 0x80, 0x00, 0x00, 0xc4, 0x57, 0x65, 0x17, 0x54]
    );
}

#[test]
fn peers_with_another_version_of_the_blocks_use_none() {
    let announced = announce("v=0\r\nm=audio 9\r\n");
    assert!(is_announced(&announced));
    for other in ["104", "105/2", "104/3", "104/2/3"] {
        assert!(!is_announced(&announced.replace("104/2", other)), "{other}");
    }
}
