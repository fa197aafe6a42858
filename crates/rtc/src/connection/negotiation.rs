//! The exchange of descriptions and candidates: W3C `setLocalDescription()` and its kin, with what the stack
//! lacks around them.

use std::time::Instant;

use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::peer_connection::sdp::{RTCSdpType, RTCSessionDescription};
use rtc::rtp_transceiver::rtp_sender::RTCRtpCodecParameters;
use rtc::shared::error::Error;
use visavis_ice::{Credentials, IceError, Input, RemoteDescription, Role as IceRole};
use visavis_media::VideoCodec;

use super::stack::{from_stack, to_stack};
use super::{ACCEPT_TCP_AFTER, Connection, early_dtls};
use crate::answer::{self, Role};
use crate::codecs;
use crate::congestion::TRANSPORT_CC_URI;
use crate::error::RtcError;
use crate::parity;
use crate::payload_types::{VideoCodecs, sent_types};
use crate::sdp::{self, Direction, Section};
use crate::sections::Sections;
use crate::session::AudioTypes;
use crate::types::{Candidate, Description, IceGatheringState, MediaKind, PeerEvent, SdpKind};

/// What belongs to the exchange of descriptions.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    /// The remote peer's ICE user name fragment; `None` before its first description.
    remote_ufrag: Option<String>,
    /// What `remote_ufrag` and `sections` were before the pending remote offer.
    before_offer: Option<(Option<String>, Sections)>,
    /// What the stack is told otherwise.
    sections: Sections,
    /// Candidates that came before the description they belong to.
    early: Vec<Candidate>,
    /// An own offer to restart ICE that is applied with its answer.
    held_offer: Option<RTCSessionDescription>,
    /// Ours in DTLS, once it is settled.
    role: Option<Role>,
    /// Our last description and the remote peer's, as they are signaled.
    local: String,
    remote: String,
    /// The video codecs that were told last.
    told_codecs: Option<VideoCodecs>,
}

impl Negotiation {
    /// `a=mid` of our first section, to which bundled candidates belong.
    pub(super) fn first_local_mid(&self) -> Option<&str> {
        sdp::bundled(&self.local, "a=mid:")
    }
}

impl Connection {
    /// Makes an offer and sets it as the local description (W3C `setLocalDescription()`). With `ice_restart`
    /// media goes on by the old pair until a new one is selected.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `stable`.
    pub(crate) fn create_offer(
        &mut self,
        now: Instant,
        ice_restart: bool,
    ) -> Result<Description, RtcError> {
        // Its credentials are those of the agent already.
        let restarts = self.negotiation.held_offer.take().is_some();
        let offer = self.make_offer(now, ice_restart && !restarts)?;
        self.apply_local(now, offer, SdpKind::Offer)
    }

    /// Makes an offer with an ICE restart that becomes the local description only by [`Connection::set_remote`] with
    /// its answer. Another offer, ours or theirs, or [`Connection::rollback`] drops it.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] if the stack makes none.
    pub(crate) fn offer_restart(&mut self, now: Instant) -> Result<Description, RtcError> {
        let restarts = self.negotiation.held_offer.take().is_some();
        let offer = self.make_offer(now, !restarts)?;
        let told = self.told(SdpKind::Offer, &offer.sdp);
        self.negotiation.held_offer = Some(offer);
        self.gather();
        Ok(told)
    }

    fn make_offer(
        &mut self,
        now: Instant,
        ice_restart: bool,
    ) -> Result<RTCSessionDescription, RtcError> {
        self.paths.agent.set_role(IceRole::Controlling);
        let options = RTCOfferOptions { ice_restart: false };
        let offer = self
            .stack
            .pc
            .create_offer(Some(options))
            .map_err(RtcError::stack("creating an offer"))?;
        if ice_restart {
            self.ice_input(now, Input::Restart);
        }
        Ok(offer)
    }

    /// Makes the answer to the remote offer and sets it as the local description.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] in any signaling state but `have-remote-offer`.
    pub(crate) fn create_answer(&mut self, now: Instant) -> Result<Description, RtcError> {
        let made =
            self.stack.pc.create_answer(None).map_err(RtcError::stack("creating an answer"))?;
        let mut description = self.apply_local(now, made, SdpKind::Answer)?;
        description.sdp = answer::with_one_of_each(&description.sdp);
        match self.negotiation.role {
            Some(role) => description.sdp = role.put_into(&description.sdp),
            None => self.negotiation.role = Role::of(&description.sdp),
        }
        self.negotiation.before_offer = None;
        self.negotiation.local.clone_from(&description.sdp);
        self.settle(SdpKind::Answer);
        self.start_stack(now);
        if early_dtls::is_taken(&self.negotiation.remote) && self.handshake.has_unsent() {
            let flight = self.handshake.unsent(now, None);
            description.sdp = early_dtls::put_into(&description.sdp, &flight);
        }
        Ok(description)
    }

    /// Sets the remote description and then adds the candidates that came before it.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidDescription`] if it cannot be parsed, [`RtcError::Stack`] if it does not
    /// fit: an offer while ours is pending wants [`Connection::rollback`] first.
    pub(crate) fn set_remote(
        &mut self,
        now: Instant,
        description: Description,
    ) -> Result<(), RtcError> {
        let Description { kind, sdp } = description;
        if sdp.len() > MAX_SDP_BYTES {
            return Err(RtcError::InvalidDescription("too long".into()));
        }
        if let Some(offer) = self.negotiation.held_offer.take() {
            if kind == SdpKind::Answer {
                self.apply_local(now, offer, SdpKind::Offer)?;
            } else {
                self.ice_input(now, Input::CancelRestart);
            }
        }
        let ice = ice_description(&sdp)?;
        let ufrag = ice.credentials.ufrag().to_owned();
        let parity = parity::is_announced(&sdp);
        let sections_before = self.negotiation.sections.clone();
        let local = std::mem::take(&mut self.negotiation.local);
        let rewritten =
            self.negotiation.sections.remote(&to_stack(&sdp), kind, &local, self.video_codecs);
        self.negotiation.local = local;
        if let Err(error) = self.apply_remote(now, kind, rewritten) {
            self.negotiation.sections = sections_before;
            return Err(error);
        }
        if kind == SdpKind::Offer {
            self.paths.agent.set_role(IceRole::Controlled);
        }
        self.ssrcs.announce(&sdp);
        self.session.parity.store(parity, std::sync::atomic::Ordering::Relaxed);
        // One odd candidate is no reason to refuse a description.
        self.ice_input(now, Input::RemoteDescription(ice));
        self.accept_tcp_at.get_or_insert(now + ACCEPT_TCP_AFTER);
        let previous = self.negotiation.remote_ufrag.replace(ufrag);
        self.negotiation.before_offer =
            (kind == SdpKind::Offer).then_some((previous, sections_before));
        self.negotiation.remote = sdp;
        for candidate in std::mem::take(&mut self.negotiation.early) {
            if let Err(error) = self.add_candidate(now, candidate) {
                tracing::warn!(%error, "early candidate refused");
            }
        }
        if kind == SdpKind::Answer {
            let role = Role::of(&self.negotiation.remote).map(Role::other);
            self.negotiation.role = self.negotiation.role.or(role);
            self.settle(SdpKind::Offer);
            if !self.stack.is_started {
                self.early.extend(early_dtls::of(&self.negotiation.remote));
            }
            self.start_stack(now);
        }
        Ok(())
    }

    fn apply_remote(&mut self, now: Instant, kind: SdpKind, sdp: String) -> Result<(), RtcError> {
        let parsed = match kind {
            SdpKind::Offer => RTCSessionDescription::offer(sdp),
            SdpKind::Answer => RTCSessionDescription::answer(sdp),
        };
        let parsed = parsed.map_err(|e| RtcError::InvalidDescription(e.to_string()))?;
        self.stack
            .pc
            .set_remote_description(now, parsed)
            .map_err(RtcError::stack("applying the remote description"))
    }

    /// Takes back the pending offer, ours or theirs (W3C rollback).
    ///
    /// # Errors
    ///
    /// [`RtcError::NothingPending`] if there is none.
    pub(crate) fn rollback(&mut self, now: Instant) -> Result<(), RtcError> {
        if self.negotiation.held_offer.take().is_some() {
            self.ice_input(now, Input::CancelRestart);
            return Ok(());
        }
        let mut rollback = RTCSessionDescription::default();
        rollback.sdp_type = RTCSdpType::Rollback;
        let rolling_back =
            |result: Result<(), Error>| result.map_err(RtcError::stack("rolling back"));
        if self.stack.pc.pending_local_description().is_some() {
            rolling_back(self.stack.pc.set_local_description(now, rollback))?;
            self.ice_input(now, Input::CancelRestart);
            if self.negotiation.remote_ufrag.is_none() {
                self.negotiation.sections = Sections::default();
            }
        } else if self.stack.pc.pending_remote_description().is_some() {
            rolling_back(self.stack.pc.set_remote_description(now, rollback))?;
            if let Some((remote, sections)) = self.negotiation.before_offer.take() {
                (self.negotiation.remote_ufrag, self.negotiation.sections) = (remote, sections);
            }
        } else {
            return Err(RtcError::NothingPending);
        }
        Ok(())
    }

    /// Adds a remote candidate, or keeps it until there is a remote description. Candidates of an older ICE
    /// generation, those of no use and the end-of-candidates mark are accepted and ignored.
    ///
    /// # Errors
    ///
    /// [`RtcError::InvalidCandidate`] if it is malformed, [`RtcError::TooManyCandidates`].
    pub(crate) fn add_candidate(
        &mut self,
        now: Instant,
        candidate: Candidate,
    ) -> Result<(), RtcError> {
        if candidate.candidate.is_empty() {
            return Ok(());
        }
        let mut parsed = visavis_ice::Candidate::parse(&candidate.candidate)
            .map_err(|e| RtcError::InvalidCandidate(e.to_string()))?;
        if self.negotiation.remote_ufrag.is_none() {
            if self.negotiation.early.len() >= MAX_EARLY_CANDIDATES {
                return Err(RtcError::TooManyCandidates);
            }
            self.negotiation.early.push(candidate);
            return Ok(());
        }
        if let Some(ufrag) = candidate.username_fragment
            && parsed.extension("ufrag").is_none()
        {
            parsed.extensions.push(("ufrag".to_owned(), ufrag));
        }
        match self.paths.agent.handle_input(now, Input::RemoteCandidate(parsed)) {
            Ok(()) => Ok(()),
            Err(IceError::TooManyCandidates { .. }) => Err(RtcError::TooManyCandidates),
            Err(error @ (IceError::InvalidCandidate(_) | IceError::AddressNotDialled(_))) => {
                Err(RtcError::InvalidCandidate(error.to_string()))
            }
            Err(error) => {
                tracing::debug!(%error, "a candidate is not used");
                Ok(())
            }
        }
    }

    fn ice_input(&mut self, now: Instant, input: Input) {
        if let Err(error) = self.paths.agent.handle_input(now, input) {
            tracing::debug!(%error, "not all of it is used by ICE");
        }
    }

    fn gather(&mut self) {
        if self.gathering != IceGatheringState::Gathering {
            self.gathering = IceGatheringState::Gathering;
            self.session.emit(PeerEvent::IceGatheringState(self.gathering));
        }
        self.outputs.push_back(super::Output::Gather);
    }

    fn apply_local(
        &mut self,
        now: Instant,
        description: RTCSessionDescription,
        kind: SdpKind,
    ) -> Result<Description, RtcError> {
        let sdp = description.sdp.clone();
        self.stack
            .pc
            .set_local_description(now, description)
            .map_err(RtcError::stack("applying the local description"))?;
        let told = self.told(kind, &sdp);
        if kind == SdpKind::Offer {
            // The remote peer may send as soon as it has answered.
            let (_, sections) = sdp::split(&told.sdp);
            if let Some(video) = sections.into_iter().find(|section| is_used(*section, "video")) {
                self.session.video_types().offer(video);
            }
            self.negotiation.local.clone_from(&told.sdp);
        }
        let generation = self.paths.agent.local_credentials().ufrag().to_owned();
        if self.gathered_for.as_ref() != Some(&generation) {
            self.gathered_for = Some(generation);
            self.gather();
        }
        Ok(told)
    }

    /// A description as the remote peer gets it.
    fn told(&mut self, kind: SdpKind, sdp: &str) -> Description {
        let mut told = self.negotiation.sections.local(sdp, kind);
        if kind == SdpKind::Answer {
            told = sdp::with_numbers_of(&told, &self.negotiation.remote);
        }
        let agent = &self.paths.agent;
        let ended = self.gathering == IceGatheringState::Complete;
        let told = from_stack(&told, agent.local_credentials(), agent.local_candidates(), ended);
        let told = codecs::prefer_red(&told);
        let told = codecs::prefer_video(&codecs::announce_stereo(&told), self.video_codecs);
        let told = if kind == SdpKind::Offer { early_dtls::announce(&told) } else { told };
        Description { kind, sdp: parity::announce(&told) }
    }

    /// Both descriptions are set: what is sent and received from now on. `our_part` is what ours is.
    fn settle(&mut self, our_part: SdpKind) {
        let (local, remote) = (&self.negotiation.local, &self.negotiation.remote);
        let ((_, ours), (_, theirs)) = (sdp::split(local), sdp::split(remote));
        let answer = if our_part == SdpKind::Offer { &theirs } else { &ours };
        let transport_cc = answer.iter().find_map(|s| s.extension(TRANSPORT_CC_URI));
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        self.session.transport_cc.store(transport_cc.unwrap_or(0), relaxed);
        // Sections correspond by their place (RFC 3264 §6).
        let pair = |media| {
            let mut pairs = ours.iter().zip(&theirs);
            pairs.find(|(ours, theirs)| is_used(**ours, media) && is_used(**theirs, media))
        };
        let (audio, video) = (pair("audio"), pair("video"));
        let mut parameters = |kind| -> Vec<RTCRtpCodecParameters> {
            let sender = self.stack.sender(kind);
            let Some(mut sender) = self.stack.pc.rtp_sender(sender) else { return Vec::new() };
            sender.get_parameters().rtp_parameters.codecs.clone()
        };
        let opus = audio.filter(|pair| sends(*pair)).and_then(|_| {
            find(&parameters(MediaKind::Audio), "opus").map(|codec| codec.payload_type)
        });
        let carriers = parameters(MediaKind::Video);
        self.session.set_audio_types(audio.map(|(ours, theirs)| AudioTypes {
            sent: theirs.audio_formats(),
            received: ours.audio_formats(),
            wishes: theirs.opus_wishes(),
        }));
        self.session.set_audio_carrier(opus);

        let carrier = |codec: VideoCodec| Some(find(&carriers, codec.as_str())?.payload_type);
        let sent = video.map(|(ours, theirs)| sent_types(*ours, *theirs, carrier));
        let sent = sent.unwrap_or_default();
        self.session.video_types().settle(video.map(|(ours, _)| *ours));
        self.session.set_sent_video(if video.is_some_and(sends) { &sent } else { &[] });
        let codecs: VideoCodecs = sent.iter().map(|sent| sent.codec).collect();
        if self.negotiation.told_codecs.replace(codecs) != Some(codecs) {
            self.session.emit(PeerEvent::VideoCodecs(codecs));
        }
    }
}

/// ICE in a description (RFC 8839): credentials and candidates of what is bundled.
pub(crate) fn ice_description(sdp: &str) -> Result<RemoteDescription, RtcError> {
    let of_bundle = |name| sdp::bundled(sdp, name).unwrap_or_default();
    let credentials = Credentials::new(of_bundle("a=ice-ufrag:"), of_bundle("a=ice-pwd:"))
        .map_err(|e| RtcError::InvalidDescription(e.to_string()))?;
    let options = |option| {
        sdp.lines()
            .filter_map(|line| line.strip_prefix("a=ice-options:"))
            .any(|options| options.split_ascii_whitespace().any(|known| known == option))
    };
    let candidates = sdp.lines().filter(|line| line.starts_with("a=candidate:"));
    let parse = |line: &str| {
        visavis_ice::Candidate::parse(line)
            .inspect_err(|error| tracing::debug!(%error, "a candidate is left out"))
            .ok()
    };
    Ok(RemoteDescription {
        credentials,
        lite: sdp.lines().any(|line| line.trim_end() == "a=ice-lite"),
        renomination: options("renomination"),
        // Those of a thousand lines would each be looked at.
        candidates: candidates
            .take(2 * visavis_ice::MAX_REMOTE_CANDIDATES)
            .filter_map(parse)
            .collect(),
    })
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

/// Chromium's offers with all codecs take about 10 kB.
const MAX_SDP_BYTES: usize = 128 * 1024;
/// Candidates that may come before the first description.
const MAX_EARLY_CANDIDATES: usize = 64;
