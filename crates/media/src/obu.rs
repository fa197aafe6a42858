//! The little of AV1 syntax that is read without a decoder: open bitstream units (AV1 specification §5.3) and
//! their sizes.

/// An open bitstream unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obu<'a> {
    /// obu_type, 0 to 15.
    pub kind: u8,
    /// Its first one or two bytes: the second one, if any, says to which layers it belongs.
    pub header: &'a [u8],
    /// Whether its size stood behind the header.
    pub has_size: bool,
    /// What comes after header and size.
    pub payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// The OBU that is all of `bytes`, whether or not it says its size.
    pub fn whole(bytes: &'a [u8]) -> Option<Self> {
        let (has_size, header, mut rest) = split_header(bytes)?;
        let valid = !has_size || read_leb128(&mut rest)? == rest.len();
        valid.then_some(Self { kind: kind(header[0])?, header, has_size, payload: rest })
    }

    /// Takes the first OBU off a stream in the low-overhead format, in which each says its size.
    pub fn take(stream: &mut &'a [u8]) -> Option<Self> {
        let (has_size, header, mut rest) = split_header(stream)?;
        let size = has_size.then(|| read_leb128(&mut rest))??;
        let payload = rest.split_off(..size)?;
        *stream = rest;
        Some(Self { kind: kind(header[0])?, header, has_size, payload })
    }
}

/// The type of an OBU that begins with this byte; `None` if none does.
pub fn kind(first: u8) -> Option<u8> {
    (first & FORBIDDEN_BIT == 0).then_some(first >> 3 & 0x0f)
}

/// Whether a decoder of camera pictures has a use for OBUs of this type. Temporal delimiters and tile lists do not
/// belong into RTP packets (AV1 RTP specification §5); reserved types are ignored (AV1 specification §6.2.2).
pub fn is_wanted(kind: u8) -> bool {
    matches!(
        kind,
        SEQUENCE_HEADER | FRAME_HEADER | TILE_GROUP | METADATA | FRAME | REDUNDANT_FRAME_HEADER
    )
}

/// Whether a size comes after the header, the header, and the rest.
fn split_header(bytes: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let &first = bytes.first()?;
    let length = if first & EXTENSION_FLAG != 0 { 2 } else { 1 };
    let (header, rest) = bytes.split_at_checked(length)?;
    Some((first & HAS_SIZE_FIELD != 0, header, rest))
}

/// Takes a number off the front (AV1 specification §4.10.5).
pub fn read_leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..8).map(|index| index * 7) {
        let &byte = bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok()?.try_into().ok();
        }
    }
    None
}

/// The bytes of a number, as few as can be.
pub fn leb128(value: usize) -> impl Iterator<Item = u8> {
    let length = leb128_len(value);
    (0..length).map(move |index| {
        let more = if index + 1 < length { 0x80 } else { 0 };
        (value >> (7 * index) & 0x7f) as u8 | more
    })
}

/// How many bytes they are.
pub fn leb128_len(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).div_ceil(7).max(1) as usize
}

/// obu_type (AV1 specification §6.2.2).
pub const SEQUENCE_HEADER: u8 = 1;
/// As [`SEQUENCE_HEADER`].
pub const TEMPORAL_DELIMITER: u8 = 2;
/// As [`SEQUENCE_HEADER`].
pub const FRAME_HEADER: u8 = 3;
/// As [`SEQUENCE_HEADER`].
pub const TILE_GROUP: u8 = 4;
/// As [`SEQUENCE_HEADER`].
pub const METADATA: u8 = 5;
/// As [`SEQUENCE_HEADER`].
pub const FRAME: u8 = 6;
/// As [`SEQUENCE_HEADER`].
pub const REDUNDANT_FRAME_HEADER: u8 = 7;
/// As [`SEQUENCE_HEADER`].
pub const TILE_LIST: u8 = 8;
/// As [`SEQUENCE_HEADER`].
pub const PADDING: u8 = 15;

/// obu_has_size_field in the first byte (AV1 specification §5.3.2).
pub const HAS_SIZE_FIELD: u8 = 0x02;
const FORBIDDEN_BIT: u8 = 0x80;
const EXTENSION_FLAG: u8 = 0x04;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_with_and_without_size_are_read() {
        let frame = Obu::whole(&[0x30, 7, 8]);
        let sized = Obu::whole(&[0x32, 2, 7, 8]);
        assert_eq!(
            frame.map(|o| (o.kind, o.has_size, o.payload)),
            Some((FRAME, false, &[7, 8][..]))
        );
        assert_eq!(
            sized.map(|o| (o.kind, o.has_size, o.payload)),
            Some((FRAME, true, &[7, 8][..]))
        );
        let layered = Obu::whole(&[0x36, 0x48, 0x81, 0, 9]);
        assert_eq!(layered.map(|o| (o.header, o.payload)), Some((&[0x36, 0x48][..], &[9][..])));
        for malformed in [&[][..], &[0x34], &[0x32], &[0x32, 1], &[0x32, 0, 9], &[0xb0, 1]] {
            assert_eq!(Obu::whole(malformed), None, "{malformed:?}");
        }
        let mut stream = &[0x12, 0, 0x0a, 1, 5, 0x32, 1][..];
        assert_eq!(Obu::take(&mut stream).map(|o| o.kind), Some(TEMPORAL_DELIMITER));
        assert_eq!(Obu::take(&mut stream).map(|o| o.payload), Some(&[5][..]));
        assert_eq!(Obu::take(&mut stream), None, "cut short");
        assert_eq!(Obu::take(&mut &[0x30, 1, 2][..]), None, "no size");
    }

    #[test]
    fn numbers_are_bounded() {
        let value = |mut bytes: &[u8]| read_leb128(&mut bytes);
        assert_eq!(value(&[0xe5, 0x8e, 0x26]), Some(624_485));
        assert_eq!(value(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some(u32::MAX as usize));
        assert_eq!(value(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(value(&[0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), Some(5));
        assert_eq!(value(&[0x80; 9]), None);
        assert_eq!(value(&[0x80]), None);
    }

    proptest! {
        #[test]
        fn numbers_come_back(value in 0u32..) {
            let bytes: Vec<u8> = leb128(value as usize).collect();
            prop_assert_eq!(bytes.len(), leb128_len(value as usize));
            let mut rest = &bytes[..];
            prop_assert_eq!(read_leb128(&mut rest), Some(value as usize));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Obu::whole(&bytes);
            let mut stream = &bytes[..];
            while Obu::take(&mut stream).is_some() {}
        }
    }
}
