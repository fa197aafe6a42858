//! Against the agents of rtc-ice (webrtc-rs) and of str0m (`is`), in both roles. Neither renominates by number.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use is::stun::{StunMessage, StunPacket};
use is::{IceAgent, IceConnectionState, IceCreds};
use rtc_ice::agent::Agent;
use rtc_ice::agent::agent_config::AgentConfig;
use rtc_ice::candidate::candidate_host::CandidateHostConfig;
use rtc_ice::candidate::candidate_server_reflexive::CandidateServerReflexiveConfig;
use rtc_ice::candidate::{CandidateConfig, unmarshal_candidate};
use rtc_ice::state::ConnectionState;
use rtc_shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use sansio::Protocol as _;
use visavis_ice::{LocalCandidate, Path, PathClass, Role, Transmit};

use crate::sim::nat::NatKind;
use crate::sim::{Description, Drained, Endpoint, Link, MS, Ours, Place, SECOND, Signal, World};

/// rtc-ice 0.21.
struct Rtc {
    agent: Agent,
    controlling: bool,
    described: bool,
    remote: bool,
    waiting: Vec<String>,
    signals: Vec<Signal>,
    told: Vec<String>,
}

impl Rtc {
    fn new(now: Instant, controlling: bool) -> Self {
        let config = AgentConfig {
            check_interval: 20 * MS,
            max_binding_requests: Some(200),
            is_controlling: controlling,
            disconnected_timeout: Some(3 * SECOND),
            failed_timeout: Some(25 * SECOND),
            keepalive_interval: Some(SECOND),
            host_acceptance_min_wait: Some(Duration::ZERO),
            srflx_acceptance_min_wait: Some(100 * MS),
            prflx_acceptance_min_wait: Some(Duration::ZERO),
            relay_acceptance_min_wait: Some(300 * MS),
            ..AgentConfig::default()
        };
        let crypto = rtc_ice::crypto::default_provider().unwrap();
        Self {
            agent: Agent::new(now, Arc::new(config), crypto).unwrap(),
            controlling,
            described: false,
            remote: false,
            waiting: Vec::new(),
            signals: Vec::new(),
            told: Vec::new(),
        }
    }

    fn description(&mut self) -> Description {
        self.described = true;
        let credentials = self.agent.get_local_credentials();
        Description {
            ufrag: credentials.ufrag.clone(),
            password: credentials.pwd.clone(),
            renomination: false,
            candidates: self.told.clone(),
        }
    }

    fn candidate(&mut self, line: &str) {
        let line = line.trim_start_matches("candidate:");
        self.agent.add_remote_candidate(unmarshal_candidate(line).unwrap()).unwrap();
    }
}

impl Endpoint for Rtc {
    fn receive(&mut self, now: Instant, path: Path, source: SocketAddr, bytes: &[u8]) {
        if bytes.first().is_none_or(|first| *first > 3) {
            return;
        }
        let transport = TransportContext {
            local_addr: path.base(),
            peer_addr: source,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let message = BytesMut::from(bytes);
        let _ = self.agent.handle_read(TaggedBytesMut { now, transport, message });
    }

    fn timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now).unwrap();
    }

    fn local_candidate(&mut self, _: Instant, candidate: LocalCandidate) {
        let config = |address: SocketAddr| CandidateConfig {
            network: "udp".into(),
            address: address.ip().to_string(),
            port: address.port(),
            component: 1,
            ..CandidateConfig::default()
        };
        let candidate = match candidate {
            LocalCandidate::Host { base, .. } => {
                CandidateHostConfig { base_config: config(base), ..Default::default() }
                    .new_candidate_host()
            }
            LocalCandidate::ServerReflexive { base, address, .. } => {
                CandidateServerReflexiveConfig {
                    base_config: config(address),
                    rel_addr: base.ip().to_string(),
                    rel_port: base.port(),
                    url: None,
                }
                .new_candidate_server_reflexive()
            }
            _ => return,
        };
        let candidate = candidate.unwrap();
        let line = format!("candidate:{}", candidate.marshal());
        if self.described {
            self.signals.push(Signal::Candidate(line.clone()));
        }
        self.told.push(line);
        self.agent.add_local_candidate(candidate).unwrap();
    }

    fn signal(&mut self, now: Instant, signal: Signal) {
        let description = match &signal {
            Signal::Offer(description) | Signal::Answer(description) => description,
            Signal::Candidate(line) if self.remote => return self.candidate(line),
            Signal::Candidate(line) => return self.waiting.push(line.clone()),
        };
        let (ufrag, password) = (description.ufrag.clone(), description.password.clone());
        self.agent.start_connectivity_checks(now, self.controlling, ufrag, password).unwrap();
        self.remote = true;
        let waiting = std::mem::take(&mut self.waiting);
        description.candidates.iter().chain(&waiting).for_each(|line| self.candidate(line));
        if matches!(signal, Signal::Offer(_)) {
            let answer = self.description();
            self.signals.push(Signal::Answer(answer));
        }
    }

    fn drain(&mut self, _: Instant) -> Drained {
        let mut transmits = Vec::new();
        while let Some(out) = self.agent.poll_write() {
            transmits.push(Transmit {
                path: Path::Udp { base: out.transport.local_addr },
                destination: out.transport.peer_addr,
                bytes: out.message.to_vec(),
            });
        }
        while self.agent.poll_event().is_some() {}
        let signals = std::mem::take(&mut self.signals);
        Drained { transmits, signals, deadline: self.agent.poll_timeout() }
    }

    fn selected(&self) -> Option<(Path, SocketAddr)> {
        let (local, remote) = self.agent.get_selected_candidate_pair()?;
        Some((Path::Udp { base: local.base_addr() }, remote.addr()))
    }

    fn is_connected(&self) -> bool {
        self.agent.state() == ConnectionState::Connected
    }
}

/// `is` 0.12.
struct Str0m {
    agent: IceAgent,
    described: bool,
    signals: Vec<Signal>,
    told: Vec<String>,
    selected: Option<(Path, SocketAddr)>,
}

impl Str0m {
    fn new(now: Instant, controlling: bool) -> Self {
        let mut agent = IceAgent::new(IceCreds::new());
        agent.set_controlling(controlling);
        agent.handle_timeout(now);
        Self { agent, described: false, signals: Vec::new(), told: Vec::new(), selected: None }
    }

    fn description(&mut self) -> Description {
        self.described = true;
        let credentials = self.agent.local_credentials();
        Description {
            ufrag: credentials.ufrag.clone(),
            password: credentials.pass.clone(),
            renomination: false,
            candidates: self.told.clone(),
        }
    }

    fn candidate(&mut self, line: &str) {
        self.agent.add_remote_candidate(is::Candidate::from_sdp_string(line).unwrap());
    }
}

impl Endpoint for Str0m {
    fn receive(&mut self, now: Instant, path: Path, source: SocketAddr, bytes: &[u8]) {
        let Ok(message) = StunMessage::parse(bytes) else { return };
        let destination = path.base();
        self.agent.handle_packet(
            now,
            StunPacket { proto: is::Protocol::Udp, source, destination, message },
        );
        self.agent.handle_timeout(now);
    }

    fn timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
    }

    fn local_candidate(&mut self, now: Instant, candidate: LocalCandidate) {
        let candidate = match candidate {
            LocalCandidate::Host { base, .. } => is::Candidate::host(base, "udp"),
            LocalCandidate::ServerReflexive { base, address, .. } => {
                is::Candidate::server_reflexive(address, base, "udp")
            }
            _ => return,
        };
        let Some(added) = self.agent.add_local_candidate(candidate.unwrap()) else { return };
        let line = added.to_sdp_string();
        if self.described {
            self.signals.push(Signal::Candidate(line.clone()));
        }
        self.told.push(line);
        self.agent.handle_timeout(now);
    }

    fn signal(&mut self, now: Instant, signal: Signal) {
        let description = match &signal {
            Signal::Offer(description) | Signal::Answer(description) => description,
            Signal::Candidate(line) => {
                self.candidate(line);
                return self.agent.handle_timeout(now);
            }
        };
        let pass = description.password.clone();
        self.agent.set_remote_credentials(IceCreds { ufrag: description.ufrag.clone(), pass });
        description.candidates.iter().for_each(|line| self.candidate(line));
        self.agent.handle_timeout(now);
        if matches!(signal, Signal::Offer(_)) {
            let answer = self.description();
            self.signals.push(Signal::Answer(answer));
        }
    }

    fn drain(&mut self, _: Instant) -> Drained {
        let mut transmits = Vec::new();
        while let Some(out) = self.agent.poll_transmit() {
            transmits.push(Transmit {
                path: Path::Udp { base: out.source },
                destination: out.destination,
                bytes: out.contents.to_vec(),
            });
        }
        while let Some(event) = self.agent.poll_event() {
            if let is::IceAgentEvent::NominatedSend { source, destination, .. } = event {
                self.selected = Some((Path::Udp { base: source }, destination));
            }
        }
        let signals = std::mem::take(&mut self.signals);
        Drained { transmits, signals, deadline: self.agent.poll_timeout() }
    }

    fn selected(&self) -> Option<(Path, SocketAddr)> {
        self.selected
    }

    fn is_connected(&self) -> bool {
        matches!(self.agent.state(), IceConnectionState::Connected | IceConnectionState::Completed)
    }
}

type Make = fn(Instant, bool) -> Box<dyn Endpoint>;

const OPPONENTS: [(&str, Make); 2] = [
    ("rtc-ice", |now, controlling| Box::new(Rtc::new(now, controlling))),
    ("is", |now, controlling| Box::new(Str0m::new(now, controlling))),
];

fn call(make: Make, ours_controlling: bool, seed: u64, link: Link, kinds: [NatKind; 2]) -> World {
    let places = [Place::new(0, kinds[0]), Place::new(1, kinds[1])];
    // The world counts from its own start, which is a little later.
    let now = World::pair(0, Link::default(), places.clone()).now;
    let ours = Box::new(Ours::new(seed, ours_controlling)) as Box<dyn Endpoint>;
    let mut world = World::new(seed, link, places, [ours, make(now, !ours_controlling)]);
    world.run(50 * MS);
    world.offer();
    world
}

#[test]
fn both_roles_connect_through_nats() {
    let kinds =
        [NatKind::Open, NatKind::FullCone, NatKind::AddressRestricted, NatKind::PortRestricted];
    for (name, make) in OPPONENTS {
        for controlling in [true, false] {
            for a in kinds {
                for b in kinds {
                    let mut world = call(make, controlling, 1, Link::default(), [a, b]);
                    let done = world.run_until(5 * SECOND, |world| {
                        world.ends.iter().all(|end| end.is_connected()) && world.is_agreed()
                    });
                    assert!(done, "{name}, we control: {controlling}, {a:?} {b:?}");
                    let took = world.elapsed() - 50 * MS;
                    if a == b {
                        let role = if controlling { "controlling" } else { "controlled" };
                        println!("{name}, we are {role}, {a:?} both: {took:?} from the offer");
                    }
                    let ours = world.ours(0);
                    assert_eq!(ours.agent.selected().unwrap().class, PathClass::DirectUdp);
                    assert_eq!(ours.agent.role() == Role::Controlling, controlling);
                    // And it stays so.
                    world.run(40 * SECOND);
                    assert!(
                        world.is_agreed() && world.ends.iter().all(|end| end.is_connected()),
                        "{name}"
                    );
                    assert!(!world.ours(0).gap);
                }
            }
        }
    }
}

#[test]
fn one_of_two_equal_roles_is_given_up() {
    for (name, make) in OPPONENTS {
        for both in [true, false] {
            let kinds = [NatKind::Open, NatKind::Open];
            let places = [Place::new(0, kinds[0]), Place::new(1, kinds[1])];
            let now = World::pair(0, Link::default(), places.clone()).now;
            let ours = Box::new(Ours::new(3, both)) as Box<dyn Endpoint>;
            let mut world = World::new(3, Link::default(), places, [ours, make(now, both)]);
            world.run(50 * MS);
            world.offer();
            let done = world.run_until(5 * SECOND, |world| {
                world.ends.iter().all(|end| end.is_connected()) && world.is_agreed()
            });
            assert!(done, "{name}, both controlling: {both}");
        }
    }
}

#[test]
fn loss_is_survived_with_others_too() {
    for (name, make) in OPPONENTS {
        for seed in 0..20 {
            let link = Link { loss: 0.1, jitter: 5 * MS, ..Link::default() };
            let kinds = [NatKind::PortRestricted, NatKind::FullCone];
            let mut world = call(make, seed % 2 == 0, seed, link, kinds);
            let done = world.run_until(10 * SECOND, |world| {
                world.ends.iter().all(|end| end.is_connected()) && world.is_agreed()
            });
            assert!(done, "{name} seed {seed}");
            world.run(30 * SECOND);
            assert!(world.ends.iter().all(|end| end.is_connected()), "{name} seed {seed}");
        }
    }
}
