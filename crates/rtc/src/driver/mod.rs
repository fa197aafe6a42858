//! The one place that knows the network and the clock: it gives [`Connection`] what comes from sockets and streams
//! and sends what that says. One task for each connection owns both.

pub(crate) mod interfaces;
mod names;
mod sockets;
pub(crate) mod streams;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use visavis_ice::{Input, LocalCandidate, LocalName, Path};

use crate::connection::{Connection, Endpoint, Output};
use crate::peer::RelayTls;
use crate::session::Session;
use crate::types::{AddressPolicy, MediaKind, PeerConnectionState, PeerEvent};
use names::LocalNames;
use sockets::{Datagram, Sockets};
use streams::{StreamEvent, Streams};

/// Something to be done with a connection, with the time.
pub(crate) type Work = Box<dyn FnOnce(&mut Connection, Instant) + Send>;

/// What the owner of a connection wants of it.
pub(crate) enum Command {
    Run(Work),
    /// A frame as one oversized packet.
    Rtp(MediaKind, rtc::rtp::Packet),
    Rtcp(Box<dyn rtc::rtcp::Packet>),
    Message(String),
    /// Say goodbye and end.
    Close(oneshot::Sender<()>),
}

pub(crate) struct Driver {
    connection: Connection,
    policy: AddressPolicy,
    commands: mpsc::Receiver<Command>,
    /// Ends when the owner is gone.
    owner: oneshot::Receiver<()>,
    sockets: Sockets,
    received: Vec<Datagram>,
    streams: Streams,
    stream_events: mpsc::Receiver<StreamEvent>,
    names: LocalNames,
    /// Listeners of TCP by the address of their UDP socket.
    listeners: HashMap<SocketAddr, SocketAddr>,
    /// Our ICE user name fragment, for listeners.
    ufrag: watch::Sender<String>,
    lookups: JoinSet<Lookup>,
}

/// What a name resolved to.
enum Lookup {
    Server(usize, Vec<SocketAddr>),
    Local(LocalName, Option<IpAddr>),
}

impl Driver {
    pub(crate) fn new(
        connection: Connection,
        policy: AddressPolicy,
        tls: Option<RelayTls>,
        commands: mpsc::Receiver<Command>,
        owner: oneshot::Receiver<()>,
    ) -> Self {
        let (events, stream_events) = mpsc::channel(STREAM_EVENTS);
        Self {
            connection,
            policy,
            commands,
            owner,
            sockets: Sockets::new(),
            received: Vec::new(),
            streams: Streams::new(tls, events),
            stream_events,
            names: LocalNames::default(),
            listeners: HashMap::new(),
            ufrag: watch::Sender::default(),
            lookups: JoinSet::new(),
        }
    }

    /// Drives the connection until its owner is gone. If it breaks on what the remote peer sent, the owner is told that
    /// it failed.
    pub(crate) async fn run(self, session: Arc<Session>) {
        if AssertUnwindSafe(self.drive()).catch_unwind().await.is_err() {
            tracing::error!("the network task broke on the remote peer's input");
            session.emit(PeerEvent::PeerConnectionState(PeerConnectionState::Failed));
        }
    }

    async fn drive(mut self) {
        let mut closed = None;
        while closed.is_none() {
            let deadline = self.drain();
            let timer = tokio::time::sleep_until(deadline.unwrap_or_else(far_future).into());
            let (sockets, received) = (&mut self.sockets, &mut self.received);
            tokio::select! {
                command = self.commands.recv() => {
                    let mut next = command;
                    while let Some(command) = next {
                        if let Command::Close(done) = command {
                            closed = Some(Some(done));
                            break;
                        }
                        self.run_command(command);
                        next = self.commands.try_recv().ok();
                    }
                }
                () = std::future::poll_fn(|cx| sockets.poll_receive(cx, received)) => {
                    let now = Instant::now();
                    for Datagram { base, source, bytes } in self.received.drain(..) {
                        self.connection.receive(now, Endpoint::Udp(base), source, bytes);
                    }
                }
                Some(event) = self.stream_events.recv() => self.on_stream(event),
                Some(lookup) = self.lookups.join_next() => {
                    if let Ok(lookup) = lookup {
                        self.on_lookup(lookup);
                    }
                }
                () = timer => {}
                _ = &mut self.owner => closed = Some(None),
            }
            let now = Instant::now();
            if deadline.is_some_and(|at| at <= now) {
                self.connection.handle_timeout(now);
            }
        }
        self.connection.close(Instant::now());
        self.drain();
        if let Some(Some(done)) = closed {
            let _ = done.send(());
        }
    }

    fn run_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Run(work) => work(&mut self.connection, now),
            Command::Rtp(kind, packet) => self.connection.write_rtp(now, kind, packet),
            Command::Rtcp(packet) => self.connection.write_rtcp(now, packet),
            Command::Message(text) => {
                if !self.connection.send_message(now, text) {
                    tracing::warn!("data channel message not sent: too many wait");
                }
            }
            Command::Close(_) => {}
        }
    }

    /// Does what the connection wants; gives its deadline.
    fn drain(&mut self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            match self.connection.poll_output(now) {
                Output::Transmit(transmit) => match transmit.endpoint {
                    Endpoint::Udp(base) => {
                        self.sockets.send(base, transmit.destination, &transmit.bytes);
                    }
                    _ => self.streams.send(transmit),
                },
                Output::Gather => self.gather(now),
                Output::OpenRelay(open) => self.streams.open_relay(open),
                Output::CloseRelay(id) => self.streams.close_relay(id),
                Output::AcceptTcp => self.streams.accept(),
                Output::ResolveName(name) => {
                    self.lookups.spawn(async move {
                        let address = names::resolve(&name).await;
                        if let Err(error) = &address {
                            tracing::info!(name = name.as_str(), %error, "a name is not resolved");
                        }
                        Lookup::Local(name, address.ok())
                    });
                }
                Output::Deadline(deadline) => {
                    self.sockets.flush();
                    return deadline;
                }
            }
        }
    }

    /// Finds the addresses of this machine and looks up the servers.
    fn gather(&mut self, now: Instant) {
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        self.connection.paths.start_gathering(unix_time);
        self.ufrag.send_replace(self.connection.local_ufrag().to_owned());
        let addresses = interfaces::local_addresses();
        // Where nothing works, whatever is in between may have something against our ports.
        let anew = self.connection.is_failed();
        let is_there =
            |base: &SocketAddr| !anew && addresses.iter().any(|known| known.ip() == base.ip());
        let gone: Vec<SocketAddr> = self.sockets.bases().filter(|base| !is_there(base)).collect();
        for base in gone {
            self.remove_base(now, base);
        }
        for (place, address) in addresses.iter().enumerate() {
            if self.sockets.bases().any(|base| base.ip() == address.ip()) {
                continue;
            }
            // RFC 8421 §4: IPv6 and IPv4 of one place in the order one after the other.
            let preference = u16::MAX - u16::try_from(place).unwrap_or(u16::MAX);
            match self.sockets.bind(*address) {
                Ok(base) => self.add_base(now, base, preference),
                Err(error) => tracing::info!(%address, %error, "no socket there"),
            }
        }
        self.connection.paths.addresses_complete();
        self.look_up_servers(now);
    }

    fn add_base(&mut self, now: Instant, base: SocketAddr, preference: u16) {
        let name = match self.policy {
            AddressPolicy::HideLocal => self.names.of(base.ip()),
            AddressPolicy::All | AddressPolicy::RelayOnly => None,
        };
        self.connection.paths.add_base(now, base, preference, name);
        // Who uses relays only neither listens nor connects.
        if self.policy == AddressPolicy::RelayOnly {
            return;
        }
        let address = SocketAddr::new(base.ip(), 0);
        let active = LocalCandidate::TcpActive { base: address, preference };
        self.connection.paths.add_local(now, active);
        match self.streams.listen(address, self.ufrag.subscribe()) {
            Ok(listener) => {
                self.listeners.insert(base, listener);
                let passive = LocalCandidate::TcpPassive { base: listener, preference };
                self.connection.paths.add_local(now, passive);
            }
            Err(error) => tracing::info!(%address, %error, "no candidate of TCP there"),
        }
    }

    fn remove_base(&mut self, now: Instant, base: SocketAddr) {
        self.sockets.close(base);
        self.streams.close_base(base.ip());
        self.connection.paths.remove_base(now, base);
        let active = Path::TcpActive { base: SocketAddr::new(base.ip(), 0) };
        self.connection.paths.remove_path(now, active);
        if let Some(base) = self.listeners.remove(&base) {
            self.connection.paths.remove_path(now, Path::TcpPassive { base });
        }
    }

    fn look_up_servers(&mut self, now: Instant) {
        let servers: Vec<(String, u16)> =
            self.connection.servers().iter().map(|s| (s.host.clone(), s.port)).collect();
        for (index, (host, port)) in servers.into_iter().enumerate() {
            if let Ok(ip) = host.parse::<IpAddr>() {
                let addresses = vec![SocketAddr::new(ip, port)];
                self.connection.paths.server_addresses(now, index, addresses);
                continue;
            }
            self.lookups.spawn(async move {
                let asked = tokio::net::lookup_host((host.as_str(), port));
                let addresses = match tokio::time::timeout(LOOKUP_LIMIT, asked).await {
                    Ok(Ok(addresses)) => addresses.collect(),
                    Ok(Err(error)) => {
                        tracing::info!(host, %error, "a server's name is not resolved");
                        Vec::new()
                    }
                    Err(_) => Vec::new(),
                };
                Lookup::Server(index, addresses)
            });
        }
    }

    fn on_lookup(&mut self, lookup: Lookup) {
        let now = Instant::now();
        match lookup {
            Lookup::Server(index, addresses) => {
                self.connection.paths.server_addresses(now, index, addresses);
            }
            Lookup::Local(name, Some(address)) => {
                let resolved = Input::NameResolved { name, address };
                if let Err(error) = self.connection.paths.agent.handle_input(now, resolved) {
                    tracing::debug!(%error, "a resolved name is not used");
                }
            }
            Lookup::Local(_, None) => {}
        }
    }

    fn on_stream(&mut self, event: StreamEvent) {
        let now = Instant::now();
        match event {
            StreamEvent::Message { endpoint, source, bytes } => {
                self.connection.receive(now, endpoint, source, bytes);
            }
            StreamEvent::RelayOpened(id) => self.connection.paths.relay_opened(now, id),
            StreamEvent::RelayClosed(id, reason) => {
                self.streams.close_relay(id);
                self.connection.paths.relay_closed(now, id, reason);
            }
            StreamEvent::Accepted { listener, source, queue, first } => {
                self.streams.accepted(listener, source, queue);
                let endpoint = Endpoint::TcpPassive(listener);
                self.connection.receive(now, endpoint, source, first.into());
            }
        }
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// What streams have read and the loop has not looked at yet.
const STREAM_EVENTS: usize = 256;
/// A name of a STUN server or relay that takes longer is left out.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::error::RtcError;
    use crate::types::{PeerConnectionState, PeerEvent};
    use crate::{Peer, PeerConfig};

    /// Two things that make the stack panic were found by fuzzing; only the remote peer itself can send them, inside of
    /// DTLS.
    #[tokio::test]
    async fn what_makes_the_stack_panic_ends_the_connection_it_came_from() {
        let (events, mut told) = tokio::sync::mpsc::channel(8);
        let peer = Peer::new(PeerConfig::default(), events, |_| {}, |_| {}).unwrap();
        let broke = peer.run("an ABORT", |_, _| -> Result<(), RtcError> {
            // With an error cause that is longer than the chunk.
            crate::fuzzing::sctp(&[7, 0, 0, 0, 0, 8, 6, 0, 0, 8, 0, 12, 0, 20]);
            Ok(())
        });
        assert!(matches!(broke.await, Err(RtcError::Broken { .. })));
        let failed = PeerEvent::PeerConnectionState(PeerConnectionState::Failed);
        assert_eq!(told.recv().await, Some(failed));
        assert!(matches!(peer.create_offer(false).await, Err(RtcError::Broken { .. })));
        peer.close().await;
    }
}
