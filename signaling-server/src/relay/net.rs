//! Sockets of the relay: the UDP port, one task for each allocation's socket and each stream.
//! The core's lock is never held across an `await`; no send to a socket ever waits.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::core::{Action, Client, ClientId, Core, Now, StreamStage};
use super::wire::{self, MAX_BYTES};
use super::{Bound, Relayed, own_addresses};
use crate::gate::Gate;
use crate::metrics::Figures;
use crate::rooms::SeatChange;

/// Messages that may wait for one stream to be written; further data is dropped, as on a
/// congested path.
const STREAM_QUEUE: usize = 256;
/// Bytes likewise: an eighth of a second at the rate of one allocation.
const STREAM_QUEUE_BYTES: usize = 256 * 1024;
/// Bytes likewise, once more than [`STREAM_QUEUES_BYTES`] wait for all streams together.
const STREAM_QUEUE_SHORT_BYTES: usize = 16 * 1024;
/// See there.
const STREAM_QUEUES_BYTES: usize = 32 * 1024 * 1024;
/// Messages written together.
const STREAM_BATCH: usize = 32;
/// Time that one write may take; who reads more slowly is disconnected.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How often expired allocations and idle streams are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often the machine's addresses are looked up, in ticks.
const OWN_ADDRESSES_TICKS: u32 = 60;
/// Ports tried for one allocation.
const PORT_ATTEMPTS: u32 = 64;

/// A relay in service.
pub(crate) struct Relay {
    core: Mutex<Core<Arc<Link>>>,
    socket: UdpSocket,
    relayed: Vec<Relayed>,
    ports: std::ops::RangeInclusive<u16>,
    streams_opened: AtomicU64,
    streams: Arc<Gate>,
    first_request_limit: Duration,
    idle_limit: Duration,
    /// See [`Bound::public_addresses`].
    public: Vec<std::net::IpAddr>,
    /// Messages dropped because a socket or a stream's queue was full.
    dropped: AtomicU64,
    /// Bytes that wait for streams to be written.
    queued: Arc<AtomicUsize>,
    /// True once the server goes down.
    closing: watch::Sender<bool>,
}

/// An allocation's way to both sides. Ends its task when it is dropped.
pub(crate) struct Link {
    socket: Arc<UdpSocket>,
    client: Sink,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The way to a client.
#[derive(Clone)]
enum Sink {
    Datagrams(SocketAddr),
    Stream { messages: mpsc::Sender<Queued>, queued: Arc<AtomicUsize> },
}

/// A message that waits for a stream, counted as long as it is there.
struct Queued {
    message: Vec<u8>,
    /// Of this stream, and of all.
    counts: [Arc<AtomicUsize>; 2],
}

impl Queued {
    /// `None` if there is no room for it.
    fn new(message: Vec<u8>, own: &Arc<AtomicUsize>, all: &Arc<AtomicUsize>) -> Option<Self> {
        let limit = if all.load(Ordering::Relaxed) > STREAM_QUEUES_BYTES {
            STREAM_QUEUE_SHORT_BYTES
        } else {
            STREAM_QUEUE_BYTES
        };
        if own.load(Ordering::Relaxed) + message.len() > limit {
            return None;
        }
        let counts = [Arc::clone(own), Arc::clone(all)];
        for count in &counts {
            count.fetch_add(message.len(), Ordering::Relaxed);
        }
        Some(Self { message, counts })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        for count in &self.counts {
            count.fetch_sub(self.message.len(), Ordering::Relaxed);
        }
    }
}

impl Relay {
    /// Serves datagrams, until [`Self::close`]. Needs a tokio runtime.
    pub(crate) fn start(bound: Bound) -> io::Result<Arc<Self>> {
        let policy = bound.policy();
        let relayed_ips = bound.relayed.iter().map(|relayed| relayed.public).collect();
        let public = bound.public_addresses();
        let limits = bound.config.limits;
        let streams = Gate::new(limits.connections, limits.connections_per_address, None);
        let (first_request_limit, idle_limit) = (limits.first_request, limits.idle);
        let core = Core::new(Instant::now(), bound.auth, limits, policy, relayed_ips);
        let relay = Arc::new(Self {
            core: Mutex::new(core),
            socket: UdpSocket::from_std(bound.socket)?,
            relayed: bound.relayed,
            ports: bound.config.ports,
            streams_opened: AtomicU64::new(0),
            streams,
            first_request_limit,
            idle_limit,
            public,
            dropped: AtomicU64::new(0),
            queued: Arc::default(),
            closing: watch::Sender::new(false),
        });
        tokio::spawn(Arc::clone(&relay).until_closing(Arc::clone(&relay).serve_datagrams()));
        tokio::spawn(Arc::clone(&relay).until_closing(Arc::clone(&relay).tick()));
        Ok(relay)
    }

    /// Ends every allocation, stream and task.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        self.lock().close_all();
    }

    /// Whose credentials are good.
    pub(crate) fn seat_changed(&self, change: SeatChange) {
        self.lock().seat_changed(Instant::now(), change);
    }

    /// For `/metrics`.
    pub(crate) fn write_figures(&self, figures: &mut Figures) {
        let core = self.lock();
        let sums = core.counters();
        let streams = self.streams.open();
        let dropped = sums.over_rate + self.dropped.load(Ordering::Relaxed);
        figures.gauge("relay_allocations", "Open allocations.", core.allocation_count() as u64);
        figures.gauge("relay_streams", "Open TCP and TLS connections.", streams as u64);
        let queued = self.queued.load(Ordering::Relaxed);
        figures.gauge("relay_queued_bytes", "Bytes that wait for streams.", queued as u64);
        figures.counter("relay_allocations_total", "Allocations opened.", sums.allocations);
        figures.counter(
            "relay_sent_bytes_total",
            "Bytes of data from clients to peers.",
            sums.bytes_to_peers,
        );
        figures.counter(
            "relay_received_bytes_total",
            "Bytes of data from peers to clients.",
            sums.bytes_to_clients,
        );
        figures.counter(
            "relay_dropped_total",
            "Messages dropped: beyond the rate, or a queue was full.",
            dropped,
        );
        figures.counter(
            "relay_unanswered_total",
            "Requests beyond the rate of their address.",
            sums.unanswered,
        );
        let codes = sums.refusals.iter().map(|(code, count)| (code, *count));
        figures.counters("relay_refusals_total", "Requests refused, by STUN error.", "code", codes);
    }

    fn lock(&self) -> MutexGuard<'_, Core<Arc<Link>>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until_closing(self: Arc<Self>, task: impl Future<Output = ()>) {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            () = task => {}
            // An error is a relay that is gone, which it is not while `self` lives.
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }

    async fn tick(self: Arc<Self>) {
        for ticks in 1_u32.. {
            sleep(TICK).await;
            self.lock().tick(Instant::now());
            if ticks % OWN_ADDRESSES_TICKS == 0 {
                let own = own_addresses(&self.public);
                self.lock().set_own_addresses(own);
            }
        }
    }

    async fn serve_datagrams(self: Arc<Self>) {
        let mut buffer = [0; MAX_BYTES + 1];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                // Longer ones were cut.
                Ok((bytes, from)) if bytes <= MAX_BYTES => {
                    let client = Client { id: ClientId::Datagrams(from), address: plain(from) };
                    self.client_sent(client, &buffer[..bytes], &Sink::Datagrams(from));
                }
                Ok(_) => {}
                // Some systems report here what ICMP said about an earlier datagram.
                Err(error) => {
                    tracing::debug!(%error, "relay: cannot receive");
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }

    /// Serves one TCP or TLS stream to its end.
    pub(crate) async fn serve_stream<S>(self: Arc<Self>, stream: S, address: SocketAddr)
    where
        S: AsyncRead + AsyncWrite,
    {
        let Ok(_pass) = self.streams.enter(Instant::now(), address.ip()) else {
            tracing::debug!("relay: too many streams");
            return;
        };
        let number = self.streams_opened.fetch_add(1, Ordering::Relaxed);
        let client = Client { id: ClientId::Stream(number), address: plain(address) };
        let (reader, writer) = tokio::io::split(stream);
        let (sender, messages) = mpsc::channel(STREAM_QUEUE);
        let sink = Sink::Stream { messages: sender, queued: Arc::default() };
        let serving = async {
            tokio::select! {
                () = self.read_stream(reader, client, &sink) => {}
                () = write_stream(writer, messages) => {}
                () = self.idle(number) => {
                    tracing::debug!("relay: stream without allocation closed");
                }
            }
        };
        Arc::clone(&self).until_closing(serving).await;
        self.lock().close_stream(number);
    }

    /// Ready once a stream has shown no credentials in time, or has had no allocation for too long.
    async fn idle(&self, stream: u64) {
        let opened = Instant::now();
        let mut since = opened;
        loop {
            sleep(TICK).await;
            let limit = match self.lock().stage(stream) {
                StreamStage::Allocated => {
                    since = Instant::now();
                    continue;
                }
                StreamStage::Authentic => self.idle_limit,
                StreamStage::Unknown => self.first_request_limit.min(self.idle_limit),
            };
            if since.elapsed() >= limit {
                return;
            }
        }
    }

    async fn read_stream(
        self: &Arc<Self>,
        mut reader: impl AsyncRead + Unpin,
        client: Client,
        sink: &Sink,
    ) {
        let mut buffer = Vec::with_capacity(2 * MAX_BYTES);
        while matches!(reader.read_buf(&mut buffer).await, Ok(1..)) {
            let mut done = 0;
            loop {
                match wire::frame_bytes(&buffer[done..]) {
                    Ok(Some(bytes)) => {
                        self.client_sent(client, &buffer[done..done + bytes], sink);
                        done += bytes;
                    }
                    Ok(None) => break,
                    Err(wire::Malformed) => return,
                }
            }
            // What is left is less than one message, so that the buffer never grows.
            buffer.drain(..done);
        }
    }

    fn client_sent(self: &Arc<Self>, client: Client, bytes: &[u8], sink: &Sink) {
        let mut open = |v6| self.open(v6, sink);
        let action = self.lock().client_sent(now(), client, bytes, &mut open);
        let sent = match action {
            Action::Nothing => true,
            Action::Answer(answer) => self.send(sink, answer),
            Action::ToPeer { link, peer, data } => {
                link.socket.try_send_to(&bytes[data], peer).is_ok()
            }
            Action::ToClient { link, message } => self.send(&link.client, message),
        };
        self.count(sent);
    }

    fn send(&self, sink: &Sink, message: Vec<u8>) -> bool {
        match sink {
            Sink::Datagrams(to) => self.socket.try_send_to(&message, *to).is_ok(),
            Sink::Stream { messages, queued } => Queued::new(message, queued, &self.queued)
                .is_some_and(|message| messages.try_send(message).is_ok()),
        }
    }

    fn count(&self, sent: bool) {
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens a socket for an allocation, on a port that nobody can foresee, and its task.
    fn open(self: &Arc<Self>, v6: bool, client: &Sink) -> Option<(Arc<Link>, SocketAddr)> {
        let relayed = self.relayed.iter().find(|relayed| relayed.public.is_ipv6() == v6)?;
        let (first, last) = (u32::from(*self.ports.start()), u32::from(*self.ports.end()));
        let count = (last + 1).checked_sub(first).filter(|count| *count > 0)?;
        let mut random = [0; 4];
        SystemRandom::new().fill(&mut random).ok()?;
        let start = u32::from_ne_bytes(random) % count;
        let socket = (0..count.min(PORT_ATTEMPTS)).find_map(|attempt| {
            let port = u16::try_from(first + (start + attempt) % count).ok()?;
            let socket = std::net::UdpSocket::bind((relayed.bind, port)).ok()?;
            socket.set_nonblocking(true).ok()?;
            UdpSocket::from_std(socket).ok()
        })?;
        let address = SocketAddr::new(relayed.public, socket.local_addr().ok()?.port());
        let socket = Arc::new(socket);
        let receiving = Arc::clone(self).receive(Arc::clone(&socket), address);
        let task = tokio::spawn(Arc::clone(self).until_closing(receiving)).abort_handle();
        Some((Arc::new(Link { socket, client: client.clone(), task }), address))
    }

    /// What peers send to one relayed address; aborted with its [`Link`].
    async fn receive(self: Arc<Self>, socket: Arc<UdpSocket>, relayed: SocketAddr) {
        let mut buffer = vec![0; MAX_BYTES + 1];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((bytes, peer)) if bytes <= MAX_BYTES => {
                    let data = &buffer[..bytes];
                    let action = self.lock().peer_sent(now(), relayed, plain(peer), data);
                    if let Action::ToClient { link, message } = action {
                        self.count(self.send(&link.client, message));
                    }
                }
                Ok(_) => {}
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

async fn write_stream(mut writer: impl AsyncWrite + Unpin, mut messages: mpsc::Receiver<Queued>) {
    let mut batch = Vec::with_capacity(STREAM_BATCH);
    while messages.recv_many(&mut batch, STREAM_BATCH).await > 0 {
        let bytes: Vec<u8> = batch.iter().flat_map(|queued| &queued.message).copied().collect();
        let write = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match timeout(WRITE_LIMIT, write).await {
            Ok(Ok(())) => batch.clear(),
            Ok(Err(_)) => return,
            Err(_) => return tracing::info!("relay: stream reads too slowly, closed"),
        }
    }
}

/// An IPv4 client of a socket for both families is an IPv4 client.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), wall }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_streams_is_bounded_for_each_and_for_all() {
        let all = Arc::default();
        let fill = |own: &Arc<AtomicUsize>| -> Vec<Queued> {
            std::iter::from_fn(|| Queued::new(vec![0; 4096], own, &all)).collect()
        };
        let mut streams = Vec::new();
        for _ in 0..4000 {
            let own = Arc::default();
            streams.push((fill(&own), own));
        }
        let most = STREAM_QUEUES_BYTES + STREAM_QUEUE_BYTES + 4000 * STREAM_QUEUE_SHORT_BYTES;
        assert!(all.load(Ordering::Relaxed) <= most, "{}", all.load(Ordering::Relaxed));
        assert_eq!(streams[0].0.len(), 64);
        assert_eq!(streams[3999].0.len(), 4, "everybody has something");
        drop(streams);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
