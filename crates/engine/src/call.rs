//! One call: executes what the session says, listens to signaling and the peer connection, and
//! keeps what the snapshot tells of them.

mod connection;
mod inbound;
mod messages;

pub(crate) use messages::MediaState;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use visavis_call::{CallSession, CallState, Input, Knock, Output, ProofConfig};
use visavis_media::Size;
use visavis_media::adaptation::VideoTarget;
use visavis_media::files::Y4mWriter;
use visavis_rtc::{AddressPolicy, MediaClock, PeerStats};
use visavis_signaling_client::{
    CertificateFingerprint, ClientConfig, Farewell, ServerUrl, SignalingClient,
};
use visavis_signaling_protocol::{
    CallCode, ControlMessage, IceServer, PeerId, ResumeToken, SdpType, SignalPayload,
};

use self::messages::ToldDisplay;
use crate::audio_receive::AudioReceive;
use crate::audio_send::AudioSend;
use crate::clock_sync::ClockSync;
use crate::diagnostics::{History, Log};
use crate::media_watch::{MediaWatch, Reception};
use crate::network_watch::NetworkWatch;
use crate::peer_task::{PeerHandle, RelayCertificates};
use crate::prepared_peer::PreparedPeer;
use crate::receive::unix_ms;
use crate::run_loop::{Internal, Tag};
use crate::seat_file::SeatFile;
use crate::send::VideoSend;
use crate::shared::{Shared, lock};
use crate::stats::Priorities;
use crate::{
    CallEndReason, CallSnapshot, Event, HistoryPoint, JoinOptions, RemoteParty, SetupTimes,
    SignalingLink, States,
};

/// Signaling events waiting for the loop; the client waits for room.
const SIGNALING_EVENTS: usize = 64;
/// How often the peer connection is asked for its statistics.
const STATS_INTERVAL: Duration = Duration::from_millis(500);
/// How long farewells may take when the program ends.
const CLOSING_LIMIT: Duration = Duration::from_millis(1200);

/// Farewells under way: `leave` on the WebSocket, DTLS `close_notify`.
#[derive(Clone, Default)]
pub(crate) struct Closing(Arc<Mutex<JoinSet<()>>>);

impl Closing {
    pub(crate) fn spawn(&self, farewell: impl Future<Output = ()> + Send + 'static) {
        let mut set = lock(&self.0);
        while set.try_join_next().is_some() {}
        set.spawn(farewell);
    }

    /// Waits until all are out.
    pub(crate) async fn wait(&self) {
        let mut set = std::mem::take(&mut *lock(&self.0));
        let _ =
            tokio::time::timeout(CLOSING_LIMIT, async { while set.join_next().await.is_some() {} })
                .await;
    }
}

/// What calls share with the engine.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: MediaClock,
    pub(crate) reports: mpsc::Sender<Internal>,
    pub(crate) video_send: Arc<VideoSend>,
    pub(crate) audio_send: Arc<AudioSend>,
    pub(crate) audio_receive: Arc<AudioReceive>,
    pub(crate) display_file: Option<Arc<Mutex<Y4mWriter>>>,
    pub(crate) closing: Closing,
    pub(crate) trusted_certificate: Option<CertificateFingerprint>,
    pub(crate) seat_file: Arc<SeatFile>,
    pub(crate) decode_delay: Duration,
}

pub(crate) struct Call {
    id: u32,
    context: CallContext,
    started: Instant,
    session: CallSession,
    /// When the session wants to be called again, since `started`.
    deadline: Option<Duration>,
    client: Option<SignalingClient>,
    code: CallCode,
    room_link: String,
    /// As the person gave it.
    server: String,
    own_ice_servers: Vec<IceServer>,
    server_ice_servers: Vec<IceServer>,
    addresses: AddressPolicy,
    relay_tls: Arc<RelayCertificates>,
    peer: Option<PeerHandle>,
    /// Made while we wait in the room.
    prepared_peer: Option<PreparedPeer>,
    waiting: bool,
    peer_stats: Option<Box<PeerStats>>,
    next_stats: Instant,
    history: History,
    states: States,
    setup: SetupTimes,
    connected_at: Option<Instant>,
    remote: RemoteParty,
    own_id: Option<PeerId>,
    /// Whether the room was last locked or opened by us, and whether it was locked when it was last
    /// told.
    lock_by_us: bool,
    told_locked: bool,
    /// Remote peers that were told.
    told_remotes: u32,
    /// The knocks that were told.
    told_knocks: Vec<Knock>,
    resume_token: Option<ResumeToken>,
    media_state: MediaState,
    /// At which size received pictures are shown, and what the remote peer was told of it.
    display: Option<Size>,
    told_display: Option<ToldDisplay>,
    channel_open: bool,
    /// Whether a message came over the channel.
    channel_heard: bool,
    clock_sync: ClockSync,
    priorities: Priorities,
    network: NetworkWatch,
    media: MediaWatch,
}

impl Call {
    pub(crate) fn start(
        id: u32,
        options: JoinOptions,
        context: CallContext,
        log: &mut Log,
    ) -> Result<Self, CallEndReason> {
        let JoinOptions { code, key, guesses, server, display_name, ice_servers, addresses } =
            options;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|e| CallEndReason::Internal(format!("no random numbers: {e}")))?;
        let session = CallSession::new(ProofConfig { code: code.clone(), key, guesses, seed });
        let resume_token = context.seat_file.token_for(&server, &code.room);
        let server_address = server.clone();
        let server: ServerUrl =
            server.parse().map_err(|e: <ServerUrl as std::str::FromStr>::Err| {
                CallEndReason::ServerUnreachable(e.to_string())
            })?;
        let room_link = server.room_link(&code);
        let (events, mut queue) = mpsc::channel(SIGNALING_EVENTS);
        let config = ClientConfig {
            server,
            room: code.room.clone(),
            display_name,
            session: session.session_id().clone(),
            resume_token,
            trusted_certificate: context.trusted_certificate,
        };
        let client = SignalingClient::connect(config, events);
        let reports = context.reports.clone();
        tokio::spawn(async move {
            while let Some(event) = queue.recv().await {
                if reports.send(Internal::Signaling(id, event)).await.is_err() {
                    return;
                }
            }
        });
        log.add("call", "Joining".into());
        let told = match addresses {
            AddressPolicy::All => None,
            AddressPolicy::HideLocal => Some("names are told for addresses of this network"),
            AddressPolicy::RelayOnly => Some("only relayed candidates are told"),
        };
        if let Some(told) = told {
            log.add("ice", told.into());
        }
        let relay_tls = Arc::new(RelayCertificates::new(context.trusted_certificate));
        let started = Instant::now();
        Ok(Self {
            id,
            context,
            started,
            session,
            deadline: None,
            client: Some(client),
            code,
            room_link,
            server: server_address,
            own_ice_servers: ice_servers,
            server_ice_servers: Vec::new(),
            addresses,
            relay_tls,
            peer: None,
            prepared_peer: None,
            waiting: false,
            peer_stats: None,
            next_stats: started,
            history: History::new(started),
            states: States { signaling_link: SignalingLink::Connecting, ..States::default() },
            setup: SetupTimes::default(),
            connected_at: None,
            remote: RemoteParty::default(),
            own_id: None,
            lock_by_us: false,
            told_locked: false,
            told_remotes: 0,
            told_knocks: Vec::new(),
            resume_token: None,
            media_state: MediaState { microphone_on: true, camera_on: true },
            display: None,
            told_display: None,
            channel_open: false,
            channel_heard: false,
            clock_sync: ClockSync::default(),
            priorities: Priorities::default(),
            network: NetworkWatch::new(),
            media: MediaWatch::new(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn is_current(&self, tag: Tag) -> bool {
        tag.call == self.id && self.peer.as_ref().is_some_and(|p| p.epoch == tag.epoch)
    }

    /// When [`Self::drive`] wants a tick.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|d| self.started + d)
    }

    /// Tells the session what media does, then `input`; the state, if it changed. Every input is
    /// followed by a full drain of the outputs.
    pub(crate) fn drive(&mut self, input: Input, log: &mut Log) -> Option<CallState> {
        let mut changed = None;
        for input in self.media_change().into_iter().chain([input]) {
            self.session.handle_input(self.started.elapsed(), input);
            changed = self.drain(log).or(changed);
        }
        if let Some(name) = self.session.remote_name() {
            self.remote.display_name = name.map(str::to_owned);
        }
        self.prepare_peer();
        changed
    }

    /// Whether media arrives, if that has changed.
    fn media_change(&mut self) -> Option<Input> {
        let epoch = self.peer.as_ref()?.epoch;
        let arrivals = self.connection()?.peer.arrivals();
        let Reception { receiving, heard } = self.media.look(Instant::now(), arrivals)?;
        Some(Input::Media { epoch, receiving, heard })
    }

    /// Executes the session's outputs until it waits; the newest state, if it changed.
    fn drain(&mut self, log: &mut Log) -> Option<CallState> {
        let mut changed = None;
        loop {
            match self.session.poll_output() {
                Output::CreatePeer(epoch) => self.create_peer(epoch),
                Output::ClosePeer => self.close_peer(),
                Output::NewSession(session) => {
                    if let Some(client) = &self.client {
                        client.set_session(session);
                    }
                }
                Output::Authenticated(authentication) => {
                    self.setup.authenticated.get_or_insert(self.started.elapsed());
                    let proven = if authentication.is_proven { "" } else { "not " };
                    log.add("call", format!("the remote peer is {proven}proven"));
                    self.open_media();
                    self.context.shared.push_event(Event::Authenticated(authentication));
                }
                Output::Key(key) => self.context.shared.push_event(Event::ContinuityKey(key)),
                Output::Guesses(guesses) => {
                    self.context.shared.push_event(Event::Guesses(guesses));
                }
                Output::Run { epoch, operation } => {
                    if let Some(peer) = self.peer.as_ref().filter(|p| p.epoch == epoch) {
                        peer.run(operation);
                    }
                }
                Output::Send { to, session, payload } => {
                    if matches!(&payload, SignalPayload::Description(d, _) if d.kind == SdpType::Offer)
                    {
                        tracing::trace!(target: crate::TRACE, "offer");
                    }
                    if !self.client.as_ref().is_some_and(|c| c.send(to, Some(session), payload)) {
                        log.add("signaling", "too many messages wait: one was dropped".into());
                    }
                }
                Output::SetLocked(locked) => {
                    if !self.client.as_ref().is_some_and(|c| c.set_locked(locked)) {
                        log.add("signaling", "too many messages wait: one was dropped".into());
                    }
                }
                Output::Connected { session } => {
                    if !self.client.as_ref().is_some_and(|c| c.set_connected(session)) {
                        log.add("signaling", "too many messages wait: one was dropped".into());
                    }
                }
                Output::Admit { peer_id, admitted } => {
                    let word = if admitted { "let in" } else { "refused" };
                    log.add("call", format!("who asked to be let in was {word}"));
                    if !self.client.as_ref().is_some_and(|c| c.admit(peer_id, admitted)) {
                        log.add("signaling", "too many messages wait: one was dropped".into());
                    }
                }
                Output::LeaveRoom { gave_up } => {
                    if let Some(client) = self.client.take() {
                        let farewell = if gave_up { Farewell::GaveUp } else { Farewell::HangUp };
                        self.context.closing.spawn(client.leave(farewell));
                    }
                }
                Output::State(state) => {
                    log.add("call", format!("{state:?}"));
                    if state == CallState::Connected {
                        // Which way it goes is known at once, however short the call.
                        self.next_stats = Instant::now();
                        self.connected_at.get_or_insert(self.next_stats);
                        self.keep_seat(self.next_stats);
                    }
                    self.waiting = state == CallState::Waiting;
                    self.remote.present = !matches!(
                        state,
                        CallState::Joining | CallState::Knocking | CallState::Waiting
                    );
                    changed = Some(state);
                }
                Output::Log(text) => log.add("call", text),
                Output::Wait(deadline) => {
                    self.deadline = deadline;
                    return changed;
                }
            }
        }
    }

    /// The lock of the room, if it is another than before.
    pub(crate) fn take_lock_change(&mut self) -> Option<Event> {
        let locked = self.session.is_locked();
        (std::mem::replace(&mut self.told_locked, locked) != locked)
            .then_some(Event::RoomLock { locked, by_us: self.lock_by_us })
    }

    /// Whether somebody else has taken the place of the remote peer since this was last called.
    pub(crate) fn take_replaced(&mut self) -> bool {
        let remotes = self.session.remotes();
        let replaced = std::mem::replace(&mut self.told_remotes, remotes) != remotes
            && *self.session.state() == CallState::Reconnecting;
        if replaced {
            (self.remote.microphone_on, self.remote.camera_on) = (None, None);
            self.context.shared.remote_video.clear();
        }
        replaced
    }

    /// Those who have begun to ask to be let in since this was last called.
    pub(crate) fn take_new_knocks(&mut self) -> Vec<Knock> {
        let known = std::mem::replace(&mut self.told_knocks, self.session.knocks().to_vec());
        self.told_knocks.iter().filter(|knock| !known.contains(knock)).cloned().collect()
    }

    /// The route to the network changed and took the path with it.
    fn lost_network(&mut self, now: Instant) -> bool {
        let Some(received) = self.connection().map(|it| it.peer.arrivals().packets) else {
            return false;
        };
        let remote = self.peer_stats.as_ref().and_then(|stats| {
            let id = &stats.selected_pair()?.remote_candidate_id;
            let remote = stats.remote_candidates.iter().find(|c| c.id == *id)?;
            Some(SocketAddr::new(remote.address.parse().ok()?, remote.port))
        });
        self.network.lost(now, remote, received)
    }

    /// Notes a first time; whether it was one.
    pub(crate) fn first(&mut self, event: &Event) -> bool {
        let time = match event {
            Event::FirstVideoFrame => &mut self.setup.first_video_frame,
            Event::FirstAudio => &mut self.setup.first_audio,
            _ => return false,
        };
        let first = time.is_none();
        time.get_or_insert(self.started.elapsed());
        first
    }

    pub(crate) fn request_keyframe(&self) {
        if let Some(connection) = self.connection() {
            connection.peer.request_keyframe();
        }
    }

    /// For a crash from now on.
    fn keep_seat(&self, now: Instant) {
        if let Some(token) = self.resume_token.as_ref().filter(|_| self.connected_at.is_some()) {
            self.context.seat_file.keep(&self.server, &self.code.room, token, now);
        }
    }

    /// What happens by the clock: statistics, history, the other side's clock.
    /// Returns what the session should know.
    pub(crate) fn tick(&mut self, now: Instant, log: &mut Log) -> Option<Input> {
        self.keep_seat(now);
        if now >= self.next_stats
            && let Some(PeerHandle { epoch, connection: Some(connection), .. }) = &self.peer
        {
            self.next_stats = now + STATS_INTERVAL;
            let tag = Tag { call: self.id, epoch: *epoch };
            let (peer, reports) = (connection.peer.clone(), self.context.reports.clone());
            tokio::spawn(async move {
                let stats = Box::new(peer.stats().await);
                let _ = reports.send(Internal::Stats(tag, stats)).await;
            });
        }
        self.say_reception(now);
        if self.channel_open && self.clock_sync.is_due(now) {
            self.say(&ControlMessage::ClockPing { t0: unix_ms() });
        }
        if let Some((codec, cause)) = self.context.video_send.take_codec_change() {
            log.add("video", format!("sent with {codec}: {cause}"));
        }
        if let Some(decision) = self.context.video_send.take_decision() {
            let VideoTarget { size, frame_rate, bitrate } = decision.target;
            let kbps = bitrate.as_bps() / 1000;
            log.add(
                "video",
                format!("now {size} at {frame_rate:.0} fps, {kbps} kbps: {}", decision.cause),
            );
        }
        if self.history.is_due(now) {
            let sent = self.context.video_send.counts(now);
            let received = self.connection().map(|it| it.video.counts(now)).unwrap_or_default();
            let rtt_s =
                self.peer_stats.as_ref().and_then(|s| s.selected_pair()?.current_round_trip_time_s);
            self.history.add(HistoryPoint {
                at_s: (now - self.started).as_secs_f32(),
                video_sent_bps: sent.bitrate_bps,
                video_target_bps: sent.target_bps,
                video_received_bps: received.bitrate_bps,
                #[expect(clippy::cast_possible_truncation, reason = "a figure for people")]
                rtt_ms: rtt_s.map(|rtt| (rtt * 1000.0) as f32),
                fps_received: received.fps,
            });
        }
        if !self.lost_network(now) {
            return None;
        }
        log.add("call", "the route to the network changed".into());
        if let Some(client) = &self.client {
            client.reconnect();
        }
        Some(Input::RestartIce)
    }

    pub(crate) fn stats(&mut self, stats: PeerStats) {
        self.protect_audio(&stats);
        if let (Some(connection), Some(pair)) = (self.connection(), stats.selected_pair())
            && let Some(rtt_s) = pair.current_round_trip_time_s
        {
            connection.video.set_round_trip(Duration::try_from_secs_f64(rtt_s).unwrap_or_default());
        }
        self.context.video_send.recipient().direct = crate::stats::is_direct(&stats);
        self.peer_stats = Some(Box::new(stats));
    }

    /// Lets the sound follow the loss that the other side reports.
    fn protect_audio(&mut self, stats: &PeerStats) {
        let known = self.peer_stats.as_deref().map_or(0, |s| s.outbound_audio.reports_received);
        if stats.outbound_audio.reports_received != known
            && let Some(fraction) = stats.outbound_audio.remote_fraction_lost
        {
            self.context.audio_send.on_report(fraction);
        }
    }

    /// Writes all that is known of the call into the snapshot.
    pub(crate) fn fill(&self, snapshot: &mut CallSnapshot) {
        let now = Instant::now();
        snapshot.code = Some(self.code.clone());
        snapshot.authentication = self.session.authentication();
        snapshot.room_link = Some(self.room_link.clone());
        snapshot.room_locked = self.session.is_locked();
        snapshot.knocks = self.session.knocks().to_vec();
        snapshot.connected_for = self.connected_at.map(|at| now - at).unwrap_or_default();
        snapshot.remote = self.remote.clone();
        snapshot.states = self.states.clone();
        snapshot.setup = self.setup;
        snapshot.history = self.history.points();
        let counts = self.connection().map(|it| it.video.counts(now));
        if let Some(stats) = &self.peer_stats {
            crate::stats::fill_from_peer(snapshot, stats, &self.priorities);
        }
        crate::stats::fill_sent(
            snapshot,
            &self.context.video_send.counts(now),
            &self.context.audio_send.counts(now),
        );
        if let Some(counts) = counts {
            crate::stats::fill_received(snapshot, &counts, &self.context.audio_receive.counts(now));
        }
    }

    /// Hangs up if it has not been done; [`Closing`] waits for the end of it.
    pub(crate) fn close(mut self) {
        // Where the server was not reached, the seat may wait still.
        if self.own_id.is_some() {
            self.context.seat_file.forget();
        }
        if let Some(client) = self.client.take() {
            self.context.closing.spawn(client.leave(Farewell::HangUp));
        }
        self.close_peer();
    }
}
