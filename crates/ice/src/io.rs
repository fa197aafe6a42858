//! What goes in and what comes out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::candidate::{Candidate, LocalName};
use crate::credentials::Credentials;

/// How a relay is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RelayTransport {
    /// TURN over UDP (RFC 8656).
    Udp,
    /// TURN over TCP.
    Tcp,
    /// TURN over TLS over TCP.
    Tls,
}

/// A way by which datagrams leave this machine and come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// A UDP socket bound to this address.
    Udp {
        /// The address of the socket.
        base: SocketAddr,
    },
    /// Streams that we open from this address; a datagram to a destination without a stream opens it. What is
    /// sent before it is open may be dropped: checks are repeated. Framed by RFC 4571.
    TcpActive {
        /// The local address, with any port.
        base: SocketAddr,
    },
    /// Streams that were opened to this listener. Never opens one. Framed by RFC 4571.
    TcpPassive {
        /// The address of the listener.
        base: SocketAddr,
    },
    /// An allocation on a TURN server.
    Relay {
        /// The relayed address.
        relayed: SocketAddr,
        /// How the relay is reached.
        via: RelayTransport,
    },
}

impl Path {
    /// The address that candidates of this path are based on (RFC 8445 §5.1.1).
    #[must_use]
    pub fn base(self) -> SocketAddr {
        match self {
            Self::Udp { base } | Self::TcpActive { base } | Self::TcpPassive { base } => base,
            Self::Relay { relayed, .. } => relayed,
        }
    }

    /// Whether it carries RFC 4571 frames on a stream to the remote peer itself.
    #[must_use]
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::TcpActive { .. } | Self::TcpPassive { .. })
    }
}

/// What kind of way a pair is, in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathClass {
    /// UDP between the peers.
    DirectUdp,
    /// UDP, through one relay or two.
    RelayUdp,
    /// TCP between the peers.
    DirectTcp,
    /// A relay that one of the two reaches over TCP.
    RelayTcp,
    /// A relay that one of the two reaches over TLS.
    RelayTls,
}

/// A local candidate as the caller found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalCandidate {
    /// A bound UDP socket.
    Host {
        /// Its address, with the port.
        base: SocketAddr,
        /// Higher is better: the address of the default route first, IPv6 and IPv4 of one interface one after
        /// the other (RFC 8421 §4), virtual bridges last. Different for each base.
        preference: u16,
        /// The name that the caller answers for by multicast DNS.
        name: Option<LocalName>,
    },
    /// What a STUN server sees of a bound socket.
    ServerReflexive {
        /// The socket's own address.
        base: SocketAddr,
        /// The address that the server saw.
        address: SocketAddr,
        /// The server.
        server: SocketAddr,
    },
    /// An allocation on a TURN server.
    Relay {
        /// The relayed address.
        relayed: SocketAddr,
        /// How the relay is reached.
        via: RelayTransport,
        /// Our address as the relay sees it.
        mapped: SocketAddr,
        /// The relay.
        server: SocketAddr,
        /// Higher is better.
        preference: u16,
    },
    /// An address from which TCP connections can be opened.
    TcpActive {
        /// The address; its port is not told.
        base: SocketAddr,
        /// Higher is better.
        preference: u16,
    },
    /// A listener for TCP connections.
    TcpPassive {
        /// Its address.
        base: SocketAddr,
        /// Higher is better.
        preference: u16,
    },
}

/// What a description says of the remote peer's ICE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDescription {
    /// `a=ice-ufrag` and `a=ice-pwd`.
    pub credentials: Credentials,
    /// `a=ice-lite`.
    pub lite: bool,
    /// Whether `a=ice-options` has `renomination`.
    pub renomination: bool,
    /// Candidates in the description.
    pub candidates: Vec<Candidate>,
}

/// What happens to the agent, but for datagrams, which [`Agent::receive`](crate::Agent::receive) takes.
#[derive(Debug, Clone)]
pub enum Input {
    /// A local candidate was found.
    LocalCandidate(LocalCandidate),
    /// There will be no more local candidates.
    EndOfLocalCandidates,
    /// A path is gone: its interface, socket, stream listener or allocation.
    PathRemoved(Path),
    /// The remote peer's description. With other credentials than before it restarts ICE.
    RemoteDescription(RemoteDescription),
    /// A trickled candidate of the remote peer (RFC 8838).
    RemoteCandidate(Candidate),
    /// The remote peer has no more candidates.
    EndOfRemoteCandidates,
    /// The answer to [`Event::ResolveName`].
    NameResolved {
        /// The name.
        name: LocalName,
        /// Its address.
        address: std::net::IpAddr,
    },
    /// New local credentials, and a new generation of pairs. The selected pair stays until the new generation
    /// has one. To be signaled from [`Agent::local_credentials`](crate::Agent::local_credentials).
    Restart,
    /// The restart was taken back before the remote peer answered it.
    CancelRestart,
    /// Time passed.
    Timeout,
}

/// What the agent wants. To be drained after each input until there is a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A datagram to be sent.
    Transmit(Transmit),
    /// Something to be told.
    Event(Event),
    /// Nothing more now: [`Input::Timeout`] is due by then. `None`: only after another input.
    Deadline(Option<Instant>),
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The path.
    pub path: Path,
    /// Where to, the remote peer behind a relay too.
    pub destination: SocketAddr,
    /// The datagram.
    pub bytes: Vec<u8>,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A local candidate to be signaled.
    LocalCandidate(Candidate),
    /// A name to be asked for by multicast DNS.
    ResolveName(LocalName),
    /// The state is another one.
    StateChanged {
        /// Until now.
        from: State,
        /// From now on.
        to: State,
    },
    /// Data goes over this pair from now on.
    Selected {
        /// The pair.
        pair: SelectedPair,
        /// The pair until now.
        previous: Option<SelectedPair>,
        /// Why.
        reason: NominationReason,
    },
    /// Nothing may be sent over this pair any more (RFC 7675 §5.1).
    ConsentLost {
        /// The pair.
        pair: SelectedPair,
    },
    /// The remote peer restarted ICE; these are our new credentials, to be signaled.
    RemoteRestarted {
        /// Ours.
        local: Credentials,
    },
    /// The role is another one after a conflict (RFC 8445 §7.3.1.1).
    RoleChanged(Role),
}

/// What a datagram was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// STUN, which the agent took or dropped.
    Stun,
    /// Something else from an address that the remote peer has proven.
    Data(PairId),
    /// Something else from anybody else; it must not reach DTLS or SRTP.
    Unproven,
}

/// The state of the agent, with `RTCIceTransportState`'s names. There is no `completed`: a better pair may come
/// at any time.
///
/// ```text
/// New ─► Checking ─► Connected ◄─► Disconnected
///            │            │              │
///            └────────────┴──► Failed ◄──┘     a restart leads from Failed to Checking
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No remote description yet.
    New,
    /// No pair is selected yet.
    Checking,
    /// The selected pair answers.
    Connected,
    /// The selected pair has not answered for a while.
    Disconnected,
    /// No pair was found, or the selected one has not answered for too long. Only a restart helps.
    Failed,
}

/// The role (RFC 8445 §6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Nominates.
    Controlling,
    /// Follows nominations.
    Controlled,
}

impl Role {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Controlling => Self::Controlled,
            Self::Controlled => Self::Controlling,
        }
    }
}

/// A pair of this agent; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairId(pub(crate) u32);

/// Where data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectedPair {
    /// The pair.
    pub id: PairId,
    /// The local end.
    pub path: Path,
    /// The remote end.
    pub remote: SocketAddr,
    /// What kind of way it is.
    pub class: PathClass,
}

/// Why a pair was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NominationReason {
    /// The first that was proven in its generation.
    First,
    /// A better kind of way.
    BetterClass {
        /// The kind until now.
        from: PathClass,
        /// The kind from now on.
        to: PathClass,
    },
    /// The same kind, with a clearly shorter round trip.
    ShorterRoundTrip {
        /// Until now.
        from: Duration,
        /// From now on.
        to: Duration,
    },
    /// A higher pair priority; the only reason that a peer without renomination follows.
    HigherPriority,
    /// The pair before it did not answer any more.
    PreviousDied,
    /// The path of the pair before it was removed.
    PathRemoved,
    /// The remote peer nominated it.
    RemoteNominated {
        /// Its number, where the peer gives one.
        nomination: Option<u32>,
    },
}
