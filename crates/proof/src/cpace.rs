//! CPace with X25519 and SHA-512, in the symmetric setting: both parties do the same, so that it does
//! not matter whose offer is answered in the end.

use curve25519_dalek::montgomery::MontgomeryPoint;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::derive::{Agreement, ContinuityKey};
use crate::hash::{first_32, lv_cat, sha512};
use crate::{Party, elligator};

/// The draft's domain separation identifier of the group.
const DSI: &[u8] = b"CPace255";
const DSI_ISK: &[u8] = b"CPace255_ISK";
/// Input block of SHA-512, bytes.
const HASH_BLOCK: usize = 128;

/// What both know. Each kind has a channel identifier (CI) of its own, so that no share of one kind is
/// of use in an exchange of the other.
#[derive(Clone, Copy)]
pub enum Password<'a> {
    /// The secret half of the code that two people share, six lower-case letters.
    Code(&'a str),
    /// The key that an earlier proof of the same two left.
    Key(&'a ContinuityKey),
}

impl Password<'_> {
    fn channel(&self) -> &'static [u8] {
        match self {
            Self::Code(_) => b"visavis/2 code",
            Self::Key(_) => b"visavis/2 key",
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Code(secret) => secret.as_bytes(),
            Self::Key(key) => key.bytes(),
        }
    }
}

/// One party's half of an exchange. The scalar in it is overwritten when it is dropped.
pub struct Exchange {
    scalar: [u8; 32],
    share: [u8; 32],
    sid: Vec<u8>,
}

impl Exchange {
    /// `sid` is [`exchange_id`](crate::exchange_id); `scalar` is 32 uniform random bytes that were
    /// and will be used for nothing else.
    pub fn new(password: Password<'_>, sid: &[u8], scalar: [u8; 32]) -> Self {
        Self::with_channel(password.bytes(), password.channel(), sid, scalar)
    }

    pub(crate) fn with_channel(
        password: &[u8],
        channel: &[u8],
        sid: &[u8],
        scalar: [u8; 32],
    ) -> Self {
        let mut generator = generator(password, channel, sid);
        let share = scalar_multiply(scalar, generator);
        generator.zeroize();
        Self { scalar, share, sid: sid.to_vec() }
    }

    /// The own share (Ya or Yb), for the remote peer.
    pub fn share(&self) -> [u8; 32] {
        self.share
    }

    /// What both have in common if they used the same password and see the same two parties; `None` if
    /// the remote share is one that no honest peer sends: a point of low order, or our own share
    /// sent back.
    pub fn finish(
        &self,
        own: &Party<'_>,
        remote: &Party<'_>,
        remote_share: &[u8; 32],
    ) -> Option<Agreement> {
        if own.session == remote.session {
            return None;
        }
        let (own_data, remote_data) = (own.associated_data(), remote.associated_data());
        let mut isk = self.intermediate_key(&own_data, &remote_data, remote_share)?;
        let agreement = Agreement::new(
            &self.sid,
            &isk,
            &lv_cat(&[&self.share, &own_data]),
            &lv_cat(&[remote_share, &remote_data]),
        );
        isk.zeroize();
        Some(agreement)
    }

    /// The draft's ISK with `transcript_oc`.
    pub(crate) fn intermediate_key(
        &self,
        own_data: &[u8],
        remote_data: &[u8],
        remote_share: &[u8; 32],
    ) -> Option<[u8; 64]> {
        let mut k = scalar_multiply(self.scalar, *remote_share);
        // The neutral element: the draft's abort case.
        let is_neutral: bool = k.ct_eq(&[0; 32]).into();
        if is_neutral || *remote_share == self.share {
            return None;
        }
        let own = lv_cat(&[&self.share, own_data]);
        let remote = lv_cat(&[remote_share, remote_data]);
        // `transcript_oc`: the larger one first.
        let (first, second) = if own > remote { (&own, &remote) } else { (&remote, &own) };
        let mut common = lv_cat(&[DSI_ISK, &self.sid, &k]);
        let isk = sha512(&[&common, b"oc", first, second]);
        k.zeroize();
        common.zeroize();
        Some(isk)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.scalar.zeroize();
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange(…)")
    }
}

/// X25519 (RFC 7748 §5): clamps the scalar, ignores bit 255 of the point.
fn scalar_multiply(scalar: [u8; 32], point: [u8; 32]) -> [u8; 32] {
    MontgomeryPoint(point).mul_clamped(scalar).to_bytes()
}

/// The draft's `calculate_generator`.
fn generator(password: &[u8], channel: &[u8], sid: &[u8]) -> [u8; 32] {
    let head = lv_cat(&[DSI, password]).len() + 1;
    let padding = vec![0; HASH_BLOCK.saturating_sub(head)];
    let mut string = lv_cat(&[DSI, password, &padding, channel, sid]);
    let hash = first_32(&sha512(&[&string]));
    string.zeroize();
    elligator::map_to_curve(&hash)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn draft() -> Value {
        serde_json::from_str(include_str!("../fixtures/cpace-draft.json")).unwrap()
    }

    fn bytes(value: &Value) -> Vec<u8> {
        let text = value.as_str().unwrap();
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn array(value: &Value) -> [u8; 32] {
        bytes(value).try_into().unwrap()
    }

    #[test]
    fn the_drafts_vectors_hold() {
        let draft = draft();
        let v = &draft["exchange"];
        let (prs, ci, sid) = (bytes(&v["PRS"]), bytes(&v["CI"]), bytes(&v["sid"]));
        assert_eq!(generator(&prs, &ci, &sid).to_vec(), bytes(&v["g"]));
        let a = Exchange::with_channel(&prs, &ci, &sid, array(&v["ya"]));
        let b = Exchange::with_channel(&prs, &ci, &sid, array(&v["yb"]));
        assert_eq!([a.share(), b.share()], [array(&v["Ya"]), array(&v["Yb"])]);
        let (ada, adb) = (bytes(&v["ADa"]), bytes(&v["ADb"]));
        let isk = a.intermediate_key(&ada, &adb, &b.share()).unwrap();
        assert_eq!(isk.to_vec(), bytes(&v["ISK_SY"]));
        assert_eq!(b.intermediate_key(&adb, &ada, &a.share()).unwrap(), isk);
    }

    #[test]
    fn points_of_low_order_are_refused_and_bit_255_is_ignored() {
        let draft = draft();
        let scalar = array(&draft["lowOrder"]["scalar"]);
        let exchange = Exchange::with_channel(b"", b"", b"", scalar);
        for point in draft["lowOrder"]["points"].as_array().unwrap() {
            let (u, q) = (array(&point["u"]), array(&point["q"]));
            assert_eq!(scalar_multiply(scalar, u), q, "{point}");
            let agreed = exchange.intermediate_key(b"a", b"b", &u);
            assert_eq!(agreed.is_none(), q == [0; 32], "{point}");
        }
    }
}
