//! What a [`CallSession`](crate::CallSession) is told and what it wants.

use std::time::Duration;

use visavis_signaling_protocol::{
    ErrorCode, IceCandidateInit, LeaveReason, PeerId, PeerInfo, SessionDescription, SessionId,
    SignalPayload,
};

use visavis_proof::ContinuityKey;

use crate::proof::Authentication;
use crate::state::CallState;

/// Counts peer connections of a call; reports of an older one are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

/// `RTCPeerConnectionState`, with `new` as `Connecting` and `closed` left to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportState {
    /// Not there yet.
    Connecting,
    /// ICE and DTLS are up.
    Connected,
    /// Checks go unanswered.
    Disconnected,
    /// The stack gave up on this path.
    Failed,
}

/// Somebody who asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// Names the knock, and the seat of whoever is let in.
    pub peer_id: PeerId,
    /// Its name, cleaned by the server.
    pub display_name: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The person hangs up.
    Hangup,
    /// The person, or a change of network, asks for an ICE restart.
    RestartIce,
    /// A seat was taken, for the first time or again.
    Joined {
        /// The others in the room.
        peers: Vec<PeerInfo>,
        /// Our role.
        polite: bool,
        /// Whether the seat is the old one and nothing was lost.
        resumed: bool,
        /// Whether the room is locked.
        locked: bool,
    },
    /// Somebody entered or returned.
    PeerJoined(PeerInfo),
    /// A seat is free.
    PeerLeft {
        /// Whose.
        peer_id: PeerId,
        /// Why.
        reason: LeaveReason,
    },
    /// From the other side.
    Signal {
        /// Who.
        from: PeerId,
        /// Which life of it, if the server said so.
        session: Option<SessionId>,
        /// What.
        payload: SignalPayload,
    },
    /// The person wants the room locked, or open.
    SetLocked(bool),
    /// The server says that the room was locked, or opened.
    Locked(bool),
    /// We have to be let in by those inside.
    Knocking,
    /// Somebody asks to be let in.
    Knock(Knock),
    /// Nobody needs to answer that knock any more.
    KnockGone {
        /// Who knocked.
        peer_id: PeerId,
    },
    /// The person's answer to a knock.
    Admit {
        /// Who knocked.
        peer_id: PeerId,
        /// Whether it may come in.
        admitted: bool,
    },
    /// The server refused us for good.
    Refused(ErrorCode),
    /// The server was never reached.
    Unreachable(String),
    /// `CreateOffer` is done; the offer is set locally.
    OfferCreated {
        /// Of which peer connection.
        epoch: Epoch,
        /// The offer.
        description: SessionDescription,
    },
    /// `AcceptOffer` is done; the answer is set locally.
    AnswerCreated {
        /// Of which peer connection.
        epoch: Epoch,
        /// The answer.
        description: SessionDescription,
    },
    /// `AcceptAnswer` is done.
    AnswerAccepted {
        /// Of which peer connection.
        epoch: Epoch,
    },
    /// An operation failed; the peer connection was left (or rolled back to) stable.
    OperationFailed {
        /// Of which peer connection.
        epoch: Epoch,
        /// Why.
        why: String,
        /// Whether the other side's description was at fault.
        remote_fault: bool,
    },
    /// A local candidate was gathered.
    LocalCandidate {
        /// Of which peer connection.
        epoch: Epoch,
        /// The candidate.
        candidate: IceCandidateInit,
    },
    /// The transport changed.
    Transport {
        /// Of which peer connection.
        epoch: Epoch,
        /// To what.
        state: TransportState,
    },
    /// What comes over the connection changed its nature.
    Media {
        /// Of which peer connection.
        epoch: Epoch,
        /// Whether anything comes; `false` after a second of nothing where there was plenty.
        receiving: bool,
        /// Whether the other side says that what we send arrives.
        heard: bool,
    },
    /// The wake-up of [`Output::Wait`], or any other moment: timers that are due run.
    Tick,
}

/// Work on the peer connection; one at a time, in order, each reports back by an [`Input`].
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Create an offer and set it locally.
    CreateOffer {
        /// With fresh ICE credentials.
        ice_restart: bool,
    },
    /// Create an offer with fresh ICE credentials and do not set it: `AcceptAnswer` does that,
    /// unless another operation that concerns descriptions comes first. Media goes on meanwhile.
    OfferRestart,
    /// Roll back first if told to; set the remote offer, create an answer, set it locally.
    AcceptOffer {
        /// The offer.
        description: SessionDescription,
        /// Whether an own offer stands in the way (the stack has no implicit rollback).
        rollback: bool,
    },
    /// Set the remote answer.
    AcceptAnswer {
        /// The answer.
        description: SessionDescription,
    },
    /// Add a remote candidate; a failure is logged, not reported.
    AddCandidate {
        /// The candidate.
        candidate: IceCandidateInit,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Make a peer connection (and close any older one).
    CreatePeer(Epoch),
    /// Close the peer connection.
    ClosePeer,
    /// Join again as another session, and forget what was to be sent: the other side may still
    /// have its half of the closed peer connection, which must not meet the next one.
    NewSession(SessionId),
    /// It is known who the remote peer is: media and messages may go both ways. Until then nothing
    /// of the person is sent to it, and nothing from it is shown or played.
    Authenticated(Authentication),
    /// The key for later calls with the same remote peer, to be kept with the room.
    Key(ContinuityKey),
    /// How often the code of this room has been guessed at by now, to be kept with the room.
    Guesses(u8),
    /// Work for the peer connection.
    Run {
        /// Which.
        epoch: Epoch,
        /// What.
        operation: Operation,
    },
    /// Send over signaling.
    Send {
        /// To whom.
        to: PeerId,
        /// To which life of it: another one has no use for it.
        session: SessionId,
        /// What.
        payload: SignalPayload,
    },
    /// Ask the server to lock the room, or to open it.
    SetLocked(bool),
    /// Tell the server that media flows between us and the remote peer of that session, so that
    /// nobody else enters unasked.
    Connected {
        /// Of the remote peer.
        session: SessionId,
    },
    /// Tell the server the answer to a knock.
    Admit {
        /// Who knocked.
        peer_id: PeerId,
        /// Whether it may come in.
        admitted: bool,
    },
    /// Say `leave` and close the WebSocket.
    LeaveRoom {
        /// For want of a path, not because somebody hung up.
        gave_up: bool,
    },
    /// The state changed.
    State(CallState),
    /// For the event log.
    Log(String),
    /// Nothing more; call again with [`Input::Tick`] at this time, if any.
    Wait(Option<Duration>),
}
