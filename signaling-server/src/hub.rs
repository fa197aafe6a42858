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
use tokio::sync::mpsc;
use tokio::time::timeout;
use visavis_signaling_protocol::limits::{BACKLOG_BYTES, BACKLOG_MESSAGES};
use visavis_signaling_protocol::{ClientMessage, ErrorCode, ServerMessage};

use crate::ServerConfig;
use crate::relay;
use crate::rooms::{ConnectionId, Input, Output, Rooms};

/// How often the rooms look at the clock.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Frames that may wait for one WebSocket: a whole backlog and as much again. Who has more
/// waiting reads too slowly and is disconnected.
const OUTBOX_FRAMES: usize = 2 * BACKLOG_MESSAGES;
/// Bytes likewise.
const OUTBOX_BYTES: usize = 2 * BACKLOG_BYTES;
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
    outboxes: HashMap<ConnectionId, OutboxSender>,
    opened: u64,
    max_connections: usize,
    /// Cloned into every connection's task; gone once the server goes down.
    alive: Option<mpsc::Sender<()>>,
}

enum Frame {
    Message(ServerMessage, usize),
    Probe,
    Close(Option<ErrorCode>),
}

struct OutboxSender {
    frames: mpsc::Sender<Frame>,
    bytes: Arc<AtomicUsize>,
}

/// One WebSocket's side of the hub.
pub(crate) struct Connection {
    id: ConnectionId,
    frames: mpsc::Receiver<Frame>,
    bytes: Arc<AtomicUsize>,
    hub: Arc<Hub>,
    _alive: mpsc::Sender<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.handle(Input::Disconnected { connection: self.id });
        self.hub.lock().outboxes.remove(&self.id);
    }
}

impl Hub {
    /// With the receiver that ends when every connection is gone after [`Self::shut_down`].
    pub(crate) fn new(
        config: &ServerConfig,
        relay: Option<relay::Urls>,
    ) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (ice_servers, turn) = (config.ice_servers.clone(), config.turn.clone());
        let mint = Box::new(move |peer: &_, host: Option<&_>| {
            let now = SystemTime::now();
            let turn = turn.as_ref().map(|turn| turn.mint(peer, now));
            let own = relay.as_ref().map(|relay| relay.ice_servers(peer, host, now));
            let own = own.into_iter().flatten();
            ice_servers.iter().cloned().chain(turn).chain(own).collect()
        });
        // Nothing is ever sent: it counts its senders.
        let (alive, all_gone) = mpsc::channel(1);
        let state = State {
            rooms: Rooms::new(Instant::now(), config.limits.clone(), mint),
            outboxes: HashMap::new(),
            opened: 0,
            max_connections: config.limits.connections,
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

    /// Lets a WebSocket in; `None` if there are too many or the server goes down.
    pub(crate) fn open(
        self: &Arc<Self>,
        address: IpAddr,
        host: Option<Authority>,
    ) -> Option<Connection> {
        let mut state = self.lock();
        let alive = state.alive.clone()?;
        if state.outboxes.len() >= state.max_connections {
            return None;
        }
        let id = ConnectionId(state.opened);
        state.opened += 1;
        let (sender, frames) = mpsc::channel(OUTBOX_FRAMES);
        let bytes = Arc::new(AtomicUsize::new(0));
        state.outboxes.insert(id, OutboxSender { frames: sender, bytes: Arc::clone(&bytes) });
        state.handle(Input::Connected { connection: id, address, host });
        Some(Connection { id, frames, bytes, hub: Arc::clone(self), _alive: alive })
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
        self.rooms.handle(Instant::now(), input);
        while let Some(output) = self.rooms.poll_output() {
            let (id, frame, closes) = match output {
                Output::Send { connection, message, bytes } => {
                    (connection, Frame::Message(message, bytes), false)
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
                self.rooms.handle(Instant::now(), Input::Disconnected { connection: id });
            }
            if closes || !sent {
                self.outboxes.remove(&id);
            }
        }
    }
}

impl OutboxSender {
    /// False if the outbox is full.
    fn send(&self, frame: Frame) -> bool {
        if let Frame::Message(_, bytes) = &frame
            && self.bytes.fetch_add(*bytes, Ordering::Relaxed) + bytes > OUTBOX_BYTES
        {
            return false;
        }
        // A closed channel is a connection about to be dropped, which needs no frame.
        !matches!(self.frames.try_send(frame), Err(mpsc::error::TrySendError::Full(_)))
    }
}

/// Serves one WebSocket to its end.
pub(crate) async fn serve(mut connection: Connection, socket: WebSocket) {
    let id = connection.id;
    let (mut sink, mut stream) = socket.split();
    // After an unreadable frame nothing can be read, but the reason can be written.
    let mut readable = true;
    loop {
        tokio::select! {
            frame = stream.next(), if readable => match frame {
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
                Some(Frame::Message(message, bytes)) => {
                    connection.bytes.fetch_sub(bytes, Ordering::Relaxed);
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
