#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use rtc::rtp;

use super::receiver::Repair;
use super::*;

fn picture(first: u16, sizes: &[usize]) -> Vec<rtp::Packet> {
    (0..)
        .zip(sizes)
        .map(|(n, size)| rtp::Packet {
            header: rtp::Header {
                version: 2,
                sequence_number: first.wrapping_add(n),
                timestamp: 9000,
                marker: usize::from(n) + 1 == sizes.len(),
                ..Default::default()
            },
            payload: Bytes::from(
                (0..*size).map(|i| (i as u16 ^ (n * 77)) as u8).collect::<Vec<_>>(),
            ),
        })
        .collect()
}

fn parity(part: &[rtp::Packet], count: u8) -> Vec<rtp::Packet> {
    let longest = part.iter().map(|p| p.payload.len()).max().unwrap();
    (0..count)
        .map(|index| {
            let mut data = vec![0; BLOCK_HEADER_BYTES + longest];
            for (n, packet) in (0..).zip(part) {
                accumulate(&mut data, index, packet, n);
            }
            let header = Header {
                first_sequence: part[0].header.sequence_number,
                blocks: part.len() as u8,
                index,
            };
            let payload = [&header.write()[..], &data].concat();
            rtp::Packet {
                header: rtp::Header { version: 2, timestamp: 9000, ..Default::default() },
                payload: payload.into(),
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn lost_packets_come_back_as_they_were(
        sizes in prop::collection::vec(1usize..1162, 1..24),
        first: u16,
        lost in prop::collection::vec(any::<bool>(), 24),
    ) {
        let picture = picture(first, &sizes);
        let parity = parity(&picture, 6);
        let mut repair = Repair::default();
        let mut found = Vec::new();
        let missing: Vec<_> = picture.iter().zip(&lost).filter(|(_, l)| **l).map(|(p, _)| p.clone()).collect();
        for (packet, _) in picture.iter().zip(&lost).filter(|(_, l)| !**l) {
            found.extend(repair.on_media(packet));
        }
        for packet in &parity {
            found.extend(repair.on_parity(packet));
        }
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
    let picture = picture(65_530, &[1000; 10]);
    let parity = parity(&picture, 2);
    let mut repair = Repair::default();
    for packet in &picture[3..] {
        assert!(repair.on_media(packet).is_empty());
    }
    assert!(parity.iter().all(|p| repair.on_parity(p).is_empty()));
    assert_eq!(repair.on_media(&picture[1]), [picture[0].clone(), picture[2].clone()]);
}
