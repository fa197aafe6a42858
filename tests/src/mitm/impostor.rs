//! Plays one of the two towards the other in the proof of identity, as somebody in between has to who does
//! not know the secret: with a guess.

use anyhow::Context as _;
use visavis_proof::{
    Exchange, Party, Password, commitment, exchange_id, expand_seed, fingerprints,
};
use visavis_signaling_protocol::{Bytes32, ProofMessage};

/// What it takes the secret for.
const GUESS: &str = "zzzzzz";

/// Session, program and description of a peer, as it is known to another.
pub(super) struct Known {
    pub(super) session: String,
    pub(super) is_page: bool,
    pub(super) sdp: String,
}

impl Known {
    fn fingerprints(&self) -> anyhow::Result<Vec<String>> {
        fingerprints(&self.sdp).context("a description without a fingerprint")
    }
}

/// One that is played towards one of the two.
pub(super) struct Impostor {
    sid: Vec<u8>,
    own: Known,
    exchange: Exchange,
    nonce: [u8; 32],
}

impl Impostor {
    /// Plays `own` towards a peer of that session. `seed` is random and for this one alone.
    pub(super) fn new(room: &str, own: Known, remote_session: &str, seed: &[u8; 32]) -> Self {
        let sid = exchange_id(room, &own.session, remote_session);
        let exchange = Exchange::new(Password::Code(GUESS), &sid, expand_seed(seed, 0));
        Self { sid, own, exchange, nonce: expand_seed(seed, 1) }
    }

    /// What it says instead of `original`. `remote` is whom it says it to and what that one has said, if
    /// it has.
    pub(super) fn message(
        &self,
        original: &ProofMessage,
        remote: Option<&(Known, ProofMessage)>,
    ) -> anyhow::Result<ProofMessage> {
        let own_prints = self.own.fingerprints()?;
        let own = Party {
            session: &self.own.session,
            is_page: self.own.is_page,
            fingerprints: &own_prints,
        };
        let confirm = match remote {
            Some((known, ProofMessage { code: Some(share), .. })) => {
                let prints = known.fingerprints()?;
                let remote = Party {
                    session: &known.session,
                    is_page: known.is_page,
                    fingerprints: &prints,
                };
                self.exchange.finish(&own, &remote, &share.0).map(|a| a.confirmation())
            }
            Some((_, ProofMessage { commitment: Some(_), .. })) => Some(self.nonce),
            _ => None,
        };
        let has_secret = original.code.is_some();
        Ok(ProofMessage {
            page: original.page,
            code: has_secret.then(|| Bytes32(self.exchange.share())),
            key: None,
            commitment: (!has_secret).then(|| Bytes32(commitment(&self.sid, &own, &self.nonce))),
            confirm: confirm.map(Bytes32),
            again: original.again,
            failed: original.failed,
        })
    }
}
