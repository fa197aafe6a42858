//! The tokio runtime as the stack sees it, with some differences. Socket buffers are larger: a
//! keyframe is a burst of some eighty packets, as many as fit into Linux' default receive buffer.
//! And the end of the driver task does not go unnoticed: if it stops by itself, or panics on what
//! the remote side sent, the owner is told that the connection failed.
//!
//! Names of relays pass through [`crate::turn`], and sockets through [`crate::stream`] and [`crate::direct`].
//!
//! And the driver's sleep can be cut short, for two things that the stack queues and then leaves
//! until the next timer: the first DTLS flight after ICE connects, and whatever goes to a TURN
//! server.

use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
    TokioRuntime,
};

use crate::direct::SteeredSocket;
use crate::session::Session;
use crate::stream::StreamSocket;
use crate::turn::StreamRelays;
use crate::types::{PeerConnectionState, PeerEvent};

#[derive(Debug)]
pub(crate) struct NetRuntime {
    session: Arc<Session>,
    relays: Arc<StreamRelays>,
    driver_spawned: AtomicBool,
}

impl NetRuntime {
    pub(crate) fn new(session: Arc<Session>, relays: Arc<StreamRelays>) -> Self {
        Self { session, relays, driver_spawned: AtomicBool::new(false) }
    }
}

impl Runtime for NetRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        // The first task is the driver; others open TCP connections.
        if self.driver_spawned.swap(true, Ordering::Relaxed) {
            return TokioRuntime.spawn(future);
        }
        let session = self.session.clone();
        TokioRuntime.spawn(Box::pin(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                tracing::error!("the network task broke on the remote side's input");
            }
            // Not told if the owner closed the connection.
            session.emit(PeerEvent::PeerConnectionState(PeerConnectionState::Failed));
        }))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = socket2::SockRef::from(&socket);
        // The system caps what it grants (`net.core.rmem_max`); less is not an error.
        let _ = options.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = options.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        let sender = socket.try_clone()?;
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        let (relays, session) = (self.relays.clone(), self.session.clone());
        let inner = Arc::new(StreamSocket::new(socket.clone(), relays, session));
        Ok(Arc::new(SteeredSocket::new(&socket, sender, inner, self.session.direct.clone())?))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        TokioRuntime.connect_tcp(remote_addr)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        // The driver waits for this, and with it ICE consent and DTLS.
        Box::pin(async move {
            if let Some(stand_ins) = self.relays.resolve(host) {
                return Ok(stand_ins);
            }
            // The stack writes IPv6 addresses without brackets.
            if let Some((ip, port)) = host.rsplit_once(':')
                && let (Ok(ip), Ok(port)) = (ip.parse::<Ipv6Addr>(), port.parse())
            {
                return Ok(vec![SocketAddr::new(ip.into(), port)]);
            }
            tokio::time::timeout(RESOLVE_TIMEOUT, TokioRuntime.resolve_host(host)).await?
        })
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        let session = self.session.clone();
        // Media wakes the driver itself (see the RTCP tap); this is for DTLS and SCTP.
        let longest = match (session.turn, session.connected.load(Ordering::Relaxed)) {
            (false, _) => duration,
            (true, false) => duration.min(TURN_POLL_CONNECTING),
            (true, true) => duration.min(TURN_POLL),
        };
        Box::pin(async move {
            // Timers of the stack check the time themselves; early is harmless.
            let _ = tokio::time::timeout(longest, session.wake.notified()).await;
        })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn name(&self) -> &'static str {
        "tokio"
    }
}

/// A second of the highest bitrate we send.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;
/// How long data for a TURN server may wait while connecting, and after.
const TURN_POLL_CONNECTING: Duration = Duration::from_millis(3);
const TURN_POLL: Duration = Duration::from_millis(20);
/// A STUN or TURN name that takes longer is left out.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rtc::datachannel::data_channel::{DataChannel, DataChannelConfig};
    use rtc::sctp::PayloadProtocolIdentifier;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::MediaClock;
    use crate::session::LocalStreams;

    /// Whether the owner hears of it when the driver meets this.
    async fn is_told(meets: fn()) {
        let (events, mut told) = mpsc::channel(8);
        let local = LocalStreams { audio: 1, video: 2, rtx: 4, parity: 3 };
        let session = Session::new(MediaClock::default(), local, events, false, false);
        let runtime = NetRuntime::new(Arc::new(session), Arc::default());
        let _driver = runtime.spawn(Box::pin(async move {
            meets();
            std::future::pending::<()>().await;
        }));
        let told = tokio::time::timeout(Duration::from_secs(5), told.recv()).await.unwrap();
        let failed = PeerEvent::PeerConnectionState(PeerConnectionState::Failed);
        assert_eq!(format!("{told:?}"), format!("{:?}", Some(failed)));
    }

    /// Both were found by fuzzing; only the remote peer itself can send them, inside of DTLS.
    #[tokio::test]
    async fn what_makes_the_stack_panic_ends_the_connection_it_came_from() {
        is_told(|| {
            let (config, dcep) = (DataChannelConfig::default(), PayloadProtocolIdentifier::Dcep);
            let _ = DataChannel::accept(config, 0, 1, dcep, &[0]);
        })
        .await;
        // An ABORT with an error cause that is longer than the chunk.
        is_told(|| crate::fuzzing::sctp(&[7, 0, 0, 0, 0, 8, 6, 0, 0, 8, 0, 12, 0, 20])).await;
    }
}
