//! Relays: an allocation from each of the best addresses of this machine, over UDP, TCP and TLS.

use super::*;

/// One relay from one base.
pub(super) struct Relay {
    pub(super) id: RelayId,
    /// Among the servers.
    pub(super) server: usize,
    pub(super) base: SocketAddr,
    pub(super) address: SocketAddr,
    pub(super) via: RelayTransport,
    pub(super) state: RelayState,
    /// Whether its address is to be one of IPv6.
    pub(super) ipv6: bool,
}

pub(super) enum RelayState {
    /// It waits for another address of the same relay.
    Waiting(Instant),
    /// Its stream is being opened.
    Opening,
    Asking(TurnClient),
    Allocated(TurnClient, Path),
    /// It gave no address, or does so no more.
    Ended,
}

impl Relay {
    pub(super) fn endpoint(&self) -> Endpoint {
        match self.via {
            RelayTransport::Udp => Endpoint::Udp(self.base),
            RelayTransport::Tcp | RelayTransport::Tls => Endpoint::Relay(self.id),
        }
    }
}

impl Paths {
    /// Each relay from each base, by the addresses of the base's family one after the other.
    pub(super) fn start_relays(&mut self, now: Instant) {
        for (server, addresses) in self.addresses.iter().enumerate() {
            let Some(via) = self.servers[server].relay else { continue };
            for base in relay_bases(&self.bases) {
                let known = |relay: &Relay| relay.server == server && relay.base == *base;
                if self.relays.iter().any(known) {
                    continue;
                }
                let family = addresses.iter().flatten().filter(|address| {
                    address.is_ipv4() == base.is_ipv4()
                        && (!base.ip().is_loopback() || address.ip().is_loopback())
                });
                let mut at = now;
                for address in family.take(MAX_ADDRESSES) {
                    self.next_relay += 1;
                    self.relays.push(Relay {
                        id: RelayId(self.next_relay),
                        server,
                        base: *base,
                        address: *address,
                        via,
                        ipv6: false,
                        state: RelayState::Waiting(at),
                    });
                    at += ATTEMPT_DELAY;
                }
            }
        }
        self.begin_relays(now);
    }

    pub(super) fn begin_relays(&mut self, now: Instant) {
        for at in 0..self.relays.len() {
            let relay = &self.relays[at];
            let RelayState::Waiting(due) = relay.state else { continue };
            let served = self.relays.iter().any(|other| {
                (other.server, other.base) == (relay.server, relay.base)
                    && matches!(other.state, RelayState::Allocated(..))
            });
            let relay = &mut self.relays[at];
            if served {
                relay.state = RelayState::Ended;
            } else if due <= now && relay.via == RelayTransport::Udp {
                self.ask_relay(now, at);
            } else if due <= now {
                relay.state = RelayState::Opening;
                let server = &self.servers[relay.server];
                let tls = relay.via == RelayTransport::Tls;
                self.outputs.push_back(PathsOutput::OpenRelay(OpenRelay {
                    id: relay.id,
                    from: relay.base.ip(),
                    address: relay.address,
                    tls_name: tls.then(|| server.host.clone()),
                }));
            }
        }
    }

    fn ask_relay(&mut self, now: Instant, at: usize) {
        let relay = &mut self.relays[at];
        let server = &self.servers[relay.server];
        let config = TurnConfig {
            server: relay.address,
            via: relay.via,
            username: server.username.clone(),
            password: server.password.clone(),
            // What most can reach, however the relay itself is reached.
            ipv6: relay.ipv6,
            preference: u16::MAX - u16::try_from(relay.id.0).unwrap_or(u16::MAX),
            unix_time: self.unix_time,
        };
        relay.state = RelayState::Asking(TurnClient::new(now, config, (self.random)()));
    }

    /// The stream to a relay is open.
    pub(crate) fn relay_opened(&mut self, now: Instant, id: RelayId) {
        if let Some(at) = self.relays.iter().position(|relay| relay.id == id)
            && matches!(self.relays[at].state, RelayState::Opening)
        {
            self.ask_relay(now, at);
        }
    }

    /// It could not be opened, or has ended.
    pub(crate) fn relay_closed(&mut self, now: Instant, id: RelayId, reason: String) {
        if let Some(at) = self.relays.iter().position(|relay| relay.id == id) {
            self.end_relay(now, at, UNREACHABLE, reason);
        }
    }

    pub(super) fn end_relay(&mut self, now: Instant, at: usize, code: u16, reason: String) {
        let relay = &mut self.relays[at];
        let state = std::mem::replace(&mut relay.state, RelayState::Ended);
        if relay.via != RelayTransport::Udp {
            self.outputs.push_back(PathsOutput::CloseRelay(relay.id));
        }
        let server = relay.server;
        match state {
            RelayState::Ended => return,
            RelayState::Allocated(_, path) => self.remove_path(now, path),
            _ => {}
        }
        // Of its several addresses one may still do.
        let of_server = |relay: &Relay| relay.server == server;
        let hope = |relay: &Relay| !matches!(relay.state, RelayState::Ended);
        if code != UNREACHABLE || !self.relays.iter().any(|r| of_server(r) && hope(r)) {
            self.tell(server, code, reason);
        }
    }

    pub(super) fn tell(&mut self, server: usize, code: u16, reason: String) {
        let error = RelayError { relay: self.servers[server].url.clone(), code, reason };
        if !self.told.contains(&error) {
            self.told.push(error.clone());
            self.outputs.push_back(PathsOutput::RelayError(error));
        }
    }

    pub(super) fn receive_relayed(&mut self, now: Instant, at: usize, bytes: &[u8]) -> Incoming {
        match &mut self.relays[at].state {
            RelayState::Asking(client) => {
                client.receive(now, bytes);
                Incoming::Taken
            }
            RelayState::Allocated(client, path) => match client.receive(now, bytes) {
                TurnReceived::Control => Incoming::Taken,
                TurnReceived::Data { peer, payload } => {
                    let path = *path;
                    let Some(part) = part_of(bytes, payload) else { return Incoming::Taken };
                    self.receive_over(now, path, peer, bytes, part)
                }
            },
            _ => Incoming::Taken,
        }
    }

    pub(super) fn send_relayed(
        &mut self,
        now: Instant,
        path: Path,
        peer: SocketAddr,
        payload: &[u8],
    ) {
        let is_it = |relay: &&mut Relay| matches!(relay.state, RelayState::Allocated(_, known) if known == path);
        let Some(relay) = self.relays.iter_mut().find(is_it) else { return };
        let (endpoint, destination) = (relay.endpoint(), relay.address);
        let RelayState::Allocated(client, _) = &mut relay.state else { return };
        let mut bytes = Vec::with_capacity(payload.len() + CHANNEL_DATA_BYTES);
        if client.wrap(peer, payload, &mut bytes) {
            let transmit = Transmit { endpoint, destination, bytes };
            self.outputs.push_back(PathsOutput::Transmit(transmit));
        } else if let Err(error) = client.send(now, peer, payload) {
            tracing::debug!(%error, "nothing is sent to that peer by this relay");
        }
    }

    pub(super) fn poll_relays(&mut self, now: Instant) -> bool {
        for at in 0..self.relays.len() {
            let relay = &mut self.relays[at];
            let (endpoint, destination) = (relay.endpoint(), relay.address);
            let (RelayState::Allocated(client, _) | RelayState::Asking(client)) = &mut relay.state
            else {
                continue;
            };
            match client.poll_output() {
                TurnOutput::Transmit(bytes) => {
                    let transmit = Transmit { endpoint, destination, bytes };
                    self.outputs.push_back(PathsOutput::Transmit(transmit));
                    return true;
                }
                TurnOutput::Event(TurnEvent::Allocated(candidate)) => {
                    self.on_allocated(now, at, candidate);
                    return true;
                }
                TurnOutput::Event(TurnEvent::Refused { code: FAMILY_NOT_SUPPORTED, .. })
                    if !relay.ipv6 =>
                {
                    relay.ipv6 = true;
                    self.ask_relay(now, at);
                    return true;
                }
                TurnOutput::Event(TurnEvent::Refused { code, reason }) => {
                    self.end_relay(now, at, code, reason);
                    return true;
                }
                TurnOutput::Event(TurnEvent::PeerRefused { peer, code }) => {
                    tracing::debug!(%peer, code, "a relay does not forward to that peer");
                    return true;
                }
                TurnOutput::Deadline(_) => {}
            }
        }
        false
    }

    fn on_allocated(&mut self, now: Instant, at: usize, candidate: LocalCandidate) {
        let LocalCandidate::Relay { relayed, via, .. } = candidate else { return };
        let relay = &mut self.relays[at];
        let path = Path::Relay { relayed, via };
        match std::mem::replace(&mut relay.state, RelayState::Ended) {
            RelayState::Asking(client) => relay.state = RelayState::Allocated(client, path),
            other => relay.state = other,
        }
        self.add_local(now, candidate);
    }

    /// The relay that gave this address.
    pub(in crate::connection) fn url_of(&self, path: Path) -> Option<&str> {
        let is_it = |relay: &&Relay| matches!(relay.state, RelayState::Allocated(_, known) if known == path);
        let relay = self.relays.iter().find(is_it)?;
        Some(&self.servers[relay.server].url)
    }
}

/// The addresses that relays are asked from: the best of each family. A relay that is reached by one is reached by the
/// virtual bridges of the same machine as well, and each allocation counts at the relay.
fn relay_bases(bases: &[SocketAddr]) -> impl Iterator<Item = &SocketAddr> {
    let of = |ipv6| bases.iter().filter(move |base: &&SocketAddr| base.is_ipv6() == ipv6);
    of(false).take(MAX_RELAY_BASES).chain(of(true).take(MAX_RELAY_BASES))
}

/// A card and a wireless one.
const MAX_RELAY_BASES: usize = 2;
/// Of one relay and one family.
const MAX_ADDRESSES: usize = 3;
/// Header and padding of ChannelData (RFC 8656 §12.4).
const CHANNEL_DATA_BYTES: usize = 7;
/// The relay has no address of IPv4 (RFC 8656 §7.2).
const FAMILY_NOT_SUPPORTED: u16 = 440;
