//! Who may ask for what: the long-term credential mechanism (RFC 8489 §9.2) with user names that
//! carry their own expiry, so that nothing is kept for users or nonces. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use turn_types::stun::attribute::{MessageIntegrity, Nonce, Realm, Username};
use turn_types::stun::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message,
};
use turn_types::stun::prelude::AttributeStaticType;

use super::refusal::Refusal;
use crate::ice;

/// The realm of every answer.
pub(crate) const REALM: &str = "visavis";
/// How long a nonce is good for; then the client is told the next one (438).
const NONCE_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Checks requests. Its keys are made at random and live as long as it does.
pub(crate) struct Auth {
    secret: String,
    nonce_key: hmac::Key,
}

/// Who sent an authentic request.
pub(crate) struct User {
    /// `UNIX-EXPIRY:PEER`.
    pub(crate) name: String,
    /// When the name ceases to be good for anything, since the Unix epoch.
    pub(crate) expires: Duration,
    /// Signs the answer.
    pub(crate) key: IntegrityKey,
}

impl User {
    /// How long the name is good for.
    pub(crate) fn left(&self, wall: Duration) -> Duration {
        self.expires.saturating_sub(wall)
    }
}

impl Auth {
    /// With fresh keys; an error if the system has no randomness.
    pub(crate) fn new() -> std::io::Result<Self> {
        let random = SystemRandom::new();
        let failed = |_| std::io::Error::other("the system gives no random numbers");
        let (mut secret, mut nonce_key) = ([0; 20], [0; 32]);
        random.fill(&mut secret).map_err(failed)?;
        random.fill(&mut nonce_key).map_err(failed)?;
        Ok(Self { secret: hex(&secret), nonce_key: hmac::Key::new(hmac::HMAC_SHA256, &nonce_key) })
    }

    /// The secret from which passwords are minted ([`ice::password`]).
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// Who sent `request`, or the answer that refuses it.
    pub(crate) fn check(
        &self,
        request: &Message<'_>,
        client: SocketAddr,
        wall: Duration,
    ) -> Result<User, Refusal> {
        if !request.has_attribute(MessageIntegrity::TYPE) {
            return Err(Refusal::challenge("unauthenticated"));
        }
        let (Ok(name), Ok(realm), Ok(nonce)) = (
            request.attribute::<Username>(),
            request.attribute::<Realm>(),
            request.attribute::<Nonce>(),
        ) else {
            return Err(Refusal::bad_request("user name, realm or nonce is missing"));
        };
        if !self.nonce_is_good(nonce.nonce(), client, wall) {
            return Err(Refusal::stale_nonce());
        }
        let wrong = || Refusal::challenge("wrong user name or password");
        let user = self.user(name.username()).ok_or_else(wrong)?;
        if realm.realm() != REALM || request.validate_integrity_with_key(&user.key).is_err() {
            return Err(wrong());
        }
        Ok(user)
    }

    fn user(&self, name: &str) -> Option<User> {
        let expiry = name.split_once(':')?.0.parse().ok()?;
        let password = ice::password(&self.secret, name);
        let key = LongTermKeyCredentials::new(name.to_owned(), password, REALM.to_owned())
            .make_key(IntegrityAlgorithm::Sha1);
        Some(User { name: name.to_owned(), expires: Duration::from_secs(expiry), key })
    }

    /// A nonce for one client: until when it is good, and a proof that it comes from here. Short,
    /// for it makes the most of the answer to somebody whose address may be forged.
    pub(crate) fn nonce(&self, client: SocketAddr, wall: Duration) -> String {
        let until = wall.saturating_add(NONCE_LIFETIME).as_secs();
        format!("{until:010x}{}", hex(&self.nonce_proof(until, client)[..8]))
    }

    fn nonce_is_good(&self, nonce: &str, client: SocketAddr, wall: Duration) -> bool {
        let until = nonce.get(..10).and_then(|until| u64::from_str_radix(until, 16).ok());
        until.is_some_and(|until| {
            wall.as_secs() < until && nonce[10..] == hex(&self.nonce_proof(until, client)[..8])
        })
    }

    fn nonce_proof(&self, until: u64, client: SocketAddr) -> [u8; 32] {
        let tag = hmac::sign(&self.nonce_key, format!("{until} {client}").as_bytes());
        let mut proof = [0; 32];
        proof.copy_from_slice(tag.as_ref());
        proof
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_one_client_and_one_hour() {
        let auth = Auth::new().unwrap();
        let (a, b) = ("192.0.2.1:1000".parse().unwrap(), "192.0.2.1:1001".parse().unwrap());
        let now = Duration::from_secs(1_767_222_000);
        let nonce = auth.nonce(a, now);
        assert!(auth.nonce_is_good(&nonce, a, now));
        assert!(auth.nonce_is_good(&nonce, a, now + Duration::from_secs(3599)));
        assert!(!auth.nonce_is_good(&nonce, a, now + Duration::from_secs(3600)));
        assert!(!auth.nonce_is_good(&nonce, b, now), "another client's");
        assert!(!Auth::new().unwrap().nonce_is_good(&nonce, a, now), "another server's");
        for bad in ["", "0", "ffffffffffffffff", "äääääääääääää", &nonce[..25]] {
            assert!(!auth.nonce_is_good(bad, a, now), "{bad}");
        }
    }
}
