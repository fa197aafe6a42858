#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn check() -> Request {
    Request {
        transaction: 0x0102_0304_0506_0708_090a_0b0c,
        username: "ours:theirs".into(),
        priority: 1_845_501_695,
        role: Some((Role::Controlling, 7)),
        use_candidate: true,
        nomination: Some(3),
    }
}

fn key() -> Key {
    Key::new("a password of 22 chars")
}

#[test]
fn a_check_is_read_as_it_was_written() {
    for role in [Some((Role::Controlling, u64::MAX)), Some((Role::Controlled, 0)), None] {
        let wanted = Request { role, ..check() };
        let bytes = request(&wanted, &key()).unwrap();
        let parsed = Parsed::read(&bytes).unwrap();
        assert_eq!(parsed.kind(), Kind::Request);
        assert!(parsed.is_signed_by(&key()) && !parsed.is_signed_by(&Key::new("another one")));
        assert_eq!(parsed.request(), Some(wanted));
        assert_eq!(parsed.username(), Some(("ours".into(), "theirs".into())));
        assert!(parsed.unknown_attributes().is_empty());
    }
}

/// RFC 5769 §2.1: a request with ICE attributes of another implementation.
#[test]
fn the_sample_request_of_rfc_5769_is_read() {
    let bytes: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\
        \x00\x24\x00\x04\x6e\x00\x01\xff\
        \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    let parsed = Parsed::read(bytes).unwrap();
    assert!(parsed.is_signed_by(&Key::new("VOkJxbRl1RmTxUk/WvJxBt")));
    let request = parsed.request().unwrap();
    assert_eq!(request.username, "evtj:h6vY");
    assert_eq!(request.priority, 0x6e00_01ff);
    assert_eq!(request.role, Some((Role::Controlled, 0x932f_f9b1_5126_3b36)));
}

#[test]
fn answers_carry_the_mapped_address_or_the_code() {
    for mapped in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
        let mapped = mapped.parse().unwrap();
        let bytes = success(5, mapped, &key()).unwrap();
        let parsed = Parsed::read(&bytes).unwrap();
        assert!(parsed.is_signed_by(&key()));
        assert_eq!((parsed.transaction(), parsed.kind()), (5, Kind::Success(Some(mapped))));
    }
    let bytes = error(6, ROLE_CONFLICT, &[], &key()).unwrap();
    let parsed = Parsed::read(&bytes).unwrap();
    assert!(parsed.is_signed_by(&key()));
    assert_eq!(parsed.kind(), Kind::Error(487));
    error(6, UNKNOWN_ATTRIBUTE, &[0x7000], &key()).unwrap();
}

#[test]
fn a_message_without_integrity_is_signed_by_nobody() {
    let bytes = server_request(1).unwrap();
    assert!(!Parsed::read(&bytes).unwrap().is_signed_by(&key()));
}

/// RFC 8489 §14.5.
#[test]
fn what_follows_the_signature_is_not_read() {
    let wanted = Request { use_candidate: false, nomination: None, ..check() };
    let mut bytes = request(&wanted, &key()).unwrap();
    bytes.truncate(bytes.len() - 8);
    let signature = bytes[bytes.len() - 24..].to_vec();
    for more in [&[0, 0x25, 0, 0][..], &[0xc0, 1, 0, 4, 0, 0, 0, 9], &signature] {
        let mut longer = [&bytes[..], more].concat();
        let length = (longer.len() - 20) as u16;
        longer[2..4].copy_from_slice(&length.to_be_bytes());
        let parsed = Parsed::read(&longer).unwrap();
        if parsed.is_signed_by(&key()) {
            assert_eq!(parsed.request(), Some(wanted.clone()));
        }
    }
}

#[test]
fn what_is_no_whole_binding_message_is_not_read() {
    let bytes = request(&check(), &key()).unwrap();
    for end in 0..bytes.len() {
        assert!(Parsed::read(&bytes[..end]).is_none(), "{end}");
    }
    assert!(Parsed::read(&[&bytes[..], &[0; 4]].concat()).is_none());
    let mut other_method = server_request(1).unwrap();
    other_method.truncate(20);
    other_method[1] = 3;
    other_method[3] = 0;
    assert!(Parsed::read(&other_method).is_none());
}

proptest! {
    #[test]
    fn a_changed_byte_breaks_integrity(at in any::<prop::sample::Index>(), by in 1..=255u8) {
        let mut bytes = request(&check(), &key()).unwrap();
        // Without the fingerprint, which would find it first.
        bytes.truncate(bytes.len() - 8);
        bytes[3] -= 8;
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        if let Some(parsed) = Parsed::read(&bytes) {
            prop_assert!(!parsed.is_signed_by(&key()));
        }
    }

    #[test]
    fn any_attributes_are_survived(
        class in prop::sample::select(vec![0x0001u16, 0x0011, 0x0101, 0x0111]),
        attributes in prop::collection::vec(
            (
                prop_oneof![
                    prop::sample::select(vec![
                        0x0006u16, 0x0008, 0x0009, 0x001c, 0x0020, 0x0024, 0x0025, 0x8028, 0x8029, 0x802a, 0xc001,
                    ]),
                    any::<u16>(),
                ],
                prop::collection::vec(any::<u8>(), 0..36),
            ),
            0..12,
        ),
        cut in 0..8usize,
    ) {
        let mut bytes = vec![0; 20];
        bytes[..2].copy_from_slice(&class.to_be_bytes());
        bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        for (kind, value) in attributes {
            bytes.extend(kind.to_be_bytes());
            bytes.extend((value.len() as u16).to_be_bytes());
            bytes.extend(&value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.truncate(bytes.len() - (cut & !3).min(bytes.len() - 20));
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        if let Some(parsed) = Parsed::read(&bytes) {
            let _ = parsed.is_signed_by(&key());
            let _ = (parsed.kind(), parsed.username(), parsed.request(), parsed.unknown_attributes());
        }
    }
}
