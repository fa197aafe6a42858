//! SHA-512, HMAC and the draft's encoding of several strings as one.

use ring::{digest, hmac};

/// SHA-512 of the concatenation.
pub(crate) fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut context = digest::Context::new(&digest::SHA512);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 64];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// HMAC-SHA-512 (RFC 2104), its first 32 bytes.
pub(crate) fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), message);
    out.copy_from_slice(&tag.as_ref()[..32]);
    out
}

pub(crate) fn first_32(hash: &[u8; 64]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(&hash[..32]);
    out
}

/// The draft's `lv_cat`: each string behind its length in LEB128, so that no two lists of strings
/// have the same encoding.
pub(crate) fn lv_cat(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 2).sum());
    for part in parts {
        let mut length = part.len();
        loop {
            // Seven bits a byte, the lowest first; the eighth says that more follow.
            let low = u8::try_from(length & 0x7f).unwrap_or_default();
            length >>= 7;
            if length == 0 {
                out.push(low);
                break;
            }
            out.push(low | 0x80);
        }
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_from_128_on_take_two_bytes() {
        assert_eq!(lv_cat(&[b"1234", b"", b"5"]), b"\x041234\x00\x015");
        let long: Vec<u8> = (0..128).collect();
        assert_eq!(lv_cat(&[&long])[..3], [0x80, 0x01, 0x00]);
    }
}
