//! Between the WebSockets and the rooms: one lock around the state machine, one bounded outbox for
//! each WebSocket. Runs on the server's tokio runtime; the lock is never held across an `await`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use axum::http::uri::Authority;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use visavis_signaling_protocol::limits::{BACKLOG_BYTES, BACKLOG_MESSAGES};
use visavis_signaling_protocol::{ClientMessage, ErrorCode, PeerId, RoomCode, ServerMessage};

use crate::ServerConfig;
use crate::gate::BURST_SECONDS;
use crate::limits::{Full, Limits, MESSAGE_COST_BYTES, Rates, Shares};
use crate::relay::{self, Relay};
use crate::rooms::{ConnectionId, Input, MESSAGE_OVERHEAD_BYTES, Output, Rooms};

/// How often the rooms look at the clock.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Frames that may wait for one WebSocket: a whole backlog and as much again. Who has more
/// waiting reads too slowly and is disconnected.
const OUTBOX_FRAMES: usize = 2 * BACKLOG_MESSAGES;
/// Bytes likewise, with what each message takes besides.
const OUTBOX_BYTES: usize = 2 * BACKLOG_BYTES + OUTBOX_FRAMES * MESSAGE_OVERHEAD_BYTES;
/// Seconds' worth of messages that one address may send at once.
const TRAFFIC_BURST_SECONDS: f64 = 8.0;
/// Time that one frame may take to be written.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Time for the last words to arrive before the connection is torn down.
const LINGER: Duration = Duration::from_secs(1);

/// The rooms and the WebSockets of one server.
pub(crate) struct Hub {
    state: Mutex<State>,
}

struct State {
    rooms: Rooms,
    relay: Option<Arc<Relay>>,
    outboxes: HashMap<ConnectionId, OutboxSender>,
    opened: u64,
    limits: Limits,
    /// Open WebSockets, bytes of messages and HTTP requests, by the address of the client.
    websockets: Shares,
    traffic: Rates,
    requests: Rates,
    /// Bytes kept for clients, in backlogs and in outboxes.
    kept: Arc<AtomicUsize>,
    /// Backlogs and outboxes that had to give way.
    gave_way: u64,
    /// Cloned into every connection's task; gone once the server goes down.
    alive: Option<mpsc::Sender<()>>,
}

#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
enum Frame {
    /// With the bytes of memory that it takes.
    Message(ServerMessage, usize),
    Probe,
    Close(Option<ErrorCode>),
}

struct OutboxSender {
    frames: mpsc::Sender<Frame>,
    weight: Arc<OutboxWeight>,
    /// Ends the WebSocket at once, with what waits for it.
    cut: Arc<Notify>,
    /// Nothing more is sent; what waits may still be written, or have to give way.
    closed: bool,
}

/// The bytes of memory that wait in one outbox.
struct OutboxWeight {
    bytes: AtomicUsize,
    /// Those of all outboxes and backlogs.
    kept: Arc<AtomicUsize>,
}

impl OutboxWeight {
    /// Bytes that wait now.
    fn add(&self, bytes: usize) -> usize {
        self.kept.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Takes away `bytes`, or what is left of them.
    fn take(&self, bytes: usize) {
        let less = |own: usize| Some(own.saturating_sub(bytes));
        let before = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let (Ok(before) | Err(before)) = before;
        self.kept.fetch_sub(before.min(bytes), Ordering::Relaxed);
    }
}

/// One WebSocket's side of the hub.
pub(crate) struct Connection {
    id: ConnectionId,
    address: IpAddr,
    frames: mpsc::Receiver<Frame>,
    weight: Arc<OutboxWeight>,
    cut: Arc<Notify>,
    hub: Arc<Hub>,
    _alive: mpsc::Sender<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.handle(Input::Disconnected { connection: self.id });
        let mut state = self.hub.lock();
        // After this nothing is added any more.
        state.outboxes.remove(&self.id);
        self.weight.take(usize::MAX);
        state.websockets.give_back(self.address);
    }
}

impl Hub {
    /// With the receiver that ends when every connection is gone after [`Self::shut_down`].
    pub(crate) fn new(
        config: &ServerConfig,
        urls: Option<relay::Urls>,
        relay: Option<Arc<Relay>>,
    ) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (ice_servers, turn) = (config.ice_servers.clone(), config.turn.clone());
        let mint = Box::new(move |peer: &_, host: Option<&_>| {
            let now = SystemTime::now();
            let turn = turn.as_ref().map(|turn| turn.mint(peer, now));
            let own = urls.as_ref().map(|urls| urls.ice_servers(peer, host, now));
            let own = own.into_iter().flatten();
            ice_servers.iter().cloned().chain(turn).chain(own).collect()
        });
        // Nothing is ever sent: it counts its senders.
        let (alive, all_gone) = mpsc::channel(1);
        let limits = config.limits.clone();
        let rooms = Rooms::new(Instant::now(), limits.clone(), mint);
        let traffic = f64::from(limits.bytes_per_second_per_address);
        let requests = f64::from(limits.requests_per_second);
        let state = State {
            kept: rooms.kept(),
            rooms,
            relay,
            outboxes: HashMap::new(),
            opened: 0,
            limits,
            websockets: Shares::default(),
            traffic: Rates::new(traffic * TRAFFIC_BURST_SECONDS, traffic),
            requests: Rates::new(requests * BURST_SECONDS, requests),
            gave_way: 0,
            alive: Some(alive),
        };
        (Arc::new(Self { state: Mutex::new(state) }), all_gone)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the rooms.
    pub(crate) fn with_rooms<T>(&self, read: impl FnOnce(&Rooms) -> T) -> T {
        read(&self.lock().rooms)
    }

    /// Bytes kept for clients, and how many backlogs and outboxes had to give way so far.
    pub(crate) fn kept(&self) -> (usize, u64) {
        let state = self.lock();
        (state.kept.load(Ordering::Relaxed), state.gave_way)
    }

    /// Whether `address` may have another HTTP request.
    pub(crate) fn may_request(&self, address: IpAddr) -> bool {
        self.lock().requests.take(Instant::now(), address, 1.0)
    }

    /// Whether `address` may send another message of `bytes` bytes.
    #[expect(clippy::cast_precision_loss, reason = "at most some kilobytes")]
    fn may_send(&self, address: IpAddr, bytes: usize) -> bool {
        let cost = bytes.max(MESSAGE_COST_BYTES) as f64;
        self.lock().traffic.take(Instant::now(), address, cost)
    }

    /// Lets a WebSocket in, unless there are too many or the server goes down.
    pub(crate) fn open(
        self: &Arc<Self>,
        address: IpAddr,
        host: Option<Authority>,
    ) -> Result<Connection, Full> {
        let mut state = self.lock();
        let alive = state.alive.clone().ok_or(Full::Server)?;
        if state.websockets.total() >= state.limits.connections {
            return Err(Full::Server);
        }
        let share = state.limits.websockets_per_address;
        if !state.websockets.take(address, share) {
            return Err(Full::Address);
        }
        let id = ConnectionId(state.opened);
        state.opened += 1;
        let (sender, frames) = mpsc::channel(OUTBOX_FRAMES);
        let kept = Arc::clone(&state.kept);
        let weight = Arc::new(OutboxWeight { bytes: AtomicUsize::new(0), kept });
        let cut = Arc::new(Notify::new());
        let outbox = OutboxSender {
            frames: sender,
            weight: Arc::clone(&weight),
            cut: Arc::clone(&cut),
            closed: false,
        };
        state.outboxes.insert(id, outbox);
        state.handle(Input::Connected { connection: id, address, host });
        Ok(Connection { id, address, frames, weight, cut, hub: Arc::clone(self), _alive: alive })
    }

    /// Time has passed. Expected every [`TICK`].
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        state.handle(Input::Tick);
        let now = Instant::now();
        state.traffic.forget_full(now);
        state.requests.forget_full(now);
    }

    pub(crate) fn handle(&self, input: Input) {
        self.lock().handle(input);
    }

    /// Says goodbye to everybody and lets nobody in any more.
    pub(crate) fn shut_down(&self) {
        let mut state = self.lock();
        state.alive = None;
        state.handle(Input::Shutdown);
    }
}

impl State {
    fn handle(&mut self, input: Input) {
        self.tell_rooms(input);
        while let Some(output) = self.rooms.poll_output() {
            let (id, frame, closes) = match output {
                Output::Send { connection, message, bytes } => {
                    (connection, Frame::Message(message, bytes + MESSAGE_OVERHEAD_BYTES), false)
                }
                Output::Probe { connection } => (connection, Frame::Probe, false),
                Output::Close { connection, code } => {
                    if let Some(code) = code {
                        tracing::info!(connection = connection.0, code = code.as_str(), "ended");
                    }
                    (connection, Frame::Close(code), true)
                }
            };
            let sent = self.outboxes.get(&id).is_none_or(|outbox| outbox.send(frame));
            if !sent {
                tracing::info!(connection = id.0, "reads too slowly, disconnected");
                self.cut(id);
            }
            if closes && let Some(outbox) = self.outboxes.get_mut(&id) {
                outbox.closed = true;
            }
        }
        if self.kept.load(Ordering::Relaxed) > self.limits.kept_bytes {
            self.relieve();
        }
    }

    /// The relay hears of new seats before their clients do.
    fn tell_rooms(&mut self, input: Input) {
        self.rooms.handle(Instant::now(), input);
        while let Some(change) = self.rooms.poll_seat_change() {
            if let Some(relay) = &self.relay {
                relay.seat_changed(change);
            }
        }
    }

    /// Ends a WebSocket without a word, with all that waits for it.
    fn cut(&mut self, id: ConnectionId) {
        self.tell_rooms(Input::Disconnected { connection: id });
        if let Some(outbox) = self.outboxes.remove(&id) {
            outbox.weight.take(usize::MAX);
            outbox.cut.notify_one();
        }
    }

    /// More is kept for clients than may be: the largest backlogs and outboxes give way, until an
    /// eighth of the budget is free, so that this is not needed again at once.
    fn relieve(&mut self) {
        enum Holder {
            Seat(RoomCode, PeerId),
            WebSocket(ConnectionId),
        }
        let goal = self.limits.kept_bytes / 8 * 7;
        let mut kept = self.kept.load(Ordering::Relaxed);
        let seats = self.rooms.backlogs();
        let seats = seats.map(|(bytes, code, peer)| (bytes, Holder::Seat(code, peer)));
        let sockets = self.outboxes.iter().map(|(id, outbox)| {
            (outbox.weight.bytes.load(Ordering::Relaxed), Holder::WebSocket(*id))
        });
        let mut holders: Vec<_> = seats.chain(sockets).filter(|(bytes, _)| *bytes > 0).collect();
        holders.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, holder) in holders {
            if kept <= goal {
                break;
            }
            kept = kept.saturating_sub(bytes);
            self.gave_way += 1;
            match holder {
                Holder::Seat(code, peer) => self.rooms.drop_backlog(&code, &peer),
                Holder::WebSocket(id) => self.cut(id),
            }
        }
        tracing::warn!(kept, "too much is kept for clients that do not read; the largest gave way");
    }
}

impl OutboxSender {
    /// False if the outbox is full.
    fn send(&self, frame: Frame) -> bool {
        if self.closed {
            return true;
        }
        if let Frame::Message(_, weight) = &frame
            && self.weight.add(*weight) > OUTBOX_BYTES
        {
            return false;
        }
        // A closed channel is a connection about to be dropped, which needs no frame.
        !matches!(self.frames.try_send(frame), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// Serves one WebSocket to its end.
pub(crate) async fn serve(mut connection: Connection, socket: WebSocket) {
    let cut = Arc::clone(&connection.cut);
    tokio::select! {
        () = talk(&mut connection, socket) => {}
        () = cut.notified() => {}
    }
}

async fn talk(connection: &mut Connection, socket: WebSocket) {
    let (id, address) = (connection.id, connection.address);
    let (mut sink, mut stream) = socket.split();
    // After an unreadable frame nothing can be read, but the reason can be written.
    let mut readable = true;
    loop {
        tokio::select! {
            frame = stream.next(), if readable => match frame {
                Some(Ok(frame)) if !connection.hub.may_send(address, bytes_of(&frame)) => {
                    connection.hub.handle(Input::Fault {
                        connection: id,
                        code: ErrorCode::RateLimited,
                        message: "too many bytes a second from this address",
                    });
                }
                Some(Ok(Message::Text(text))) => connection.hub.handle(Input::Message {
                    connection: id,
                    bytes: text.len(),
                    message: ClientMessage::parse(&text),
                }),
                Some(Ok(Message::Binary(_))) => connection.hub.handle(Input::Fault {
                    connection: id,
                    code: ErrorCode::BadJson,
                    message: "a binary frame",
                }),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                    connection.hub.handle(Input::Heard { connection: id });
                }
                Some(Ok(Message::Close(_))) | None => return,
                Some(Err(error)) => {
                    readable = false;
                    let Some((code, message)) = fault_of(&error) else { return };
                    connection.hub.handle(Input::Fault { connection: id, code, message });
                }
            },
            frame = connection.frames.recv() => match frame {
                Some(Frame::Message(message, weight)) => {
                    connection.weight.take(weight);
                    // Plain strings and numbers: nothing in it that could fail to serialise.
                    let Ok(text) = serde_json::to_string(&message) else { continue };
                    if !write(&mut sink, Message::Text(text.into())).await {
                        return;
                    }
                }
                Some(Frame::Probe) => {
                    if !write(&mut sink, Message::Ping(axum::body::Bytes::new())).await {
                        return;
                    }
                }
                Some(Frame::Close(code)) => {
                    close(code, &mut sink, &mut stream, readable).await;
                    return;
                }
                // The outbox overflowed.
                None => return,
            },
        }
    }
}

fn bytes_of(frame: &Message) -> usize {
    match frame {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

/// False if the WebSocket is gone or does not take it in time.
async fn write(sink: &mut SplitSink<WebSocket, Message>, message: Message) -> bool {
    matches!(timeout(WRITE_LIMIT, sink.send(message)).await, Ok(Ok(())))
}

/// Closes with a code and stays until the other side has read it: a socket torn down with unread
/// data in it takes the last words along.
async fn close(
    code: Option<ErrorCode>,
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    readable: bool,
) {
    let frame = CloseFrame {
        code: match code {
            None => close_code::NORMAL,
            Some(ErrorCode::ServerShutdown) => close_code::AWAY,
            Some(ErrorCode::TooLarge) => close_code::SIZE,
            Some(_) => close_code::POLICY,
        },
        reason: Utf8Bytes::from_static(code.map_or("left", ErrorCode::as_str)),
    };
    let goodbye = async {
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            if readable {
                while let Some(Ok(_)) = stream.next().await {}
            } else {
                tokio::time::sleep(LINGER).await;
            }
        }
    };
    let _ = timeout(LINGER, goodbye).await;
}

/// What the client is told about a frame that could not be read; `None` if it is gone.
fn fault_of(error: &axum::Error) -> Option<(ErrorCode, &'static str)> {
    // The error's type belongs to the WebSocket library inside axum, which axum does not show.
    let text = error.to_string();
    if text.starts_with("Space limit exceeded") {
        Some((ErrorCode::TooLarge, "the message is too large"))
    } else if text.starts_with("UTF-8") {
        Some((ErrorCode::BadJson, "not UTF-8"))
    } else {
        None
    }
}
