//! The `rtc` crate's peer connection: SDP, DTLS, SRTP, SCTP and RTP. Sans-IO.
//!
//! Its own ICE is a formality. It knows one pair of addresses that no packet ever has, controls, and gets the
//! answers to its checks here. So it never restarts and never loses its path; which path a datagram takes is
//! decided above, by the agent of [`visavis_ice`]. Accordingly its descriptions have neither our credentials nor our
//! candidates: [`to_stack`] and [`from_stack`] exchange them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::crypto::default_provider;
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Registry;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::state::RTCIceConnectionState;
use rtc::peer_connection::transport::{
    CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate, RTCIceCandidateInit,
};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter};
use rtc::stun::xoraddr::XorMappedAddress;
use visavis_ice::{Candidate, Credentials};

use crate::codecs;
use crate::error::RtcError;
use crate::session::LocalStreams;
use crate::types::MediaKind;

/// The peer connection with what it was made with.
pub(super) struct Stack {
    pub(super) pc: RTCPeerConnection,
    audio: RTCRtpSenderId,
    video: RTCRtpSenderId,
    channel: RTCDataChannelId,
    has_candidates: bool,
    /// Whether its ICE is connected: before, it takes nothing.
    pub(super) is_started: bool,
    /// What it had to say when it started.
    datagrams: VecDeque<BytesMut>,
    events: VecDeque<RTCPeerConnectionEvent>,
}

impl Stack {
    pub(super) fn new(
        now: Instant,
        media_engine: MediaEngine,
        interceptors: Registry,
        local: LocalStreams,
    ) -> Result<Self, RtcError> {
        let settings = SettingEngineBuilder::default()
            .with_ice_credentials(STACK_UFRAG.into(), STACK_PASSWORD.into())
            .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MAX_BINDING_REQUESTS))
            .with_ice_timeouts(Some(Duration::ZERO), Some(Duration::ZERO), Some(KEEPALIVE))
            .with_host_acceptance_min_wait(Some(Duration::ZERO))
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            // By itself it would be the server of a remote side that is lite.
            .with_answering_dtls_role(RTCDtlsRole::Client)
            .build();
        let mut pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media_engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(interceptors)
            .build(now)
            .map_err(RtcError::stack("creating the connection"))?;
        let mut add_track = |kind| {
            pc.add_track(codecs::local_track(kind, local))
                .map_err(RtcError::stack("adding a track"))
        };
        let (audio, video) = (add_track(MediaKind::Audio)?, add_track(MediaKind::Video)?);
        let init = RTCDataChannelInit {
            ordered: true,
            negotiated: Some(CHANNEL_ID),
            ..Default::default()
        };
        let channel = pc
            .create_data_channel(CHANNEL_LABEL, Some(init))
            .map_err(RtcError::stack("creating the data channel"))?
            .id();
        Ok(Self {
            pc,
            audio,
            video,
            channel,
            has_candidates: false,
            is_started: false,
            datagrams: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    pub(super) fn sender(&self, kind: MediaKind) -> RTCRtpSenderId {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }

    pub(super) fn channel(&self) -> RTCDataChannelId {
        self.channel
    }

    /// Once both sides are described, connects the stack's ICE, upon which a client of DTLS makes its first flight.
    /// True if that happened now.
    pub(super) fn start(&mut self, now: Instant) -> Result<bool, Error> {
        let described =
            self.pc.local_description().is_some() && self.pc.remote_description().is_some();
        if !described || std::mem::replace(&mut self.has_candidates, true) {
            return Ok(false);
        }
        self.pc.add_local_candidate(candidate(VIRTUAL_LOCAL)?)?;
        self.pc.add_remote_candidate(candidate(VIRTUAL_REMOTE)?)?;
        for tick in 1..MAX_TICKS {
            let at = now + CHECK_INTERVAL * tick;
            // A client's first flight is made at the tick after.
            let was_started = self.is_started;
            self.pc.handle_timeout(at)?;
            while let Some(datagram) = self.next_datagram(at) {
                self.datagrams.push_back(datagram);
            }
            if was_started {
                return Ok(true);
            }
            while let Some(event) = self.pc.poll_event() {
                self.is_started |= matches!(
                    event,
                    RTCPeerConnectionEvent::OnIceConnectionStateChangeEvent(
                        RTCIceConnectionState::Connected
                    )
                );
                self.events.push_back(event);
            }
        }
        Err(Error::Other("its ICE does not connect".into()))
    }

    /// DTLS, SRTP or SRTCP came from the remote peer.
    pub(super) fn receive(&mut self, now: Instant, bytes: BytesMut) {
        if let Err(error) = self.pc.handle_read(tagged(now, bytes)) {
            tracing::debug!(%error, "a datagram was refused by the stack");
        }
    }

    /// The next DTLS, SRTP or SRTCP for the remote peer. The checks of the stack's own ICE are answered.
    pub(super) fn poll_datagram(&mut self, now: Instant) -> Option<BytesMut> {
        self.datagrams.pop_front().or_else(|| self.next_datagram(now))
    }

    fn next_datagram(&mut self, now: Instant) -> Option<BytesMut> {
        while let Some(sent) = self.pc.poll_write() {
            let datagram = sent.message;
            if datagram.first().is_none_or(|first| *first >= 4) {
                return Some(datagram);
            }
            if let Some(answer) = answer(&datagram) {
                self.receive(now, answer);
            }
        }
        None
    }

    pub(super) fn poll_event(&mut self) -> Option<RTCPeerConnectionEvent> {
        self.events.pop_front().or_else(|| self.pc.poll_event())
    }
}

fn tagged(now: Instant, message: BytesMut) -> TaggedBytesMut {
    let transport = TransportContext {
        local_addr: VIRTUAL_LOCAL,
        peer_addr: VIRTUAL_REMOTE,
        ecn: None,
        transport_protocol: TransportProtocol::UDP,
    };
    TaggedBytesMut { now, transport, message }
}

fn candidate(address: SocketAddr) -> Result<RTCIceCandidateInit, Error> {
    let host = CandidateHostConfig {
        base_config: CandidateConfig {
            network: "udp".into(),
            address: address.ip().to_string(),
            port: address.port(),
            component: 1,
            ..Default::default()
        },
        ..Default::default()
    };
    RTCIceCandidate::from(&host.new_candidate_host()?).to_json()
}

/// The answer that the remote side of the stack's pair would give to a check.
fn answer(check: &[u8]) -> Option<BytesMut> {
    let mut request = Message { raw: check.to_vec(), ..Message::default() };
    request.decode().ok().filter(|()| request.typ == BINDING_REQUEST)?;
    let mapped = XorMappedAddress { ip: VIRTUAL_LOCAL.ip(), port: VIRTUAL_LOCAL.port() };
    let mut answer = Message::new();
    answer
        .build(&[Box::new(BINDING_SUCCESS), Box::new(request.transaction_id), Box::new(mapped)])
        .ok()?;
    let crypto = default_provider().ok()?;
    let password = STACK_PASSWORD.to_owned();
    MessageIntegrity::new_short_term_integrity_with_provider(password, crypto.crypto())
        .add_to(&mut answer)
        .ok()?;
    FINGERPRINT.add_to(&mut answer).ok()?;
    Some(BytesMut::from(&answer.raw[..]))
}

/// A remote description for the stack: with the credentials of its own formality, and a remote side that is lite, so
/// that the stack controls and nominates.
pub(crate) fn to_stack(sdp: &str) -> String {
    let ice = [
        "a=ice-ufrag:",
        "a=ice-pwd:",
        "a=ice-lite",
        "a=ice-options:",
        "a=candidate:",
        "a=end-of-candidates",
        "a=remote-candidates:",
    ];
    let mut out = String::with_capacity(sdp.len() + 128);
    let mut in_session = true;
    let credentials = format!(
        "a=ice-lite\r\na=ice-options:trickle\r\na=ice-ufrag:{STACK_UFRAG}\r\na=ice-pwd:{STACK_PASSWORD}\r\n"
    );
    for line in sdp.split_inclusive('\n') {
        if in_session && line.starts_with("m=") {
            out.push_str(&credentials);
            in_session = false;
        }
        if !ice.iter().any(|name| line.starts_with(name)) {
            out.push_str(line);
        }
    }
    if in_session {
        out.push_str(&credentials);
    }
    out
}

/// One of the stack's descriptions with what ICE really has: `credentials`, and `candidates` in its first section
/// that is not rejected.
pub(crate) fn from_stack<'a>(
    sdp: &str,
    credentials: &Credentials,
    candidates: impl Iterator<Item = &'a Candidate>,
    ended: bool,
) -> String {
    let mut lines: String = candidates.map(|candidate| format!("a={candidate}\r\n")).collect();
    if ended {
        lines.push_str("a=end-of-candidates\r\n");
    }
    let mut out = String::with_capacity(sdp.len() + lines.len() + 256);
    for line in sdp.split_inclusive('\n') {
        if line.starts_with("a=ice-ufrag:") {
            out.push_str(&format!("a=ice-ufrag:{}\r\n", credentials.ufrag()));
        } else if line.starts_with("a=ice-pwd:") {
            out.push_str(&format!("a=ice-pwd:{}\r\n", credentials.password()));
            out.push_str("a=ice-options:trickle renomination\r\n");
            out.push_str(&std::mem::take(&mut lines));
        } else if !["a=candidate:", "a=end-of-candidates", "a=ice-options:"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            out.push_str(line);
        }
    }
    out
}

/// Of the formality; no description that is signaled has them and no packet on the network.
const STACK_UFRAG: &str = "stack";
const STACK_PASSWORD: &str = "the-stack-s-own-formality";
/// Documentation addresses (RFC 5737).
const VIRTUAL_LOCAL: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);
const VIRTUAL_REMOTE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)), 9);
/// The formality takes two or three ticks, one after the other without waiting.
const CHECK_INTERVAL: Duration = Duration::from_micros(1);
const MAX_TICKS: u32 = 20;
const MAX_BINDING_REQUESTS: u16 = 1000;
const KEEPALIVE: Duration = Duration::from_secs(3600);
/// The label of the data channel, negotiated as [`CHANNEL_ID`] by both sides.
const CHANNEL_LABEL: &str = "visavis";
const CHANNEL_ID: u16 = 0;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ice_in_descriptions_is_exchanged_and_nothing_else() {
        let credentials = Credentials::new("abcd", "a-password-of-22-chars").unwrap();
        let candidate = Candidate::parse("candidate:1 1 udp 2130706431 192.0.2.7 4000 typ host");
        let sdp = "v=0\r\na=group:BUNDLE 0 1\r\nm=audio 9 X 0\r\na=mid:0\r\na=ice-ufrag:stack\r\n\
                   a=ice-pwd:p\r\na=candidate:7 1 udp 1 192.0.2.1 9 typ host\r\nm=video 9 X 0\r\n\
                   a=mid:1\r\na=ice-ufrag:stack\r\na=ice-pwd:p\r\n";
        let told = from_stack(sdp, &credentials, [candidate.unwrap()].iter(), true);
        assert_eq!(
            told,
            "v=0\r\na=group:BUNDLE 0 1\r\nm=audio 9 X 0\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
             a=ice-pwd:a-password-of-22-chars\r\na=ice-options:trickle renomination\r\n\
             a=candidate:1 1 udp 2130706431 192.0.2.7 4000 typ host\r\na=end-of-candidates\r\n\
             m=video 9 X 0\r\na=mid:1\r\na=ice-ufrag:abcd\r\na=ice-pwd:a-password-of-22-chars\r\n\
             a=ice-options:trickle renomination\r\n"
        );
        let back = to_stack(&told);
        assert!(!back.contains("abcd") && !back.contains("192.0.2.7"), "{back}");
        assert!(back.contains("a=ice-lite\r\n") && back.contains("a=mid:1\r\n"), "{back}");
        assert_eq!(back.matches("a=ice-ufrag:stack\r\n").count(), 1);
    }
}
