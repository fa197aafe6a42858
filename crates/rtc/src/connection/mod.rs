//! One connection to one remote peer as a state machine: ICE, DTLS, SRTP, SCTP, RTP and the exchange of
//! descriptions. No socket, no clock, no task and no lock of its own: whoever owns it gives datagrams and the time,
//! and takes datagrams and a deadline ([`Connection::poll_output`]).
//!
//! A packet that comes: `receive` (is it the remote peer's?) -> `on_data` (what is it?) -> [`stack`] -> the
//! interceptors, of which the last one hands it to the application. A frame that goes: `write_rtp` -> the
//! interceptors, of which the first one cuts it up and the pacer says when -> `flush` -> `Paths::send`.

mod early_dtls;
mod handshake;
mod negotiation;
mod paths;
mod servers;
mod stack;
#[cfg(test)]
mod tests;
mod view;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::{RTCPeerConnectionState, RTCSignalingState};
use rtc::sansio::Protocol;
use visavis_ice::{Event, Input, LocalName, NominationReason, PathClass, SelectedPair, State};

#[cfg(test)]
pub(crate) use paths::Random;
pub(crate) use paths::{Endpoint, OpenRelay, RandomFactory, RelayId, Transmit};
pub(crate) use servers::Server;
#[cfg(any(test, fuzzing))]
pub(crate) use {
    negotiation::ice_description,
    stack::{from_stack, to_stack},
};

use crate::codecs;
use crate::error::RtcError;
use crate::guard::{HandshakePhase, Records, Ssrcs, is_dtls, is_media};
use crate::payload_types::VideoCodecs;
use crate::receive::RtpCallback;
use crate::session::Session;
use crate::types::{
    AddressPolicy, Candidate, DtlsState, IceConnectionState, IceGatheringState, MediaKind,
    PeerConnectionState, PeerEvent, SignalingState,
};
use handshake::DtlsRetransmission;
use negotiation::Negotiation;
use paths::{Incoming, Paths, PathsOutput};
use stack::Stack;

/// How a connection is set up.
pub(crate) struct ConnectionConfig {
    pub(crate) policy: AddressPolicy,
    pub(crate) servers: Vec<Server>,
    pub(crate) video_codecs: VideoCodecs,
    pub(crate) video_rtp: RtpCallback,
    pub(crate) audio_rtp: RtpCallback,
    /// The first sequence numbers of audio and video.
    pub(crate) sequences: (u16, u16),
    /// For credentials and transactions; has to be unpredictable outside of tests.
    pub(crate) random: RandomFactory,
    #[cfg(test)]
    pub(crate) lose: Option<crate::loss_tests::Lottery>,
}

/// What a connection wants of who owns it.
#[derive(Debug)]
pub(crate) enum Output {
    /// A datagram, or a message of a stream.
    Transmit(Transmit),
    /// This machine's addresses are to be found, bound and given, and the servers' names looked up.
    Gather,
    /// A stream to a relay is to be opened.
    OpenRelay(OpenRelay),
    /// A stream to a relay is of no more use.
    CloseRelay(RelayId),
    /// Connections over TCP are to be taken: nothing else connects.
    AcceptTcp,
    /// A name is to be asked for by multicast DNS.
    ResolveName(LocalName),
    /// Nothing more now: [`Connection::handle_timeout`] is due by then.
    Deadline(Option<Instant>),
}

pub(crate) struct Connection {
    session: Arc<Session>,
    stack: Stack,
    pub(crate) paths: Paths,
    video_codecs: VideoCodecs,
    negotiation: Negotiation,
    handshake: DtlsRetransmission,
    records: Option<Records>,
    ssrcs: Ssrcs,
    /// DTLS of the remote peer that came before the stack's ICE was connected.
    early: Vec<BytesMut>,
    outputs: VecDeque<Output>,
    messages: VecDeque<String>,
    channel_open: bool,
    unasked_channels: usize,
    ice_state: IceConnectionState,
    gathering: IceGatheringState,
    signaling: SignalingState,
    state: PeerConnectionState,
    dtls: DtlsState,
    selected: Option<SelectedPair>,
    selections: u32,
    /// When connections over TCP are taken if no pair is selected by then.
    accept_tcp_at: Option<Instant>,
    /// Our user name fragment when candidates were gathered last.
    gathered_for: Option<String>,
    /// Whether the remote peer did what no honest one does; nothing is taken from it any more.
    shut: bool,
    closed: bool,
    stats: TransportCounters,
}

/// Datagrams of data, both ways.
#[derive(Debug, Clone, Copy, Default)]
struct TransportCounters {
    packets_sent: u64,
    bytes_sent: u64,
    packets_received: u64,
    bytes_received: u64,
    refused: u64,
}

impl Connection {
    /// A connection to which nothing was told yet.
    ///
    /// # Errors
    ///
    /// [`RtcError::Stack`] if the stack does not start.
    pub(crate) fn new(
        now: Instant,
        config: ConnectionConfig,
        session: Arc<Session>,
    ) -> Result<Self, RtcError> {
        let registry =
            codecs::interceptors(&session, config.video_rtp, config.audio_rtp, config.sequences);
        #[cfg(test)]
        let registry = crate::loss_tests::add_to(registry, config.lose);
        let engine = codecs::media_engine(config.video_codecs)?;
        let ice = visavis_ice::Config {
            addresses: match config.policy {
                AddressPolicy::All => visavis_ice::AddressPolicy::All,
                AddressPolicy::HideLocal => visavis_ice::AddressPolicy::HideLocal,
                AddressPolicy::RelayOnly => visavis_ice::AddressPolicy::RelayOnly,
            },
            ..visavis_ice::Config::default()
        };
        Ok(Self {
            stack: Stack::new(now, engine, registry, session.local)?,
            session,
            paths: Paths::new(ice, config.servers, config.random),
            video_codecs: config.video_codecs,
            negotiation: Negotiation::default(),
            handshake: DtlsRetransmission::default(),
            records: None,
            ssrcs: Ssrcs::default(),
            early: Vec::new(),
            outputs: VecDeque::new(),
            messages: VecDeque::new(),
            channel_open: false,
            unasked_channels: 0,
            ice_state: IceConnectionState::New,
            gathering: IceGatheringState::New,
            signaling: SignalingState::Stable,
            state: PeerConnectionState::New,
            dtls: DtlsState::New,
            selected: None,
            selections: 0,
            accept_tcp_at: None,
            gathered_for: None,
            shut: false,
            closed: false,
            stats: TransportCounters::default(),
        })
    }

    /// The servers whose names are to be looked up; their addresses go to [`Paths::server_addresses`].
    pub(crate) fn servers(&self) -> &[Server] {
        self.paths.servers()
    }

    /// Our ICE user name fragment.
    pub(crate) fn local_ufrag(&self) -> &str {
        self.paths.agent.local_credentials().ufrag()
    }

    /// Whether ICE has no path and looks for none.
    pub(crate) fn is_failed(&self) -> bool {
        self.ice_state == IceConnectionState::Failed
    }

    /// A datagram came from the network, or a message of a stream.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        endpoint: Endpoint,
        source: SocketAddr,
        mut bytes: BytesMut,
    ) {
        if self.shut || self.closed {
            self.stats.refused += 1;
            return;
        }
        match self.paths.receive(now, endpoint, source, &bytes) {
            Incoming::Taken => {}
            Incoming::Unproven => self.stats.refused += 1,
            Incoming::Data(part) => {
                bytes.truncate(part.end);
                let data = bytes.split_off(part.start);
                self.on_data(now, data);
            }
        }
    }

    /// DTLS or media of the remote peer. The stack takes more of both than it should.
    fn on_data(&mut self, now: Instant, data: BytesMut) {
        self.stats.packets_received += 1;
        self.stats.bytes_received += data.len() as u64;
        if is_dtls(&data) {
            if !self.stack.is_started {
                if self.early.len() < MAX_EARLY {
                    self.early.push(data);
                }
                return;
            }
            let phase = self.handshake_phase();
            self.handshake.on_receive(&data);
            if Records::passes_untouched(phase, &data) {
                self.stack.receive(now, data);
                return;
            }
            let records = self.records.get_or_insert_with(|| Records::new(now));
            let passed = records.filter(now, phase, &data);
            self.stats.refused += u64::from(passed.is_empty());
            for record in passed {
                self.stack.receive(now, BytesMut::from(&record[..]));
            }
        } else if is_media(&data) && self.ssrcs.admit(&data) {
            self.handshake.on_receive(&data);
            self.stack.receive(now, data);
        } else {
            self.stats.refused += 1;
        }
    }

    fn handshake_phase(&self) -> HandshakePhase {
        match (self.dtls == DtlsState::Connected, self.handshake.is_complete()) {
            (false, _) => HandshakePhase::UnderWay,
            (true, false) => HandshakePhase::LocallyComplete,
            (true, true) => HandshakePhase::Complete,
        }
    }

    /// Both sides are described: DTLS begins, and what came of it is looked at. The first flight of a client waits for a
    /// path, or goes by signaling.
    fn start_stack(&mut self, now: Instant) {
        match self.stack.start(now) {
            Ok(true) => {
                for data in std::mem::take(&mut self.early) {
                    self.on_data(now, data);
                }
                self.flush(now);
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the stack does not start"),
        }
    }

    /// Sends a frame as one oversized packet, which the packetizer cuts up.
    pub(crate) fn write_rtp(&mut self, now: Instant, kind: MediaKind, packet: rtc::rtp::Packet) {
        let sender = self.stack.sender(kind);
        if let Some(mut sender) = self.stack.pc.rtp_sender(sender)
            && let Err(error) = sender.write_rtp(now, packet)
        {
            tracing::debug!(%error, ?kind, "a frame was not sent");
        }
    }

    /// Sends RTCP about the remote video.
    pub(crate) fn write_rtcp(&mut self, now: Instant, packet: Box<dyn rtc::rtcp::Packet>) {
        let sender = self.stack.sender(MediaKind::Video);
        if let Some(mut sender) = self.stack.pc.rtp_sender(sender)
            && let Err(error) = sender.write_rtcp(now, vec![packet])
        {
            tracing::debug!(%error, "RTCP was not sent");
        }
    }

    /// Queues a text for the data channel; false when too many wait, or it is not open.
    pub(crate) fn send_message(&mut self, now: Instant, text: String) -> bool {
        if !self.channel_open || self.messages.len() >= MAX_MESSAGES {
            return false;
        }
        self.messages.push_back(text);
        self.send_messages(now);
        true
    }

    /// SCTP takes so much that it never holds more than a bounded number of bytes.
    fn send_messages(&mut self, now: Instant) {
        let channel = self.stack.channel();
        while let Some(text) = self.messages.front()
            && let Some(mut channel) = self.stack.pc.data_channel(channel)
            && channel.outstanding_bytes() + text.len() <= CHANNEL_BUFFER_BYTES
        {
            if let Err(error) = channel.send_text(now, text.as_str()) {
                tracing::warn!(%error, "data channel message not sent");
            }
            self.messages.pop_front();
        }
    }

    /// Whether time passes for the stack. Its handshake, which is given up after some seconds, begins before there is a
    /// path.
    fn has_stack_time(&self) -> bool {
        self.dtls == DtlsState::Connected || self.paths.is_open()
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.paths.handle_timeout(now);
        if self.has_stack_time()
            && let Err(error) = self.stack.pc.handle_timeout(now)
        {
            tracing::debug!(%error, "the stack's timers");
        }
        if self.paths.is_open() {
            for datagram in self.handshake.due(now) {
                self.paths.send(now, datagram);
            }
        }
        self.send_messages(now);
        if self.accept_tcp_at.take_if(|at| *at <= now).is_some() && self.selected.is_none() {
            self.outputs.push_back(Output::AcceptTcp);
        }
    }

    /// What is wanted, one at a time; to be called until it gives a deadline.
    pub(crate) fn poll_output(&mut self, now: Instant) -> Output {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return output;
            }
            if let Some(output) = self.paths.poll_output(now) {
                self.on_paths(now, output);
            } else if !self.flush(now) {
                break;
            }
        }
        let stack = if self.has_stack_time() { self.stack.pc.poll_timeout() } else { None };
        let handshake = self.handshake.deadline().filter(|_| self.paths.is_open());
        let next = [stack, handshake, self.paths.deadline(), self.accept_tcp_at];
        Output::Deadline(next.into_iter().flatten().min())
    }

    fn on_paths(&mut self, now: Instant, output: PathsOutput) {
        match output {
            PathsOutput::Transmit(transmit) => self.outputs.push_back(Output::Transmit(transmit)),
            PathsOutput::OpenRelay(open) => self.outputs.push_back(Output::OpenRelay(open)),
            PathsOutput::CloseRelay(id) => self.outputs.push_back(Output::CloseRelay(id)),
            PathsOutput::RelayError(error) => self.session.emit(PeerEvent::RelayError(error)),
            PathsOutput::Event(event) => self.on_ice(now, event),
        }
    }

    fn on_ice(&mut self, now: Instant, event: Event) {
        match event {
            Event::LocalCandidate(candidate) => self.tell_candidate(candidate.to_string()),
            Event::ResolveName(name) => self.outputs.push_back(Output::ResolveName(name)),
            Event::StateChanged { to, .. } => self.on_ice_state(to),
            Event::Selected { pair, previous, reason } => {
                self.on_selected(now, pair, previous, reason);
            }
            Event::ConsentLost { pair } => {
                tracing::info!(?pair, "no consent to send any more");
                self.selected = None;
            }
            // Its credentials are in the answer.
            Event::RemoteRestarted { .. } => {}
            Event::RoleChanged(role) => tracing::info!(?role, "ICE role changed"),
        }
    }

    fn on_selected(
        &mut self,
        now: Instant,
        pair: SelectedPair,
        previous: Option<SelectedPair>,
        reason: NominationReason,
    ) {
        tracing::info!(?pair, ?reason, "candidate pair selected");
        self.paths.on_selected(now, pair);
        self.selected = Some(pair);
        self.selections += 1;
        let is_direct = |pair: SelectedPair| pair.class == PathClass::DirectUdp;
        if let Some(previous) = previous
            && is_direct(previous) != is_direct(pair)
        {
            self.session.emit(PeerEvent::DirectPath(is_direct(pair)));
        }
    }

    fn on_ice_state(&mut self, state: State) {
        self.ice_state = match state {
            State::New => IceConnectionState::New,
            State::Checking => IceConnectionState::Checking,
            State::Connected => IceConnectionState::Connected,
            State::Disconnected => IceConnectionState::Disconnected,
            State::Failed => IceConnectionState::Failed,
        };
        self.session.emit(PeerEvent::IceConnectionState(self.ice_state));
        if state == State::Connected && self.dtls == DtlsState::New {
            self.set_dtls(DtlsState::Connecting);
        }
        self.update_state();
    }

    fn set_dtls(&mut self, state: DtlsState) {
        if self.dtls != state {
            self.dtls = state;
            self.session.emit(PeerEvent::DtlsState(state));
        }
    }

    /// W3C `RTCPeerConnection.connectionState` of ICE's and DTLS's.
    fn update_state(&mut self) {
        use IceConnectionState as Ice;
        let state = match (self.ice_state, self.dtls) {
            _ if self.closed => PeerConnectionState::Closed,
            (Ice::Failed, _) | (_, DtlsState::Failed) => PeerConnectionState::Failed,
            (Ice::Disconnected, _) => PeerConnectionState::Disconnected,
            (Ice::Connected | Ice::Completed, DtlsState::Connected) => {
                PeerConnectionState::Connected
            }
            (Ice::New | Ice::Closed, _) => PeerConnectionState::New,
            _ => PeerConnectionState::Connecting,
        };
        if self.state != state {
            self.state = state;
            self.session.emit(PeerEvent::PeerConnectionState(state));
        }
    }

    fn tell_candidate(&self, candidate: String) {
        self.session.emit(PeerEvent::LocalCandidate(Candidate {
            candidate,
            sdp_mid: self.negotiation.first_local_mid().map(str::to_owned),
            sdp_m_line_index: Some(0),
            username_fragment: Some(self.local_ufrag().to_owned()),
        }));
    }

    /// Moves what the stack has on; false if it had nothing.
    fn flush(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(datagram) = self.stack.poll_datagram(now) {
            moved = true;
            self.on_stack_datagram(now, datagram);
        }
        while let Some(event) = self.stack.poll_event() {
            moved = true;
            self.on_stack_event(now, event);
        }
        while let Some(message) = self.stack.pc.poll_read() {
            moved = true;
            if let RTCMessage::DataChannelMessage(channel, message) = message.message
                && channel == self.stack.channel()
            {
                match String::from_utf8(message.data.into()) {
                    Ok(text) if message.is_string => self.session.emit(PeerEvent::Message(text)),
                    _ => tracing::debug!("data channel message that is not text ignored"),
                }
            }
        }
        if self.handshake.has_unsent() && self.paths.is_open() {
            moved = true;
            let round_trip = self.paths.agent.round_trip();
            for datagram in self.handshake.unsent(now, round_trip) {
                self.paths.send(now, datagram);
            }
        }
        if self.gathering == IceGatheringState::Gathering && self.paths.is_gathered() {
            moved = true;
            self.gathering = IceGatheringState::Complete;
            // Its errors are of candidates.
            let _ = self.paths.agent.handle_input(now, Input::EndOfLocalCandidates);
            self.tell_candidate(String::new());
            self.session.emit(PeerEvent::IceGatheringState(self.gathering));
        }
        moved
    }

    fn on_stack_datagram(&mut self, now: Instant, datagram: BytesMut) {
        if self.handshake.on_send(now, &datagram) {
            return;
        }
        let bytes = datagram.len() as u64;
        if self.paths.send(now, datagram.into()) {
            self.stats.packets_sent += 1;
            self.stats.bytes_sent += bytes;
        }
    }

    fn on_stack_event(&mut self, now: Instant, event: RTCPeerConnectionEvent) {
        match event {
            RTCPeerConnectionEvent::OnSignalingStateChangeEvent(state) => {
                self.on_signaling_state(state);
            }
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) => match state {
                RTCPeerConnectionState::Connected => {
                    self.set_dtls(DtlsState::Connected);
                    self.session.connected.store(true, Ordering::Relaxed);
                    self.update_state();
                }
                RTCPeerConnectionState::Failed => {
                    self.set_dtls(DtlsState::Failed);
                    self.update_state();
                }
                _ => {}
            },
            RTCPeerConnectionEvent::OnDataChannel(event) => self.on_channel(now, event),
            // ICE's and gathering's are the formality's, and media is handed over by the last interceptor.
            _ => {}
        }
    }

    fn on_signaling_state(&mut self, state: RTCSignalingState) {
        let state = SignalingState::from(state);
        if self.signaling != state {
            self.signaling = state;
            self.session.emit(PeerEvent::SignalingState(state));
        }
    }

    fn on_channel(&mut self, now: Instant, event: RTCDataChannelEvent) {
        let ours = self.stack.channel();
        match event {
            RTCDataChannelEvent::OnOpen(id) if id == ours => {
                self.channel_open = true;
                self.session.channel_open.store(true, Ordering::Relaxed);
                self.session.emit(PeerEvent::DataChannelOpen);
            }
            RTCDataChannelEvent::OnClose(id)
                if id == ours && std::mem::take(&mut self.channel_open) =>
            {
                self.session.channel_open.store(false, Ordering::Relaxed);
                self.session.emit(PeerEvent::DataChannelClosed);
            }
            RTCDataChannelEvent::OnBufferedAmountLow(id) if id == ours => self.send_messages(now),
            // All channels are agreed on before, so this is one that nobody asked for. A foreign page may open one
            // or two; the stack keeps something of each for good.
            RTCDataChannelEvent::OnOpen(id) => {
                self.unasked_channels += 1;
                if self.unasked_channels > MAX_UNASKED_CHANNELS && !self.shut {
                    self.shut = true;
                    let why = "it opened one data channel after another";
                    tracing::warn!(why, "the remote peer is not listened to any more");
                }
                if let Some(mut channel) = self.stack.pc.data_channel(id)
                    && let Err(error) = channel.close()
                {
                    tracing::debug!(%error, "closing a data channel");
                }
            }
            _ => {}
        }
    }

    /// Opens a data channel that nobody agreed on.
    #[cfg(test)]
    pub(crate) fn open_channel(&mut self, label: &str) {
        if let Err(error) = self.stack.pc.create_data_channel(label, None) {
            tracing::warn!(%error, "no channel");
        }
    }

    /// Says goodbye: SCTP's ABORT, DTLS's close_notify, and relays' allocations are given back. What is to be sent
    /// is to be polled after it.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.closed = true;
        if let Err(error) = self.stack.pc.close() {
            tracing::debug!(%error, "closing the connection");
        }
        self.flush(now);
        self.paths.close(now);
    }
}

/// Messages that may wait for the channel.
const MAX_MESSAGES: usize = 64;
/// Bytes SCTP may hold unacknowledged.
const CHANNEL_BUFFER_BYTES: usize = 1 << 20;
/// As long as the agent waits before it connects over TCP itself.
const ACCEPT_TCP_AFTER: Duration = Duration::from_secs(1);
/// Datagrams of DTLS that may come early: a flight and its repetition.
const MAX_EARLY: usize = 16;
/// Beyond these the remote peer is not listened to any more; labels have up to 64 KiB each (RFC 8832 §5.1).
const MAX_UNASKED_CHANNELS: usize = 8;
