//! Elligator 2 on Curve25519 (RFC 9380 §6.7.1), field arithmetic by `fiat-crypto`. Runs in constant time.

use fiat_crypto::curve25519_64::{
    fiat_25519_add, fiat_25519_carry, fiat_25519_carry_mul, fiat_25519_from_bytes,
    fiat_25519_loose_field_element, fiat_25519_opp, fiat_25519_relax, fiat_25519_selectznz,
    fiat_25519_tight_field_element, fiat_25519_to_bytes,
};

/// An element of the field of 2^255 - 19.
#[derive(Clone, Copy)]
struct Fe(fiat_25519_tight_field_element);

/// The curve's coefficient A (RFC 7748 §4.1), little-endian.
const A: [u8; 32] = small(486_662);
/// (p - 1) / 2 = 2^254 - 10: the exponent of the Legendre symbol, little-endian.
const LEGENDRE: [u8; 32] = near_power(0xf6, 0x3f);
/// p - 2 = 2^255 - 21: the exponent of the inverse, little-endian.
const INVERSE: [u8; 32] = near_power(0xeb, 0x7f);

const fn small(value: u32) -> [u8; 32] {
    let [a, b, c, d] = value.to_le_bytes();
    let mut bytes = [0; 32];
    (bytes[0], bytes[1], bytes[2], bytes[3]) = (a, b, c, d);
    bytes
}

const fn near_power(lowest: u8, highest: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = lowest;
    bytes[31] = highest;
    bytes
}

impl Fe {
    fn zero() -> Self {
        Self(fiat_25519_tight_field_element([0; 5]))
    }

    /// `bytes` below 2^255, little-endian.
    fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut out = Self::zero();
        fiat_25519_from_bytes(&mut out.0, bytes);
        out
    }

    fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        fiat_25519_to_bytes(&mut bytes, &self.0);
        bytes
    }

    fn loose(self) -> fiat_25519_loose_field_element {
        let mut out = fiat_25519_loose_field_element([0; 5]);
        fiat_25519_relax(&mut out, &self.0);
        out
    }

    fn carry(loose: &fiat_25519_loose_field_element) -> Self {
        let mut out = Self::zero();
        fiat_25519_carry(&mut out.0, loose);
        out
    }

    fn add(self, other: Self) -> Self {
        let mut sum = fiat_25519_loose_field_element([0; 5]);
        fiat_25519_add(&mut sum, &self.0, &other.0);
        Self::carry(&sum)
    }

    fn negate(self) -> Self {
        let mut negated = fiat_25519_loose_field_element([0; 5]);
        fiat_25519_opp(&mut negated, &self.0);
        Self::carry(&negated)
    }

    fn multiply(self, other: Self) -> Self {
        let mut out = Self::zero();
        fiat_25519_carry_mul(&mut out.0, &self.loose(), &other.loose());
        out
    }

    /// Square and multiply; only the exponent, which is no secret, decides what is done.
    fn power(self, exponent: &[u8; 32]) -> Self {
        let mut out = Self::from_bytes(&small(1));
        for bit in (0..255).rev() {
            out = out.multiply(out);
            if exponent[bit / 8] >> (bit % 8) & 1 == 1 {
                out = out.multiply(self);
            }
        }
        out
    }

    fn select(condition: u8, zero: Self, one: Self) -> Self {
        let mut out = [0; 5];
        fiat_25519_selectznz(&mut out, condition, &zero.0.0, &one.0.0);
        Self(fiat_25519_tight_field_element(out))
    }
}

/// The u-coordinate that belongs to the field element that `bytes` encode; bit 255 is ignored, as
/// RFC 7748's `decodeUCoordinate` does.
pub(crate) fn map_to_curve(bytes: &[u8; 32]) -> [u8; 32] {
    let mut bytes = *bytes;
    bytes[31] &= 0x7f;
    let r = Fe::from_bytes(&bytes);
    let (one, a) = (Fe::from_bytes(&small(1)), Fe::from_bytes(&A));
    let square = r.multiply(r);
    // -A / (1 + 2 r^2); the denominator is never 0, for -1/2 is no square.
    let v = a.negate().multiply(one.add(square).add(square).power(&INVERSE));
    // v^3 + A v^2 + v = v (v (v + A) + 1)
    let on_curve = v.multiply(v.multiply(v.add(a)).add(one));
    // 1 for a square, p - 1 otherwise: their lowest bits differ.
    let is_square = on_curve.power(&LEGENDRE).to_bytes()[0] & 1;
    Fe::select(is_square, v.add(a).negate(), v).to_bytes()
}
