//! The exchange of descriptions and candidates: W3C `setLocalDescription()` and its kin, with what the stack
//! lacks around them.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodecParameters, RtpCodecKind};
use visavis_media::VideoCodec;
use webrtc::peer_connection::{
    PeerConnection, RTCIceCandidateInit, RTCSdpType, RTCSessionDescription,
};

use super::Peer;
use crate::answer::{self, Role};
use crate::codecs;
use crate::congestion::TRANSPORT_CC_URI;
use crate::error::RtcError;
use crate::ice::{self, IceGeneration, RemoteCandidates};
use crate::parity;
use crate::payload_types::{VideoCodecs, sent_types};
use crate::sdp::{self, Direction, Section};
use crate::sections::Sections;
use crate::session::AudioTypes;
use crate::tcp;
use crate::types::{Candidate, Description, PeerEvent, SdpKind};

/// What belongs to the exchange of descriptions.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    /// The remote generation; `None` before the first remote description.
    remote: Option<IceGeneration>,
    /// What `remote` and `sections` were before the pending remote offer.
    before_offer: Option<(Option<IceGeneration>, Sections)>,
    /// What the stack is told otherwise.
    sections: Sections,
    /// Those of the remote generation that are used.
    candidates: RemoteCandidates,
    /// Candidates that came before the description they belong to.
    early: Vec<Candidate>,
    /// An own offer to restart ICE that is applied with its answer.
    held_offer: Option<RTCSessionDescription>,
    /// Ours in DTLS, once it is settled.
    role: Option<Role>,
    /// Our last description and the remote peer's, as they are signaled.
    local: String,
    remote_sdp: String,
    /// The video codecs that were told last.
    told_codecs: Option<VideoCodecs>,
}

impl Peer {
    /// Makes an offer and sets it as the local description (W3C `setLocalDescription()`).
    /// With `ice_restart` new sockets are bound and new candidates gathered at once, so media
    /// pauses until the answer: restart when the path is broken, not to be safe.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `stable`.
    pub async fn create_offer(&self, ice_restart: bool) -> Result<Description, RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        // The stack has taken up that one's credentials and would apply them without saying so.
        let ice_restart = negotiation.held_offer.take().is_some() || ice_restart;
        let options = RTCOfferOptions { ice_restart };
        let offer = guarded("creating an offer", self.pc.create_offer(Some(options))).await?;
        self.apply_local(&mut negotiation, offer, SdpKind::Offer).await
    }

    /// As [`Peer::create_offer`], before anybody is there to tell it to: candidates are gathered, and what NATs
    /// have opened for them is kept open until the other side is described.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn offer_ahead(&self) -> Result<Description, RtcError> {
        let offer = self.create_offer(false).await?;
        tokio::spawn(self.session.direct.clone().keep_open());
        Ok(offer)
    }

    /// Whether the machine has the addresses that candidates were gathered for.
    pub fn has_current_addresses(&self) -> bool {
        ice::local_addresses() == self.addresses
    }

    /// Makes an offer with an ICE restart that is applied only by [`Peer::set_remote`] with its
    /// answer: until then media goes on by the old pair, if that pair comes back. Candidates
    /// are gathered then, too. Another offer, ours or theirs, or [`Peer::rollback`] drops it.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] if the stack makes none.
    pub async fn offer_restart(&self) -> Result<Description, RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        let options = RTCOfferOptions { ice_restart: true };
        let offer = guarded("creating an offer", self.pc.create_offer(Some(options))).await?;
        let told = self.told(&mut negotiation, SdpKind::Offer, &offer.sdp);
        negotiation.held_offer = Some(offer);
        Ok(told)
    }

    /// Makes the answer to the remote offer and sets it as the local description.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `have-remote-offer`.
    pub async fn create_answer(&self) -> Result<Description, RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        let made = guarded("creating an answer", self.pc.create_answer(None)).await?;
        let mut description = self.apply_local(&mut negotiation, made, SdpKind::Answer).await?;
        description.sdp = answer::with_one_of_each(&description.sdp);
        match negotiation.role {
            Some(role) => description.sdp = role.put_into(&description.sdp),
            None => negotiation.role = Role::of(&description.sdp),
        }
        negotiation.before_offer = None;
        negotiation.local.clone_from(&description.sdp);
        self.settle(&mut negotiation, SdpKind::Answer).await;
        self.await_connection();
        Ok(description)
    }

    /// Sets the remote description and then adds the candidates that came before it.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidDescription`] if it cannot be parsed, [`RtcError::Stack`] if it does not
    /// fit: an offer while ours is pending wants [`Peer::rollback`] first. [`RtcError::Broken`]
    /// means that the connection is to be given up.
    pub async fn set_remote(&self, description: Description) -> Result<(), RtcError> {
        if description.sdp.len() > MAX_SDP_BYTES {
            return Err(RtcError::InvalidDescription("too long".into()));
        }
        let mut negotiation = self.negotiation.lock().await;
        if let Some(offer) = negotiation.held_offer.take()
            && description.kind == SdpKind::Answer
        {
            self.apply_local(&mut negotiation, offer, SdpKind::Offer).await?;
        }
        let generation = IceGeneration::of(&description.sdp);
        let parity = parity::is_announced(&description.sdp);
        let kind = description.kind;
        let was_connected = self.session.direct.is_selected();
        if negotiation.remote.as_ref() != Some(&generation) {
            self.session.restart_ice();
            negotiation.candidates = RemoteCandidates::default();
        }
        let (sdp, over_tcp) = tcp::take_out(&description.sdp);
        let sdp = negotiation.candidates.strip(&sdp, self.policy);
        self.session.direct.remote_description(&sdp);
        let sections_before = negotiation.sections.clone();
        let local = std::mem::take(&mut negotiation.local);
        let sdp = negotiation.sections.remote(&sdp, kind, &local, self.video_codecs);
        negotiation.local = local;
        let applied = guarded("applying the remote description", async {
            let parsed = match kind {
                SdpKind::Offer => RTCSessionDescription::offer(sdp),
                SdpKind::Answer => RTCSessionDescription::answer(sdp),
            };
            match parsed {
                Ok(parsed) => self.pc.set_remote_description(parsed).await.map(Ok),
                Err(e) => Ok(Err(RtcError::InvalidDescription(e.to_string()))),
            }
        })
        .await
        .and_then(|result| result);
        if applied.is_err() && was_connected {
            // Nothing began anew.
            self.session.direct.connected();
        }
        if applied.is_err() {
            negotiation.sections = sections_before;
            return applied;
        }
        self.session.direct.described();
        self.session.parity.store(parity, Ordering::Relaxed);
        let previous = negotiation.remote.replace(generation);
        negotiation.before_offer = (kind == SdpKind::Offer).then_some((previous, sections_before));
        negotiation.remote_sdp.clone_from(&description.sdp);
        let first_mid = negotiation.remote.as_ref().and_then(|remote| remote.first_mid.clone());
        let over_tcp = over_tcp.into_iter().filter(|line| ice::validate(line).is_ok());
        let over_tcp = over_tcp.map(|candidate| Candidate {
            candidate,
            sdp_mid: first_mid.clone(),
            ..Candidate::default()
        });
        let early = std::mem::take(&mut negotiation.early);
        for candidate in over_tcp.chain(early) {
            if let Err(error) = self.add_to_stack(&mut negotiation, candidate).await {
                tracing::warn!(%error, "early candidate refused");
            }
        }
        if kind == SdpKind::Answer {
            negotiation.role = negotiation.role.or(Role::of(&description.sdp).map(Role::other));
            self.settle(&mut negotiation, SdpKind::Offer).await;
            self.await_connection();
        }
        Ok(())
    }

    /// Takes back the pending offer, ours or theirs (W3C rollback).
    ///
    /// # Errors
    ///
    /// [`RtcError::NothingPending`] if there is none.
    pub async fn rollback(&self) -> Result<(), RtcError> {
        let mut negotiation = self.negotiation.lock().await;
        if negotiation.held_offer.take().is_some() {
            return Ok(());
        }
        let mut rollback = RTCSessionDescription::default();
        rollback.sdp_type = RTCSdpType::Rollback;
        if self.pc.pending_local_description().await.is_some() {
            guarded("rolling back", self.pc.set_local_description(rollback)).await?;
            self.remember_local().await;
            if negotiation.remote.is_none() {
                negotiation.sections = Sections::default();
            }
        } else if self.pc.pending_remote_description().await.is_some() {
            guarded("rolling back", self.pc.set_remote_description(rollback)).await?;
            if let Some((remote, sections)) = negotiation.before_offer.take() {
                (negotiation.remote, negotiation.sections) = (remote, sections);
            }
        } else {
            return Err(RtcError::NothingPending);
        }
        Ok(())
    }

    /// Adds a remote candidate, or keeps it until there is a remote description. Candidates of an
    /// older ICE generation, those of TCP (RFC 6544) and the end-of-candidates mark are accepted and ignored.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidCandidate`] if it cannot be used, [`RtcError::TooManyCandidates`] if too
    /// many wait already.
    pub async fn add_candidate(&self, candidate: Candidate) -> Result<(), RtcError> {
        if candidate.candidate.is_empty() {
            return Ok(());
        }
        ice::validate(&candidate.candidate)?;
        let mut negotiation = self.negotiation.lock().await;
        if negotiation.remote.is_some() {
            return self.add_to_stack(&mut negotiation, candidate).await;
        }
        if negotiation.early.len() >= MAX_EARLY_CANDIDATES {
            return Err(RtcError::TooManyCandidates);
        }
        negotiation.early.push(candidate);
        Ok(())
    }

    async fn apply_local(
        &self,
        negotiation: &mut Negotiation,
        description: RTCSessionDescription,
        kind: SdpKind,
    ) -> Result<Description, RtcError> {
        let sdp = description.sdp.clone();
        // Before it is set: candidates are gathered at once and carry its user name fragment, and checks may come.
        if let (Some(ufrag), Some(password)) =
            (ice::bundled(&sdp, "a=ice-ufrag:"), ice::bundled(&sdp, "a=ice-pwd:"))
        {
            self.session.direct.guard.local_credentials(ufrag, password);
        }
        let told = self.told(negotiation, kind, &sdp);
        self.set_local_ice(IceGeneration::of(&told.sdp));
        guarded("applying the local description", self.pc.set_local_description(description))
            .await?;
        if kind == SdpKind::Offer {
            // The remote peer may send as soon as it has answered.
            let (_, sections) = sdp::split(&told.sdp);
            if let Some(video) = sections.into_iter().find(|section| is_used(*section, "video")) {
                self.session.video_types().offer(video);
            }
            negotiation.local.clone_from(&told.sdp);
        }
        Ok(told)
    }

    /// A description as the other side gets it.
    fn told(&self, negotiation: &mut Negotiation, kind: SdpKind, sdp: &str) -> Description {
        let mut told = negotiation.sections.local(sdp, kind);
        if kind == SdpKind::Answer {
            told = sdp::with_numbers_of(&told, &negotiation.remote_sdp);
        }
        let told = codecs::prefer_red(&self.disclosure.description(&told));
        let told = codecs::prefer_video(&codecs::announce_stereo(&told), self.video_codecs);
        Description { kind, sdp: parity::announce(&told) }
    }

    async fn remember_local(&self) {
        if let Some(current) = self.pc.current_local_description().await {
            self.set_local_ice(IceGeneration::of(&current.sdp));
        }
    }

    fn set_local_ice(&self, generation: IceGeneration) {
        let mut local = self.local_ice.lock().unwrap_or_else(PoisonError::into_inner);
        if *local != generation {
            self.session.restart_ice();
            self.session.direct.local_description(generation.ufrag().unwrap_or_default());
            *local = generation;
        }
    }

    async fn add_to_stack(
        &self,
        negotiation: &mut Negotiation,
        candidate: Candidate,
    ) -> Result<(), RtcError> {
        if !negotiation.remote.as_ref().is_some_and(|remote| remote.includes(&candidate)) {
            tracing::debug!("candidate of another ICE generation ignored");
            return Ok(());
        }
        negotiation.candidates.admit(&candidate.candidate, self.policy)?;
        let Some(candidate) = self.session.tcp.filter(candidate) else { return Ok(()) };
        self.session.direct.remote_candidate(&candidate.candidate);
        tell_stack(self.pc.as_ref(), candidate).await
    }

    /// Both sides are described: if nothing connects, the stack hears of candidates of TCP.
    fn await_connection(&self) {
        let (session, pc) = (self.session.clone(), self.pc.clone());
        tokio::spawn(async move {
            for candidate in session.tcp.needed(|| session.direct.is_selected()).await {
                tracing::debug!(candidate.candidate, "nothing else connects");
                if let Err(error) = tell_stack(pc.as_ref(), candidate).await {
                    tracing::warn!(%error, "candidate of TCP refused");
                }
            }
        });
    }

    /// Both descriptions are set: what is sent and received from now on. `our_part` is what ours is.
    async fn settle(&self, negotiation: &mut Negotiation, our_part: SdpKind) {
        let (local, remote) = (&negotiation.local, &negotiation.remote_sdp);
        let ((_, ours), (_, theirs)) = (sdp::split(local), sdp::split(remote));
        let answer = if our_part == SdpKind::Offer { &theirs } else { &ours };
        let transport_cc = answer.iter().find_map(|s| s.extension(TRANSPORT_CC_URI));
        self.session.transport_cc.store(transport_cc.unwrap_or(0), Ordering::Relaxed);
        // Sections correspond by their place (RFC 3264 §6).
        let pair = |media| {
            let mut pairs = ours.iter().zip(&theirs);
            pairs.find(|(ours, theirs)| is_used(**ours, media) && is_used(**theirs, media))
        };
        let (audio_pair, video) = (pair("audio"), pair("video"));

        let (mut opus, mut carriers) = (None, Vec::new());
        for transceiver in self.pc.get_transceivers().await {
            let Ok(Some(sender)) = transceiver.sender().await else { continue };
            let Ok(parameters) = sender.get_parameters().await else { continue };
            let codecs = parameters.rtp_parameters.codecs;
            match sender.track().kind().await {
                RtpCodecKind::Audio if audio_pair.is_some_and(sends) => {
                    opus = find(&codecs, "opus").map(|codec| codec.payload_type);
                }
                RtpCodecKind::Video => carriers = codecs,
                _ => {}
            }
        }
        self.session.set_audio_types(audio_pair.map(|(ours, theirs)| AudioTypes {
            sent: theirs.audio_formats(),
            received: ours.audio_formats(),
            wishes: theirs.opus_wishes(),
        }));
        self.audio.set_payload_type(opus);

        let carrier = |codec: VideoCodec| Some(find(&carriers, codec.as_str())?.payload_type);
        let sent = video.map(|(ours, theirs)| sent_types(*ours, *theirs, carrier));
        let sent = sent.unwrap_or_default();
        self.session.video_types().settle(video.map(|(ours, _)| *ours));
        self.video.set_types(if video.is_some_and(sends) { &sent } else { &[] });
        let codecs: VideoCodecs = sent.iter().map(|sent| sent.codec).collect();
        if negotiation.told_codecs.replace(codecs) != Some(codecs) {
            self.session.emit(PeerEvent::VideoCodecs(codecs));
        }
    }
}

/// Whether a section of this kind of media is more than a rejection.
fn is_used(section: Section<'_>, media: &str) -> bool {
    section.media() == media && !section.is_rejected()
}

/// Whether we send: our section and the remote peer's say so.
fn sends((ours, theirs): (&Section<'_>, &Section<'_>)) -> bool {
    let direction = |section: &Section<'_>| section.direction().unwrap_or(Direction::SendRecv);
    direction(ours).sends() && direction(theirs).receives()
}

/// The codec of this name.
fn find<'a>(codecs: &'a [RTCRtpCodecParameters], name: &str) -> Option<&'a RTCRtpCodecParameters> {
    codecs.iter().find(|codec| {
        let (_, theirs) = codec.rtp_codec.mime_type.split_once('/').unwrap_or_default();
        theirs.eq_ignore_ascii_case(name)
    })
}

/// Gives the stack a candidate of the other side.
async fn tell_stack(pc: &dyn PeerConnection, candidate: Candidate) -> Result<(), RtcError> {
    let init = RTCIceCandidateInit {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_mline_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
        url: None,
    };
    guarded("adding a candidate", pc.add_ice_candidate(init)).await.map_err(|e| match e {
        RtcError::Stack { message, .. } => RtcError::InvalidCandidate(message),
        other => other,
    })
}

/// Runs an operation of the stack; a panic on the remote side's input becomes an error.
async fn guarded<T>(
    operation: &'static str,
    run: impl Future<Output = Result<T, webrtc::error::Error>>,
) -> Result<T, RtcError> {
    // The stack's locks are not poisoned by a panic; after one the connection is given up.
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(result) => result.map_err(RtcError::stack(operation)),
        Err(_) => Err(RtcError::Broken { operation }),
    }
}

/// Chromium's offers with all codecs take about 10 kB.
const MAX_SDP_BYTES: usize = 128 * 1024;
/// Candidates that may come before the first description.
const MAX_EARLY_CANDIDATES: usize = 64;
