//! The UDP socket that the stack sees.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc;
use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::StreamRelays;
use super::permissions::Permissions;
use super::refusals::{Refusal, Refusals, granted};
use super::stream::Lane;
use crate::session::Session;
use crate::types::{PeerEvent, RelayError};

/// A UDP socket, but what is sent to a stand-in goes over a stream. Reads along to tell the owner
/// what relays refuse.
pub(crate) struct RelaySocket {
    inner: Arc<dyn AsyncUdpSocket>,
    relays: Arc<StreamRelays>,
    session: Arc<Session>,
    lanes: Mutex<HashMap<SocketAddr, mpsc::Sender<Bytes>>>,
    refusals: Mutex<Refusals>,
    permissions: Mutex<Permissions>,
    deliver: mpsc::Sender<(SocketAddr, Bytes)>,
    delivered: Mutex<mpsc::Receiver<(SocketAddr, Bytes)>>,
}

impl RelaySocket {
    pub(crate) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        relays: Arc<StreamRelays>,
        session: Arc<Session>,
    ) -> Self {
        let (deliver, delivered) = mpsc::channel(QUEUE);
        Self {
            inner,
            relays,
            session,
            lanes: Mutex::default(),
            refusals: Mutex::default(),
            permissions: Mutex::default(),
            deliver,
            delivered: Mutex::new(delivered),
        }
    }

    /// Queues datagrams for the relay at `stand_in`; a full queue loses them, as a socket would.
    fn send_over_stream(&self, stand_in: SocketAddr, transmit: &Transmit<'_>) -> io::Result<usize> {
        let mut lanes = lock(&self.lanes);
        let lane = match lanes.get(&stand_in) {
            Some(lane) => lane,
            None => {
                let lane = self.open_lane(stand_in)?;
                lanes.entry(stand_in).or_insert(lane)
            }
        };
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(size) {
            let _ = lane.try_send(Bytes::copy_from_slice(datagram));
        }
        Ok(transmit.contents.len())
    }

    fn open_lane(&self, stand_in: SocketAddr) -> io::Result<mpsc::Sender<Bytes>> {
        let relay = self.relays.at(stand_in).cloned();
        let relay = relay.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (queue, queued) = mpsc::channel(QUEUE);
        let url = relay.url.clone();
        let lane = Lane {
            relay,
            tls: self.relays.tls.clone(),
            local: self.inner.local_addr()?.ip(),
            stand_in,
            deliver: self.deliver.clone(),
        };
        let session = self.session.clone();
        tokio::spawn(lane.run(queued, move |reason| {
            let error = RelayError { relay: url.clone(), code: UNREACHABLE, reason };
            session.emit(PeerEvent::RelayError(error));
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
        if datagram.first().is_none_or(|first| *first >= 4) {
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

impl AsyncUdpSocket for RelaySocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if transmit.contents.first().is_some_and(|first| *first < 4) {
            lock(&self.refusals).on_send(transmit.contents);
            let known = lock(&self.permissions).on_send(transmit.destination, transmit.contents);
            if let Some(answer) = known {
                // A full queue loses it, and the stack asks again.
                let _ = self.deliver.try_send((transmit.destination, answer.into()));
                return Poll::Ready(Ok(transmit.contents.len()));
            }
        }
        if self.relays.at(transmit.destination).is_some() {
            return Poll::Ready(self.send_over_stream(transmit.destination, transmit));
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

impl fmt::Debug for RelaySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelaySocket").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Datagrams that wait in each direction: 400 ms of 2.5 Mbps.
const QUEUE: usize = 128;
/// W3C `RTCPeerConnectionIceErrorEvent.errorCode` for a server that cannot be reached.
const UNREACHABLE: u16 = 701;
