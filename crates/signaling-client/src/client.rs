//! The client's handle and its one task, which runs on the caller's tokio runtime.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_tungstenite::Connector;
use tokio_tungstenite::tungstenite::Message;
use visavis_signaling_protocol::limits::{PING_INTERVAL, SILENCE_LIMIT};
use visavis_signaling_protocol::{
    ClientMessage, ErrorCode, IceServer, LeaveReason, PROTOCOL_VERSION, PeerId, PeerInfo,
    ResumeToken, RoomCode, ServerMessage, SessionId, SignalPayload,
};

use crate::backoff;
use crate::connect::{self, CertificateFingerprint, ConnectError, Socket};
use crate::outgoing::{Outgoing, QUEUED_SIGNALS};
use crate::server_url::ServerUrl;

/// Where to go and as whom.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The server.
    pub server: ServerUrl,
    /// The room.
    pub room: RoomCode,
    /// What the other side may show.
    pub display_name: Option<String>,
    /// This life of the peer connection; see [`SessionId`].
    pub session: SessionId,
    /// From an earlier [`SignalingEvent::Joined`], to take that seat back after a restart of the
    /// program.
    pub resume_token: Option<ResumeToken>,
    /// For a server with a certificate of its own making: the one certificate to trust. `None`
    /// trusts what the system trusts.
    pub trusted_certificate: Option<CertificateFingerprint>,
}

/// What happens, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum SignalingEvent {
    /// A WebSocket is being opened.
    Connecting {
        /// Counts from 1 since the last `Joined`.
        attempt: u32,
    },
    /// The WebSocket is open; the room is being entered.
    Opened,
    /// The seat is taken.
    Joined {
        /// The own id.
        peer_id: PeerId,
        /// The others, none or one. With `resumed` there is nothing to conclude from it: whatever
        /// changed meanwhile follows as `PeerLeft` and `PeerJoined`.
        peers: Vec<PeerInfo>,
        /// The own role in perfect negotiation.
        polite: bool,
        /// For the peer connection's configuration.
        ice_servers: Vec<IceServer>,
        /// Whether the same session goes on as if nothing had happened.
        resumed: bool,
        /// Whether the room is locked.
        locked: bool,
        /// Takes the seat back, also after a restart of the program. Secret.
        resume_token: ResumeToken,
    },
    /// Those inside are asked whether this client may come in; `Joined` or `Refused` follows.
    Knocking,
    /// Somebody asks to be let in; see [`SignalingClient::admit`]. After each `Joined` all who do
    /// are told again.
    Knock {
        /// Who.
        peer_id: PeerId,
        /// Its name.
        display_name: Option<String>,
    },
    /// Who knocked went away or was answered.
    KnockGone {
        /// Who.
        peer_id: PeerId,
    },
    /// Somebody entered, or came back as another session, which needs a new peer connection.
    PeerJoined(PeerInfo),
    /// Somebody is gone.
    PeerLeft {
        /// Who.
        peer_id: PeerId,
        /// Why.
        reason: LeaveReason,
    },
    /// A payload from the other peer.
    Signal {
        /// The sender.
        from: PeerId,
        /// Which life of it, if the server said so.
        session: Option<SessionId>,
        /// What it says.
        payload: SignalPayload,
    },
    /// The room was locked or opened.
    Lock {
        /// What it is now.
        locked: bool,
        /// By whom.
        by: PeerId,
    },
    /// The WebSocket is gone or could not be opened again; it is tried for ever.
    Lost {
        /// For people.
        why: String,
        /// When the next attempt comes.
        retry_in: Duration,
    },
    /// The server does not want this client. The last event.
    Refused {
        /// Why.
        code: ErrorCode,
        /// The same in the server's words.
        message: String,
    },
    /// The first connection never worked; the reason is for people. The last event.
    Unreachable(String),
}

/// A seat in a room. Dropping it closes the WebSocket without a word, and the server keeps the
/// seat until [`SILENCE_LIMIT`]; [`leave`](Self::leave) hangs up.
#[derive(Debug)]
pub struct SignalingClient {
    queue: mpsc::Sender<Queued>,
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Queued {
    Signal {
        generation: u64,
        to: PeerId,
        session: Option<SessionId>,
        payload: SignalPayload,
    },
    /// Anything else, in order with the signals.
    Message(ClientMessage),
}

/// What the owner wants.
#[derive(Debug)]
struct Wish {
    session: SessionId,
    /// Counts sessions; signals of an older one are not sent any more.
    generation: u64,
    /// Counts the times that it could not wait.
    hurries: u64,
    leaving: Option<Farewell>,
}

/// Why a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// Somebody hangs up.
    HangUp,
    /// There is no path to the other side, or none any more.
    GaveUp,
}

impl SignalingClient {
    /// Begins to connect. Must be called on a tokio runtime.
    ///
    /// `events` is bounded by its maker. While it is full the task waits and the WebSocket is not
    /// read, so that after [`SILENCE_LIMIT`] without a reader the seat is lost.
    pub fn connect(config: ClientConfig, events: mpsc::Sender<SignalingEvent>) -> Self {
        Self::connect_with(config, events, Timing::default())
    }

    fn connect_with(
        config: ClientConfig,
        events: mpsc::Sender<SignalingEvent>,
        timing: Timing,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUED_SIGNALS);
        let (session, token) = (config.session.clone(), config.resume_token.clone());
        let (wish, wished) =
            watch::channel(Wish { session, generation: 0, hurries: 0, leaving: None });
        let task = Task {
            config,
            timing,
            events,
            queue,
            wished,
            seated: false,
            token,
            peers: HashSet::new(),
            outgoing: Outgoing::default(),
            received: 0,
            joined: false,
            generation: 0,
            hurries: 0,
            attempt: 0,
            failures: 0,
        };
        Self { queue: sender, wish, task: tokio::spawn(task.run()) }
    }

    /// Queues a signal; while the WebSocket is down it waits there. Order is kept. False if the
    /// queue (128 signals) is full or the client has ended.
    ///
    /// What is meant for a peer that has left meanwhile, or for another life of it, is dropped.
    pub fn send(&self, to: PeerId, session: Option<SessionId>, payload: SignalPayload) -> bool {
        let generation = self.wish.borrow().generation;
        self.queue.try_send(Queued::Signal { generation, to, session, payload }).is_ok()
    }

    /// Locks the room or opens it, in order with the signals; [`SignalingEvent::Lock`] follows. Like
    /// them it waits for a WebSocket, and says false if the queue is full or the client has ended.
    pub fn set_locked(&self, locked: bool) -> bool {
        self.queue.try_send(Queued::Message(ClientMessage::Lock { locked })).is_ok()
    }

    /// Says that media flows between us and the remote peer of that session. As with
    /// [`set_locked`](Self::set_locked).
    pub fn set_connected(&self, session: SessionId) -> bool {
        self.queue.try_send(Queued::Message(ClientMessage::Connected { session })).is_ok()
    }

    /// Answers a knock. As with [`set_locked`](Self::set_locked).
    pub fn admit(&self, peer_id: PeerId, admitted: bool) -> bool {
        self.queue.try_send(Queued::Message(ClientMessage::Admit { peer_id, admitted })).is_ok()
    }

    /// Begins another life of the peer connection: joins again, so that the other peer learns of
    /// it, and drops the signals of the old one. [`SignalingEvent::Joined`] follows.
    pub fn set_session(&self, session: SessionId) {
        self.wish.send_modify(|wish| {
            wish.session = session;
            wish.generation += 1;
        });
    }

    /// Connects anew at once, and takes the seat back: the machine's route to the network changed, and
    /// a WebSocket over the old one would only fall silent.
    pub fn reconnect(&self) {
        self.wish.send_modify(|wish| wish.hurries += 1);
    }

    /// Hangs up: sends what is queued and `leave`, and closes. Returns within a second.
    pub async fn leave(mut self, farewell: Farewell) {
        self.wish.send_modify(|wish| wish.leaving = Some(farewell));
        let _ = timeout(LEAVE_LIMIT, &mut self.task).await;
    }
}

impl Drop for SignalingClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Times, which tests shorten.
#[derive(Debug, Clone)]
struct Timing {
    ping: Duration,
    silence: Duration,
    connect: Duration,
    /// Time after which a connection counts as stable and the backoff starts anew.
    stable: Duration,
    /// The first connection is given up after so long and at least [`FIRST_ATTEMPTS`].
    patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping: PING_INTERVAL,
            silence: SILENCE_LIMIT,
            connect: Duration::from_secs(5),
            stable: Duration::from_secs(3),
            patience: Duration::from_secs(3),
        }
    }
}

/// How a connection ends.
enum End {
    /// The owner hung up or is gone.
    Left,
    /// It is over for good; the last event has been told.
    Final,
    /// The owner wants another session.
    NewSession,
    /// The owner wants another connection.
    Hurry,
    /// To be tried again.
    Lost(String),
}

struct Task {
    config: ClientConfig,
    timing: Timing,
    events: mpsc::Sender<SignalingEvent>,
    queue: mpsc::Receiver<Queued>,
    wished: watch::Receiver<Wish>,
    /// Whether there was ever a `joined`.
    seated: bool,
    token: Option<ResumeToken>,
    peers: HashSet<PeerId>,
    outgoing: Outgoing,
    /// Numbered messages had from the server in this session.
    received: u64,
    /// Whether `joined` was had in this session; it may have been lost with its WebSocket.
    joined: bool,
    /// Of the session joined with.
    generation: u64,
    /// Of the wish that the connection began with.
    hurries: u64,
    attempt: u32,
    failures: u32,
}

impl Task {
    async fn run(mut self) {
        let started = Instant::now();
        let connector = match connect::connector(self.config.trusted_certificate) {
            Ok(connector) => connector,
            Err(error) => {
                let _ = self.emit(SignalingEvent::Unreachable(error.reason)).await;
                return;
            }
        };
        loop {
            let end = match self.connection(&connector).await {
                Ok(end) => end,
                Err(error) => {
                    let patience_ends =
                        self.attempt >= FIRST_ATTEMPTS && started.elapsed() >= self.timing.patience;
                    if !self.seated && (error.permanent || patience_ends) {
                        let _ = self.emit(SignalingEvent::Unreachable(error.reason)).await;
                        return;
                    }
                    End::Lost(error.reason)
                }
            };
            let why = match end {
                End::Final => return,
                End::NewSession | End::Hurry => continue,
                End::Left => return self.leave_from_afar(&connector).await,
                End::Lost(why) => why,
            };
            self.failures += 1;
            // Without a random source the clients of a server come a little closer together.
            let retry_in = backoff::delay(self.failures, getrandom::u32().unwrap_or(0));
            tracing::debug!(%why, ?retry_in, "signaling lost");
            let lost = SignalingEvent::Lost { why, retry_in };
            let go_on = async {
                self.emit(lost).await?;
                tokio::select! {
                    () = sleep(retry_in) => Ok(()),
                    end = hurried(&mut self.wished, self.hurries) => match end {
                        End::Left => Err(End::Left),
                        _ => Ok(()),
                    },
                }
            };
            if go_on.await.is_err() {
                return self.leave_from_afar(&connector).await;
            }
        }
    }

    /// One WebSocket from its opening to its end.
    async fn connection(&mut self, connector: &Connector) -> Result<End, ConnectError> {
        self.attempt += 1;
        self.hurries = self.wished.borrow().hurries;
        if self.emit(SignalingEvent::Connecting { attempt: self.attempt }).await.is_err() {
            return Ok(End::Left);
        }
        let mut socket = tokio::select! {
            socket = connect::open(&self.config.server, connector, self.timing.connect) => socket?,
            end = hurried(&mut self.wished, self.hurries) => return Ok(end),
        };
        Ok(match self.talk(&mut socket).await {
            Ok(never) => match never {},
            // Even before `joined`: the seat may be taken already.
            Err(End::Left) if self.wished.borrow().leaving.is_some() => {
                self.hang_up(&mut socket).await;
                End::Final
            }
            Err(end) => end,
        })
    }

    /// Joins, then passes messages both ways until the end.
    async fn talk(&mut self, socket: &mut Socket) -> Result<std::convert::Infallible, End> {
        self.emit(SignalingEvent::Opened).await?;
        let join = self.join_message();
        self.write(socket, &join).await?;
        let opened = Instant::now();
        let mut heard = opened;
        let mut joined = false;
        let mut pings = interval_at(opened + self.timing.ping, self.timing.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                frame = socket.next() => {
                    heard = Instant::now();
                    match frame {
                        Some(Ok(Message::Text(text))) => match ServerMessage::parse(&text) {
                            Ok(message) => {
                                joined |= matches!(message, ServerMessage::Joined { .. });
                                self.take(socket, message).await?;
                            }
                            // Its text is not logged: it may hold what is private.
                            Err(error) => tracing::warn!(%error, "unreadable message ignored"),
                        },
                        Some(Ok(Message::Close(_))) | None => {
                            return Err(End::Lost("the server closed the connection".into()));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(error)) => {
                            return Err(End::Lost(format!("the connection broke: {error}")));
                        }
                    }
                }
                queued = self.queue.recv(), if joined && self.outgoing.has_room() => {
                    let Some(queued) = queued else { return Err(End::Left) };
                    self.pass(socket, queued).await?;
                }
                _ = pings.tick() => {
                    if joined && opened.elapsed() >= self.timing.stable {
                        self.failures = 0;
                    }
                    let received = Some(self.received);
                    self.write(socket, &ClientMessage::Ping { received }).await?;
                }
                () = sleep_until(heard + self.timing.silence) => {
                    return Err(End::Lost("the server has fallen silent".into()));
                }
                end = other_wish(&mut self.wished, self.generation, self.hurries) => {
                    return Err(end);
                }
            }
        }
    }

    fn join_message(&mut self) -> ClientMessage {
        let (session, generation) = {
            let wish = self.wished.borrow();
            (wish.session.clone(), wish.generation)
        };
        if generation != self.generation {
            self.generation = generation;
            self.outgoing.restart();
            self.received = 0;
            self.joined = false;
        }
        ClientMessage::Join {
            protocol_version: PROTOCOL_VERSION,
            room: self.config.room.clone(),
            display_name: self.config.display_name.clone(),
            resume_token: self.token.clone(),
            session: Some(session),
            received: Some(self.received),
        }
    }

    fn leave_message(&self) -> ClientMessage {
        let gave_up = self.wished.borrow().leaving == Some(Farewell::GaveUp);
        ClientMessage::Leave { may_return: false, gave_up }
    }

    /// Handles one message from the server.
    async fn take(&mut self, socket: &mut Socket, message: ServerMessage) -> Result<(), End> {
        match message {
            ServerMessage::Joined {
                peer_id,
                peers,
                polite,
                ice_servers,
                resume_token,
                resumed,
                received,
                locked,
            } => {
                self.token = Some(resume_token.clone());
                self.seated = true;
                self.attempt = 0;
                let again = if resumed {
                    self.outgoing.resume(received)
                } else {
                    self.outgoing.restart();
                    self.received = 0;
                    Vec::new()
                };
                // What was never had cannot be resumed.
                let resumed = std::mem::replace(&mut self.joined, true) && resumed;
                if !resumed {
                    self.peers = peers.iter().map(|peer| peer.peer_id.clone()).collect();
                }
                let joined = SignalingEvent::Joined {
                    peer_id,
                    peers,
                    polite,
                    ice_servers,
                    resumed,
                    locked,
                    resume_token,
                };
                self.emit(joined).await?;
                for signal in again {
                    self.write(socket, &signal).await?;
                }
                Ok(())
            }
            ServerMessage::PeerJoined { peer } => {
                self.received += 1;
                self.peers.insert(peer.peer_id.clone());
                self.emit(SignalingEvent::PeerJoined(peer)).await
            }
            ServerMessage::PeerLeft { peer_id, reason } => {
                self.received += 1;
                self.peers.remove(&peer_id);
                self.emit(SignalingEvent::PeerLeft { peer_id, reason }).await
            }
            ServerMessage::Signal { from, session, payload } => {
                self.received += 1;
                self.emit(SignalingEvent::Signal { from, session, payload }).await
            }
            ServerMessage::Lock { locked, by } => {
                self.emit(SignalingEvent::Lock { locked, by }).await
            }
            ServerMessage::Knocking => self.emit(SignalingEvent::Knocking).await,
            ServerMessage::Knock { peer_id, display_name } => {
                self.emit(SignalingEvent::Knock { peer_id, display_name }).await
            }
            ServerMessage::KnockGone { peer_id } => {
                self.emit(SignalingEvent::KnockGone { peer_id }).await
            }
            ServerMessage::Pong { received } => {
                if let Some(received) = received {
                    self.outgoing.confirm(received);
                }
                Ok(())
            }
            ServerMessage::Error { code, message } if !code.is_fatal() => {
                tracing::debug!(code = code.as_str(), message, "the server objects");
                Ok(())
            }
            ServerMessage::Error { code, message }
                if code.is_transient()
                    || (self.token.is_some() && code.is_transient_for_members()) =>
            {
                Err(End::Lost(format!("the server ended the connection: {message}")))
            }
            ServerMessage::Error { code, message } => {
                let _ = self.emit(SignalingEvent::Refused { code, message }).await;
                Err(End::Final)
            }
        }
    }

    /// Sends what was queued; no signal of an older session or for somebody who is gone.
    async fn pass(&mut self, socket: &mut Socket, queued: Queued) -> Result<(), End> {
        let (generation, to, session, payload) = match queued {
            Queued::Message(message) => return self.write(socket, &message).await,
            Queued::Signal { generation, to, session, payload } => {
                (generation, to, session, payload)
            }
        };
        if generation != self.generation || !self.peers.contains(&to) {
            tracing::debug!("a signal for a peer or session that is gone is dropped");
            return Ok(());
        }
        let signal = ClientMessage::Signal { to, session, payload };
        let ask = self.outgoing.sent(signal.clone());
        self.write(socket, &signal).await?;
        if ask {
            let received = Some(self.received);
            self.write(socket, &ClientMessage::Ping { received }).await?;
        }
        Ok(())
    }

    async fn write(&self, socket: &mut Socket, message: &ClientMessage) -> Result<(), End> {
        // Plain strings and numbers: nothing in it that could fail to serialise.
        let Ok(text) = serde_json::to_string(message) else { return Ok(()) };
        match timeout(self.timing.silence, socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Lost(format!("the connection broke: {error}"))),
            Err(_) => Err(End::Lost("the server takes nothing any more".into())),
        }
    }

    /// Tells the owner, unless it is leaving or gone.
    async fn emit(&mut self, event: SignalingEvent) -> Result<(), End> {
        tokio::select! {
            biased;
            () = leaving(&mut self.wished) => Err(End::Left),
            sent = self.events.send(event) => sent.map_err(|_| End::Left),
        }
    }

    /// Sends what is queued and `leave`, and stays until the server has closed.
    /// [`SignalingClient::leave`] sets the limit of time.
    async fn hang_up(&mut self, socket: &mut Socket) {
        while let Ok(queued) = self.queue.try_recv() {
            if self.pass(socket, queued).await.is_err() {
                return;
            }
        }
        let leave = self.leave_message();
        if self.write(socket, &leave).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    }

    /// Hangs up while the WebSocket is down: one attempt to take the seat back and leave it, for
    /// otherwise the other side would wait for it.
    async fn leave_from_afar(mut self, connector: &Connector) {
        if self.token.is_none() || self.wished.borrow().leaving.is_none() {
            return;
        }
        let (join, leave) = (self.join_message(), self.leave_message());
        if let Ok(mut socket) =
            connect::open(&self.config.server, connector, self.timing.connect).await
            && self.write(&mut socket, &join).await.is_ok()
            && self.write(&mut socket, &leave).await.is_ok()
        {
            while let Some(Ok(_)) = socket.next().await {}
        }
    }
}

/// Ready once the owner wants to leave.
async fn leaving(wished: &mut watch::Receiver<Wish>) {
    // An error is an owner that is gone.
    let _ = wished.wait_for(|wish| wish.leaving.is_some()).await;
}

/// Ready once the owner wants to leave, or a connection after the one numbered `hurries`.
async fn hurried(wished: &mut watch::Receiver<Wish>, hurries: u64) -> End {
    match wished.wait_for(|wish| wish.leaving.is_some() || wish.hurries != hurries).await {
        Ok(wish) if wish.leaving.is_none() => End::Hurry,
        _ => End::Left,
    }
}

/// Ready once the owner wants something else than the session numbered `generation`, or a connection
/// after the one numbered `hurries`.
async fn other_wish(wished: &mut watch::Receiver<Wish>, generation: u64, hurries: u64) -> End {
    let other = |wish: &Wish| {
        wish.leaving.is_some() || wish.generation != generation || wish.hurries != hurries
    };
    match wished.wait_for(|wish| other(wish)).await {
        Ok(wish) if wish.leaving.is_some() => End::Left,
        Ok(wish) if wish.generation != generation => End::NewSession,
        Ok(_) => End::Hurry,
        Err(_) => End::Left,
    }
}

/// Attempts at the first connection before it is given up.
const FIRST_ATTEMPTS: u32 = 3;
/// Time that hanging up may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
