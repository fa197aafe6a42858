//! The UDP socket that the stack sees.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::lane::{Framing, Lane, SEND_BUFFER_BYTES, carry, first_datagram};
use crate::direct::Pair;
use crate::session::Session;
use crate::turn::{Permissions, Refusal, Refusals, StreamRelays, granted, stun_attribute};
use crate::types::{PeerEvent, RelayError};

/// A UDP socket, but what is sent to a relay's stand-in or to a candidate of TCP goes over a stream. Reads
/// along to tell the owner what relays refuse.
pub(crate) struct StreamSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    local: Option<SocketAddr>,
    relays: Arc<StreamRelays>,
    session: Arc<Session>,
    lanes: Arc<Mutex<Lanes>>,
    /// Takes connections.
    listening: Option<AbortHandle>,
    refusals: Mutex<Refusals>,
    permissions: Mutex<Permissions>,
    deliver: mpsc::Sender<(SocketAddr, Bytes)>,
    delivered: Mutex<mpsc::Receiver<(SocketAddr, Bytes)>>,
}

/// Streams by their other ends, as queues of what is to be sent.
type Lanes = HashMap<SocketAddr, mpsc::Sender<Bytes>>;

impl StreamSocket {
    pub(crate) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        relays: Arc<StreamRelays>,
        session: Arc<Session>,
    ) -> Self {
        let (deliver, delivered) = mpsc::channel(QUEUE);
        let lanes = Arc::default();
        let listening = listen(inner.as_ref(), &session, &lanes, &deliver);
        Self {
            local: inner.local_addr().ok(),
            inner,
            relays,
            session,
            lanes,
            listening,
            refusals: Mutex::default(),
            permissions: Mutex::default(),
            deliver,
            delivered: Mutex::new(delivered),
        }
    }

    /// Queues datagrams for the other end; a full queue loses them, as a socket would.
    fn send_over_stream(&self, end: SocketAddr, transmit: &Transmit<'_>) -> io::Result<usize> {
        let mut lanes = lock(&self.lanes);
        let lane = match lanes.get(&end) {
            Some(lane) => lane,
            None => {
                let lane = self.open_lane(end)?;
                lanes.entry(end).or_insert(lane)
            }
        };
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(size) {
            let _ = lane.try_send(Bytes::copy_from_slice(datagram));
        }
        Ok(transmit.contents.len())
    }

    fn open_lane(&self, end: SocketAddr) -> io::Result<mpsc::Sender<Bytes>> {
        let relay = self.relays.at(end).cloned();
        let (queue, queued) = mpsc::channel(QUEUE);
        let url = relay.as_ref().map(|relay| relay.url.clone());
        let lane = Lane {
            relay,
            tls: self.relays.tls(),
            local: self.inner.local_addr()?.ip(),
            end,
            deliver: self.deliver.clone(),
            is_late: Box::new({
                let (relays, session) = (self.relays.clone(), self.session.clone());
                let is_relay = url.is_some();
                move || is_relay && !session.direct.is_selected() && relays.is_udp_granted()
            }),
        };
        let session = self.session.clone();
        tokio::spawn(lane.run(queued, move |reason| match &url {
            Some(url) => {
                let error = RelayError { relay: url.clone(), code: UNREACHABLE, reason };
                session.emit(PeerEvent::RelayError(error));
            }
            None => tracing::debug!(%end, reason, "no stream to a candidate of TCP"),
        }));
        Ok(queue)
    }

    fn tell(&self, from: SocketAddr, refusal: Refusal) {
        let relay = match self.relays.at(from) {
            Some(relay) => relay.url.clone(),
            None => format!("turn:{from}"),
        };
        let Refusal { code, reason } = refusal;
        self.session.emit(PeerEvent::RelayError(RelayError { relay, code, reason }));
    }

    fn read_along(&self, from: SocketAddr, datagram: &[u8]) {
        // Media is most of what comes and is never STUN.
        if !self.session.turn || datagram.first().is_none_or(|first| *first >= 4) {
            return;
        }
        lock(&self.permissions).on_receive(datagram);
        if let Some(relayed) = granted(datagram) {
            self.relays.note_granted(from, relayed);
        }
        if let Some(refusal) = lock(&self.refusals).on_receive(datagram, unix_now()) {
            self.tell(from, refusal);
        }
    }
}

impl AsyncUdpSocket for StreamSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if self.session.turn && transmit.contents.first().is_some_and(|first| *first < 4) {
            lock(&self.refusals).on_send(transmit.contents);
            let known = lock(&self.permissions).on_send(transmit.destination, transmit.contents);
            if let Some(answer) = known {
                // A full queue loses it, and the stack asks again.
                let _ = self.deliver.try_send((transmit.destination, answer.into()));
                return Poll::Ready(Ok(transmit.contents.len()));
            }
        }
        let to = transmit.destination;
        if self.relays.at(to).is_some() || self.session.tcp.is_end(to) {
            return Poll::Ready(self.send_over_stream(to, transmit));
        }
        if let Some(local) = self.local {
            self.session.direct.note_server(Pair { local, remote: to }, transmit.contents);
        }
        self.inner.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Some((from, datagram))) = lock(&self.delivered).poll_recv(cx)
            && let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut())
        {
            self.read_along(from, &datagram);
            // Longer than any datagram the stack expects: cut, as a socket would.
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta::default();
            (meta.addr, meta.len, meta.stride) = (from, length, length.max(1));
            return Poll::Ready(Ok(1));
        }
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (buffer, meta) in bufs.iter().zip(meta.iter()).take(count) {
                self.read_along(meta.addr, buffer.get(..meta.len).unwrap_or_default());
            }
        }
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

impl Drop for StreamSocket {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

impl fmt::Debug for StreamSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSocket").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Listens for TCP beside a UDP socket. `None` if nobody is to connect, or it cannot be.
fn listen(
    beside: &dyn AsyncUdpSocket,
    session: &Arc<Session>,
    lanes: &Arc<Mutex<Lanes>>,
    deliver: &mpsc::Sender<(SocketAddr, Bytes)>,
) -> Option<AbortHandle> {
    let ip = beside.local_addr().ok()?.ip();
    // The one for multicast DNS has no address of its own.
    if !session.tcp.is_enabled() || ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    let bind = || -> io::Result<_> {
        let listener = std::net::TcpListener::bind((ip, 0))?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, TcpListener::from_std(listener)?))
    };
    match bind() {
        Ok((at, listener)) => {
            session.tcp.listening(at);
            let taking =
                take_connections(listener, session.clone(), lanes.clone(), deliver.clone());
            Some(tokio::spawn(taking).abort_handle())
        }
        Err(error) => {
            tracing::info!(%ip, %error, "no candidate of TCP there");
            None
        }
    }
}

/// Takes connections of candidates that do not listen, once they are needed.
async fn take_connections(
    listener: TcpListener,
    session: Arc<Session>,
    lanes: Arc<Mutex<Lanes>>,
    deliver: mpsc::Sender<(SocketAddr, Bytes)>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Those that are open end with the socket.
    let mut open = JoinSet::new();
    loop {
        session.tcp.opened().await;
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (mut stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Perhaps too many files are open.
                tracing::info!(%error, "a connection was not taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        while open.try_join_next().is_some() {}
        let (session, lanes, deliver) = (session.clone(), lanes.clone(), deliver.clone());
        open.spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            let options = socket2::SockRef::from(&stream);
            let _ = options.set_send_buffer_size(SEND_BUFFER_BYTES as usize);
            let first = tokio::time::timeout(FIRST_CHECK, first_datagram(&mut stream)).await;
            let Ok(Ok((first, buffer))) = first else { return };
            if !is_for(&first, &session.direct.local_ufrag()) {
                tracing::debug!(%from, "a connection without a check for us");
                return;
            }
            let (queue, mut queued) = mpsc::channel(QUEUE);
            lock(&lanes).insert(from, queue);
            session.tcp.add_end(from);
            let tell = |datagram| {
                let _ = deliver.try_send((from, datagram));
            };
            tell(first);
            let ended = carry(stream, buffer, Framing::Length, None, &mut queued, tell).await;
            tracing::debug!(%from, ?ended, "a stream of a candidate ended");
            session.tcp.remove_end(from);
            drop(queued);
            lock(&lanes).retain(|_, lane| !lane.is_closed());
        });
    }
}

/// Whether it is a connectivity check with our user name fragment (RFC 8445 §7.2.2). Who does not know
/// that was not told of us; the stack looks at the rest.
fn is_for(datagram: &[u8], ufrag: &str) -> bool {
    let name = stun_attribute(datagram, USERNAME).unwrap_or_default();
    let ours = name.split(|byte| *byte == b':').next().unwrap_or_default();
    datagram.starts_with(&[0, 1]) && !ufrag.is_empty() && ours == ufrag.as_bytes()
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Datagrams that wait in each direction: 400 ms of 2.5 Mbps.
const QUEUE: usize = 128;
/// Taken at once beside each of our sockets.
const MAX_CONNECTIONS: usize = 8;
/// Who has connected has its first check ready.
const FIRST_CHECK: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// RFC 8489 §14.3.
const USERNAME: u16 = 0x0006;
/// W3C `RTCPeerConnectionIceErrorEvent.errorCode` for a server that cannot be reached.
const UNREACHABLE: u16 = 701;
