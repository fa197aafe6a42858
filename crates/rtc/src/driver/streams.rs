//! TCP and TLS: streams to relays, and to candidates of TCP and from them. Each has a task; what it reads comes to the
//! driver's loop as [`StreamEvent`]s.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::connection::{Endpoint, OpenRelay, RelayId, Transmit};
use crate::peer::RelayTls;

/// What happened on a stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// A datagram, or a message of TURN.
    Message { endpoint: Endpoint, source: SocketAddr, bytes: BytesMut },
    /// A stream to a relay can be used.
    RelayOpened(RelayId),
    /// It could not be opened, or has ended.
    RelayClosed(RelayId, String),
    /// Somebody connected to a listener of ours and sent its first datagram.
    Accepted { listener: SocketAddr, source: SocketAddr, queue: mpsc::Sender<Bytes>, first: Bytes },
}

/// All streams of a connection. Their tasks end when this is dropped.
pub(super) struct Streams {
    tls: Option<RelayTls>,
    events: mpsc::Sender<StreamEvent>,
    /// What is to be sent, by who is at the other end.
    relays: HashMap<RelayId, mpsc::Sender<Bytes>>,
    candidates: HashMap<(Endpoint, SocketAddr), mpsc::Sender<Bytes>>,
    listeners: HashMap<SocketAddr, AbortHandle>,
    tasks: JoinSet<()>,
    /// Whether connections are taken.
    accepts: watch::Sender<bool>,
}

/// How messages follow each other on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// They delimit themselves, padded to four bytes (RFC 8656 §3.7, §12.5).
    Turn,
    /// Each has its length in front (RFC 4571 §2).
    Length,
}

impl Streams {
    pub(super) fn new(tls: Option<RelayTls>, events: mpsc::Sender<StreamEvent>) -> Self {
        Self {
            tls,
            events,
            relays: HashMap::new(),
            candidates: HashMap::new(),
            listeners: HashMap::new(),
            tasks: JoinSet::new(),
            accepts: watch::Sender::new(false),
        }
    }

    /// Opens a stream to a relay.
    pub(super) fn open_relay(&mut self, open: OpenRelay) {
        let (queue, mut queued) = mpsc::channel(QUEUE);
        self.relays.insert(open.id, queue);
        let (tls, events) = (self.tls.clone(), self.events.clone());
        self.spawn(async move {
            let id = open.id;
            let endpoint = Endpoint::Relay(id);
            let work = async {
                let stream =
                    timeout(CONNECT_LIMIT, connect_relay(&open, tls)).await.unwrap_or_else(
                        |_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
                    )?;
                if events.send(StreamEvent::RelayOpened(id)).await.is_err() {
                    return Ok(());
                }
                let buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
                let source = open.address;
                let read =
                    |bytes| deliver(&events, StreamEvent::Message { endpoint, source, bytes });
                match stream {
                    Stream::Plain(stream) => {
                        carry(stream, buffer, Framing::Turn, &mut queued, read).await
                    }
                    Stream::Tls(stream) => {
                        carry(*stream, buffer, Framing::Turn, &mut queued, read).await
                    }
                }
            };
            let outcome: io::Result<()> = work.await;
            let reason = outcome.err().map_or_else(|| "closed".to_owned(), |e| e.to_string());
            let _ = events.send(StreamEvent::RelayClosed(id, reason)).await;
        });
    }

    /// A stream to a relay is of no more use: it ends when what waits was sent.
    pub(super) fn close_relay(&mut self, id: RelayId) {
        self.relays.remove(&id);
    }

    /// Listens at an address, with any port; connections are taken once [`Streams::accept`] was called.
    pub(super) fn listen(
        &mut self,
        address: SocketAddr,
        ufrag: watch::Receiver<String>,
    ) -> io::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let (at, listener) = (listener.local_addr()?, TcpListener::from_std(listener)?);
        let (accepts, events) = (self.accepts.subscribe(), self.events.clone());
        let taking = take_connections(at, listener, accepts, ufrag, events);
        let handle = self.tasks.spawn(taking);
        self.listeners.insert(at, handle);
        Ok(at)
    }

    /// An address of ours is gone.
    pub(super) fn close_base(&mut self, ip: IpAddr) {
        self.listeners.retain(|at, task| {
            let stays = at.ip() != ip;
            if !stays {
                task.abort();
            }
            stays
        });
        self.candidates.retain(|(endpoint, _), _| match endpoint {
            Endpoint::TcpActive(base) | Endpoint::TcpPassive(base) => base.ip() != ip,
            Endpoint::Udp(_) | Endpoint::Relay(_) => true,
        });
    }

    /// Takes connections from now on.
    pub(super) fn accept(&self) {
        self.accepts.send_replace(true);
    }

    /// Somebody connected.
    pub(super) fn accepted(
        &mut self,
        listener: SocketAddr,
        source: SocketAddr,
        queue: mpsc::Sender<Bytes>,
    ) {
        self.candidates.retain(|_, queue| !queue.is_closed());
        self.candidates.insert((Endpoint::TcpPassive(listener), source), queue);
    }

    /// Sends over a stream, which is opened if it is one to a candidate. A full queue loses it, as a socket would.
    pub(super) fn send(&mut self, transmit: Transmit) {
        let Transmit { endpoint, destination, bytes } = transmit;
        let queue = match endpoint {
            Endpoint::Relay(id) => self.relays.get(&id),
            Endpoint::TcpActive(base) => {
                let key = (endpoint, destination);
                if self.candidates.get(&key).is_none_or(mpsc::Sender::is_closed) {
                    self.open_candidate(base, destination);
                }
                self.candidates.get(&key)
            }
            _ => self.candidates.get(&(endpoint, destination)),
        };
        if let Some(queue) = queue {
            let _ = queue.try_send(bytes.into());
        }
    }

    fn open_candidate(&mut self, base: SocketAddr, destination: SocketAddr) {
        let endpoint = Endpoint::TcpActive(base);
        self.candidates.retain(|_, queue| !queue.is_closed());
        if self.candidates.len() >= MAX_STREAMS {
            return;
        }
        let (queue, mut queued) = mpsc::channel(QUEUE);
        self.candidates.insert((endpoint, destination), queue);
        let events = self.events.clone();
        self.spawn(async move {
            let stream = timeout(CONNECT_LIMIT, connect(base.ip(), destination)).await;
            let stream = match stream {
                Ok(Ok(stream)) => stream,
                other => {
                    tracing::debug!(%destination, ?other, "no stream to a candidate of TCP");
                    // The next check opens one again.
                    return tokio::time::sleep(RECONNECT_AFTER).await;
                }
            };
            let buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
            let source = destination;
            let ended = carry(stream, buffer, Framing::Length, &mut queued, |bytes| {
                deliver(&events, StreamEvent::Message { endpoint, source, bytes });
            });
            let ended = ended.await;
            tracing::debug!(%destination, ?ended, "a stream to a candidate ended");
        });
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(work);
    }
}

/// A full queue loses it, as a socket would.
fn deliver(events: &mpsc::Sender<StreamEvent>, event: StreamEvent) {
    let _ = events.try_send(event);
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn connect_relay(open: &OpenRelay, tls: Option<RelayTls>) -> io::Result<Stream> {
    let stream = connect(open.from, open.address).await?;
    let Some(name) = &open.tls_name else { return Ok(Stream::Plain(stream)) };
    let tls = tls.ok_or_else(|| io::Error::other("no certificates to trust it by"))?;
    let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(TlsConnector::from(tls).connect(name, stream).await?)))
}

async fn connect(from: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if from.is_ipv4() == address.is_ipv4() && !from.is_loopback() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    // What waits in the system cannot be taken back when the path gets slower.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Takes connections of candidates that do not listen, once they are needed.
async fn take_connections(
    at: SocketAddr,
    listener: TcpListener,
    mut accepts: watch::Receiver<bool>,
    ufrag: watch::Receiver<String>,
    events: mpsc::Sender<StreamEvent>,
) {
    if accepts.wait_for(|accepts| *accepts).await.is_err() {
        return;
    }
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Those that are open end with the listener.
    let mut open = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (mut stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Perhaps too many files are open.
                tracing::info!(%error, "a connection was not taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while open.try_join_next().is_some() {}
        let (ufrag, events) = (ufrag.clone(), events.clone());
        open.spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            let options = socket2::SockRef::from(&stream);
            let _ = options.set_send_buffer_size(SEND_BUFFER_BYTES as usize);
            let first = timeout(FIRST_CHECK, first_datagram(&mut stream)).await;
            let Ok(Ok((first, buffer))) = first else { return };
            if !is_for(&first, &ufrag.borrow()) {
                tracing::debug!(%source, "a connection without a check for us");
                return;
            }
            let (queue, mut queued) = mpsc::channel(QUEUE);
            let accepted = StreamEvent::Accepted { listener: at, source, queue, first };
            if events.send(accepted).await.is_err() {
                return;
            }
            let endpoint = Endpoint::TcpPassive(at);
            let ended = carry(stream, buffer, Framing::Length, &mut queued, |bytes| {
                deliver(&events, StreamEvent::Message { endpoint, source, bytes });
            });
            let ended = ended.await;
            tracing::debug!(%source, ?ended, "a stream of a candidate ended");
        });
    }
}

/// Whether it is a connectivity check with our user name fragment (RFC 8445 §7.2.2). Who does not know that was not
/// told of us; the agent looks at the rest.
fn is_for(datagram: &[u8], ufrag: &str) -> bool {
    let name = stun_attribute(datagram, USERNAME).unwrap_or_default();
    let ours = name.split(|byte| *byte == b':').next().unwrap_or_default();
    datagram.starts_with(&[0, 1]) && !ufrag.is_empty() && ours == ufrag.as_bytes()
}

/// The value of the first attribute of this type (RFC 8489 §14).
fn stun_attribute(datagram: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = datagram.get(20..)?;
    loop {
        let ([a, b, c, d], after) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        if u16::from_be_bytes([*a, *b]) == wanted {
            return after.get(..length);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
}

/// Carries messages both ways until the queue is closed; `buffer` has what was read already.
async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    mut buffer: BytesMut,
    framing: Framing,
    queue: &mut mpsc::Receiver<Bytes>,
    deliver: impl Fn(BytesMut),
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        loop {
            while let Some(message) = framing.take(&mut buffer)? {
                if !message.is_empty() {
                    deliver(message);
                }
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
            }
        }
    };
    let write = async {
        while let Some(message) = queue.recv().await {
            if framing == Framing::Length {
                let length = u16::try_from(message.len()).map_err(io::Error::other)?;
                writer.write_all(&[&length.to_be_bytes(), &message[..]].concat()).await?;
            } else {
                // Padded by the client.
                writer.write_all(&message).await?;
            }
            if queue.is_empty() {
                writer.flush().await?;
            }
        }
        writer.shutdown().await
    };
    tokio::select! {
        outcome = read => outcome,
        outcome = write => outcome,
    }
}

/// The first datagram of a stream that somebody else opened, and what came behind it.
async fn first_datagram(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Bytes, BytesMut)> {
    let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
    loop {
        if let Some(first) = Framing::Length.take(&mut buffer)? {
            return Ok((first.freeze(), buffer));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl Framing {
    /// The next message, if all of it is there.
    fn take(self, buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        let Some([kind, length, a, b]) = buffer.first_chunk::<4>() else {
            // An empty datagram is of two bytes.
            return Ok(None);
        };
        let (skipped, length) = match (self, kind >> 6) {
            (Self::Length, _) => (2, usize::from(u16::from_be_bytes([*kind, *length]))),
            // A STUN message, or one of ChannelData (RFC 8656 §12.4).
            (Self::Turn, 0) => (0, 20 + usize::from(u16::from_be_bytes([*a, *b]))),
            (Self::Turn, 1) => (0, 4 + usize::from(u16::from_be_bytes([*a, *b]))),
            (Self::Turn, _) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak TURN"));
            }
        };
        let whole = skipped + if self == Self::Turn { length.next_multiple_of(4) } else { length };
        if buffer.len() < whole {
            buffer.reserve(whole - buffer.len());
            return Ok(None);
        }
        let mut frame = buffer.split_to(whole);
        frame.advance(skipped);
        frame.truncate(length);
        Ok(Some(frame))
    }
}

/// The messages of a stream that comes in pieces, until one is malformed.
#[cfg(any(test, fuzzing))]
pub(crate) fn cut<'a>(turn: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<BytesMut> {
    let framing = if turn { Framing::Turn } else { Framing::Length };
    let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match framing.take(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}

/// Messages that wait in each direction: 400 ms of 2.5 Mbps.
const QUEUE: usize = 128;
/// TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// To and from candidates at once.
const MAX_STREAMS: usize = 32;
/// Taken at once by each listener.
const MAX_CONNECTIONS: usize = 8;
/// Who has connected has its first check ready.
const FIRST_CHECK: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// 400 ms of 2.5 Mbps.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// RFC 8489 §14.3.
const USERNAME: u16 = 0x0006;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_of_turn_are_cut_out_of_the_stream_without_their_padding() {
        let stun = [&[0x01, 0x03, 0, 4][..], &[9; 20]].concat();
        let channel = [&[0x40, 0x01, 0, 5][..], &[7; 5]].concat();
        let all = [&stun[..], &channel, &[0; 3], &stun].concat();
        for chunk in 1..all.len() {
            assert_eq!(cut(true, all.chunks(chunk)), [&stun[..], &channel, &stun]);
        }
        assert!(Framing::Turn.take(&mut BytesMut::from(&[0x80u8, 0, 0, 0][..])).is_err());
        // "H" has the bits of ChannelData: it waits for more, and the relay hangs up.
        let mut http = BytesMut::from(&b"HTTP/1.1 400 Bad Request"[..]);
        assert!(Framing::Turn.take(&mut http).is_ok());
    }

    #[test]
    fn datagrams_with_their_length_are_cut_out_of_the_stream() {
        let all = [&[0, 5][..], b"hello", &[0, 0], &[0, 2], b"ab"].concat();
        for chunk in 1..all.len() {
            assert_eq!(cut(false, all.chunks(chunk)), [&b"hello"[..], b"", b"ab"]);
        }
    }

    #[test]
    fn a_connection_is_known_by_a_check_for_us() {
        let username = [&[0, 6, 0, 9][..], b"ours:them", &[0; 3]].concat();
        let check = [&[0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12], &username].concat();
        assert!(is_for(&check, "ours"));
        assert!(!is_for(&check, "other") && !is_for(&check, "") && !is_for(b"GET / HTTP/1.1", ""));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for framing in [Framing::Turn, Framing::Length] {
                let mut buffer = BytesMut::from(&bytes[..]);
                while let Ok(Some(_)) = framing.take(&mut buffer) {}
            }
            let _ = is_for(&bytes, "x");
        }
    }
}
