//! The proof of one peer connection: what is said, what it means, and when it stands. Pure.
//!
//! Both peers do the same: each has one message whose first part is fixed for the connection, and which
//! carries a confirmation once the remote peer's is known. Whichever description or signal brings it, and
//! however often, it means the same; so neither collisions of offers nor repeated signals matter.

use visavis_proof::{
    Agreement, ContinuityKey, EMOJI_SHOWN, Exchange, MAX_GUESSES, Party, Password, commitment,
    compared_emoji, exchange_id, expand_seed, fingerprints,
};
use visavis_signaling_protocol::{
    Bytes32, CallCode, KeyShare, ProofFailure, ProofMessage, SessionDescription, SessionId,
};

/// What a [`CallSession`](crate::CallSession) needs for its proofs.
#[derive(Debug, Clone)]
pub struct ProofConfig {
    /// The room, and the secret if there is one.
    pub code: CallCode,
    /// From an earlier call with the same remote peer.
    pub key: Option<ContinuityKey>,
    /// How often the code has been guessed at, as [`Output::Guesses`](crate::Output::Guesses) said last.
    pub guesses: u8,
    /// Random bytes of the operating system, for this session alone.
    pub seed: [u8; 32],
}

/// What is known of who the remote peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authentication {
    /// Whether it knows our secret, and nobody sits in between.
    pub is_proven: bool,
    /// Numbers of the emoji that both people see, of [`visavis_proof::EMOJI`]. `None` for a client that
    /// does not take part.
    pub emoji: Option<[u8; EMOJI_SHOWN]>,
    /// Whether it says that it is a page: its proof is worth what the page's server is worth.
    pub remote_is_page: bool,
}

/// What outlives a peer connection.
#[derive(Debug)]
pub(crate) struct Identity {
    config: ProofConfig,
    drawn: u64,
    session: SessionId,
}

impl Identity {
    pub(crate) fn new(config: ProofConfig) -> Self {
        let session = SessionId::from_bytes(&expand_seed(&config.seed, 0));
        Self { config, drawn: 1, session }
    }

    /// Our session in signaling.
    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    pub(crate) fn renew_session(&mut self) -> SessionId {
        self.session = SessionId::from_bytes(&self.draw());
        self.session.clone()
    }

    pub(crate) fn guesses(&self) -> u8 {
        self.config.guesses
    }

    /// Whether the code must not be used any more.
    pub(crate) fn is_spent(&self) -> bool {
        let Self { config, .. } = self;
        config.code.secret.is_some() && config.key.is_none() && config.guesses >= MAX_GUESSES
    }

    pub(crate) fn key(&self) -> Option<&ContinuityKey> {
        self.config.key.as_ref()
    }

    fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        expand_seed(&self.config.seed, self.drawn)
    }
}

/// What both have in common to build a proof on.
#[derive(Debug)]
enum Common {
    Code(Agreement),
    Key(Agreement),
    /// Neither has a secret; the remote peer's commitment is known.
    Nothing,
}

/// The proof of one peer connection.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    own: Option<Own>,
    own_fingerprints: Option<Vec<String>>,
    remote_fingerprints: Option<Vec<String>>,
    /// The first message of the remote peer; what others of it must begin with.
    remote: Option<ProofMessage>,
    remote_confirm: Option<[u8; 32]>,
    common: Option<Common>,
    /// Guesses at the code that this connection counts for as long as it is not proven.
    pending_guesses: u8,
    result: Option<Authentication>,
    is_told: bool,
}

#[derive(Debug)]
struct Own {
    session: SessionId,
    remote_session: SessionId,
    sid: Vec<u8>,
    code: Option<Exchange>,
    key: Option<(Exchange, [u8; 32])>,
    nonce: [u8; 32],
    message: ProofMessage,
}

/// Why a remote description must not be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its fingerprints are others than before, or cannot be read.
    Fingerprints,
    /// It comes with another proof than the first one.
    OtherProof,
}

impl Proof {
    pub(crate) fn result(&self) -> Option<Authentication> {
        self.result
    }

    /// The result, once.
    pub(crate) fn take_result(&mut self) -> Option<Authentication> {
        self.result.filter(|_| !std::mem::replace(&mut self.is_told, true))
    }

    /// Whether our confirmation was given away and the remote peer's is missing.
    pub(crate) fn lacks_confirmation(&self) -> bool {
        self.result.is_none() && self.common.is_some()
    }

    /// Notes an own description; the message to send with it.
    pub(crate) fn describe(
        &mut self,
        identity: &mut Identity,
        remote: &SessionId,
        sdp: &str,
    ) -> Result<Option<ProofMessage>, ProofFailure> {
        // An own description has fingerprints, or there is no DTLS and nothing to prove.
        self.own_fingerprints = fingerprints(sdp).filter(|all| !all.is_empty());
        self.begin(identity, remote);
        self.advance(identity)?;
        Ok(self.message())
    }

    /// Our message as it is now.
    pub(crate) fn message(&self) -> Option<ProofMessage> {
        let own = self.own.as_ref()?;
        let confirm = match self.common.as_ref() {
            None => None,
            Some(Common::Code(agreement) | Common::Key(agreement)) => {
                Some(agreement.confirmation())
            }
            Some(Common::Nothing) => Some(own.nonce),
        };
        Some(ProofMessage { confirm: confirm.map(Bytes32), ..own.message.clone() })
    }

    /// Looks whether a remote description may be used, before it is.
    pub(crate) fn check(
        &self,
        description: &SessionDescription,
        message: Option<&ProofMessage>,
    ) -> Result<Vec<String>, Refusal> {
        let all = fingerprints(&description.sdp).ok_or(Refusal::Fingerprints)?;
        if self.remote_fingerprints.as_ref().is_some_and(|known| *known != all) {
            return Err(Refusal::Fingerprints);
        }
        if let (Some(known), Some(message)) = (&self.remote, message)
            && !is_same_peer(known, message)
        {
            return Err(Refusal::OtherProof);
        }
        Ok(all)
    }

    /// Notes a remote description that is used, with its fingerprints as [`Self::check`] returned them.
    pub(crate) fn described(
        &mut self,
        identity: &mut Identity,
        all: Vec<String>,
        message: Option<ProofMessage>,
    ) -> Result<(), ProofFailure> {
        self.remote_fingerprints = Some(all);
        match message {
            Some(message) => self.receive(identity, message).map(|_| ()),
            None if self.result.is_some() || self.remote.is_some() => Ok(()),
            // Nobody talks to us without a proof who could have one.
            None if identity.config.code.secret.is_some() || identity.config.key.is_some() => {
                Err(ProofFailure::NoSecret)
            }
            None => {
                self.result =
                    Some(Authentication { is_proven: false, emoji: None, remote_is_page: false });
                Ok(())
            }
        }
    }

    /// A message of the remote peer; whether it asks for an answer.
    pub(crate) fn receive(
        &mut self,
        identity: &mut Identity,
        message: ProofMessage,
    ) -> Result<bool, ProofFailure> {
        if self.result.is_some() {
            return Ok(message.again);
        }
        if let Some(failure) = message.failed {
            return Err(failure);
        }
        match &self.remote {
            Some(known) if !is_same_peer(known, &message) => return Ok(false),
            _ => {}
        }
        if self.remote_confirm.is_none() {
            self.remote_confirm = message.confirm.map(|confirm| confirm.0);
        }
        let again = message.again;
        self.remote.get_or_insert(message);
        self.advance(identity)?;
        Ok(again)
    }

    /// Goes as far as what is known allows.
    fn advance(&mut self, identity: &mut Identity) -> Result<(), ProofFailure> {
        let (Some(own), Some(remote), Some(own_prints), Some(remote_prints), None) = (
            &self.own,
            &self.remote,
            &self.own_fingerprints,
            &self.remote_fingerprints,
            self.result,
        ) else {
            return Ok(());
        };
        let own_party =
            Party { session: own.session.as_str(), is_page: false, fingerprints: own_prints };
        let remote_party = Party {
            session: own.remote_session.as_str(),
            is_page: remote.page,
            fingerprints: remote_prints,
        };
        if self.common.is_none() {
            let finish = |exchange: &Exchange, share: Bytes32| {
                // Without a fingerprint there is nothing that DTLS would be checked against.
                let has_prints = !remote_prints.is_empty();
                let agreement = exchange.finish(&own_party, &remote_party, &share.0);
                agreement.filter(|_| has_prints).ok_or(ProofFailure::Mismatch)
            };
            let key = own.key.as_ref().zip(remote.key).filter(|((_, id), key)| *id == key.id.0);
            self.common = Some(match (key, own.code.as_ref().zip(remote.code)) {
                (Some(((exchange, _), key)), _) => Common::Key(finish(exchange, key.share)?),
                (None, Some((exchange, share))) => {
                    if identity.config.guesses >= MAX_GUESSES {
                        return Err(ProofFailure::Spent);
                    }
                    identity.config.guesses += 1;
                    self.pending_guesses += 1;
                    Common::Code(finish(exchange, share)?)
                }
                (None, None) if own.message.commitment.is_some() && remote.commitment.is_some() => {
                    Common::Nothing
                }
                (None, None) => return Err(ProofFailure::NoSecret),
            });
        }
        let (Some(common), Some(confirm)) = (&self.common, &self.remote_confirm) else {
            return Ok(());
        };
        let emoji = match common {
            Common::Code(agreement) | Common::Key(agreement) => {
                if !agreement.verify(confirm) {
                    return Err(ProofFailure::Mismatch);
                }
                agreement.emoji()
            }
            Common::Nothing => {
                let committed = remote.commitment.map(|commitment| commitment.0);
                if committed != Some(commitment(&own.sid, &remote_party, confirm)) {
                    return Err(ProofFailure::Mismatch);
                }
                compared_emoji(&own.sid, (&own_party, &own.nonce), (&remote_party, confirm))
            }
        };
        if let Common::Code(agreement) = common {
            identity.config.key = Some(agreement.continuity_key().clone());
        }
        identity.config.guesses -= self.pending_guesses;
        self.pending_guesses = 0;
        self.result = Some(Authentication {
            is_proven: !matches!(common, Common::Nothing),
            emoji: Some(emoji),
            remote_is_page: remote.page,
        });
        Ok(())
    }

    /// Makes the own part, once.
    fn begin(&mut self, identity: &mut Identity, remote: &SessionId) {
        if self.own.is_some() {
            return;
        }
        let Some(own_fingerprints) = &self.own_fingerprints else { return };
        let (scalar, key_scalar, nonce) = (identity.draw(), identity.draw(), identity.draw());
        let ProofConfig { code, key, .. } = &identity.config;
        let session = identity.session.clone();
        let sid = exchange_id(&code.room.to_string(), session.as_str(), remote.as_str());
        let secret = code.secret.as_ref();
        let code = secret.map(|s| Exchange::new(Password::Code(s.letters()), &sid, scalar));
        let key = key.as_ref().map(|k| (Exchange::new(Password::Key(k), &sid, key_scalar), k.id()));
        let party =
            Party { session: session.as_str(), is_page: false, fingerprints: own_fingerprints };
        let message = ProofMessage {
            code: code.as_ref().map(|exchange| Bytes32(exchange.share())),
            key: key.as_ref().map(|(exchange, id)| KeyShare {
                id: Bytes32(*id),
                share: Bytes32(exchange.share()),
            }),
            commitment: (code.is_none() && key.is_none())
                .then(|| Bytes32(commitment(&sid, &party, &nonce))),
            ..ProofMessage::default()
        };
        let remote_session = remote.clone();
        self.own = Some(Own { session, remote_session, sid, code, key, nonce, message });
    }
}

/// Whether two messages have the same first part.
fn is_same_peer(a: &ProofMessage, b: &ProofMessage) -> bool {
    (a.page, a.code, a.key, a.commitment) == (b.page, b.code, b.key, b.commitment)
}
