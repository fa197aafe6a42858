//! Words and colours of state machines.

use egui::Color32;
use visavis_engine::{
    CandidatePairState, DtlsState, IceConnectionState, IceGatheringState, PeerConnectionState,
    SignalingLink, SignalingState,
};

use crate::theme::Tokens;

/// A state as the panel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// The word of its standard.
    pub(super) word: &'static str,
    stage: Stage,
}

/// How far a state is from working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    NotBegun,
    UnderWay,
    Works,
    Broken,
}

impl Shown {
    /// The pair that both sides use, while it works.
    pub(super) const NOMINATED: Self = Self::new("nominated", Stage::Works);

    const fn new(word: &'static str, stage: Stage) -> Self {
        Self { word, stage }
    }

    pub(super) fn colour(self, t: &Tokens) -> Color32 {
        match self.stage {
            Stage::NotBegun => t.text,
            Stage::UnderWay => t.warn,
            Stage::Works => t.accent,
            Stage::Broken => t.danger,
        }
    }
}

impl From<SignalingLink> for Shown {
    fn from(link: SignalingLink) -> Self {
        match link {
            SignalingLink::Closed => Self::new("closed", Stage::Broken),
            SignalingLink::Connecting => Self::new("connecting", Stage::UnderWay),
            SignalingLink::Open => Self::new("open", Stage::Works),
            SignalingLink::Reconnecting => Self::new("reconnecting", Stage::UnderWay),
        }
    }
}

impl From<SignalingState> for Shown {
    fn from(state: SignalingState) -> Self {
        let stage = match state {
            SignalingState::Stable => Stage::Works,
            SignalingState::Closed => Stage::Broken,
            _ => Stage::NotBegun,
        };
        Self::new(state.as_str(), stage)
    }
}

impl From<IceGatheringState> for Shown {
    fn from(state: IceGatheringState) -> Self {
        let stage = match state {
            IceGatheringState::New => Stage::NotBegun,
            IceGatheringState::Gathering => Stage::UnderWay,
            IceGatheringState::Complete => Stage::Works,
        };
        Self::new(state.as_str(), stage)
    }
}

impl From<IceConnectionState> for Shown {
    fn from(state: IceConnectionState) -> Self {
        let stage = match state {
            IceConnectionState::New => Stage::NotBegun,
            IceConnectionState::Checking => Stage::UnderWay,
            IceConnectionState::Connected | IceConnectionState::Completed => Stage::Works,
            IceConnectionState::Disconnected
            | IceConnectionState::Failed
            | IceConnectionState::Closed => Stage::Broken,
        };
        Self::new(state.as_str(), stage)
    }
}

impl From<DtlsState> for Shown {
    fn from(state: DtlsState) -> Self {
        let stage = match state {
            DtlsState::New => Stage::NotBegun,
            DtlsState::Connecting => Stage::UnderWay,
            DtlsState::Connected => Stage::Works,
            DtlsState::Closed | DtlsState::Failed => Stage::Broken,
        };
        Self::new(state.as_str(), stage)
    }
}

impl From<PeerConnectionState> for Shown {
    fn from(state: PeerConnectionState) -> Self {
        let stage = match state {
            PeerConnectionState::New => Stage::NotBegun,
            PeerConnectionState::Connecting => Stage::UnderWay,
            PeerConnectionState::Connected => Stage::Works,
            PeerConnectionState::Disconnected
            | PeerConnectionState::Failed
            | PeerConnectionState::Closed => Stage::Broken,
        };
        Self::new(state.as_str(), stage)
    }
}

impl From<CandidatePairState> for Shown {
    fn from(state: CandidatePairState) -> Self {
        match state {
            CandidatePairState::Frozen => Self::new("frozen", Stage::NotBegun),
            CandidatePairState::Waiting => Self::new("waiting", Stage::NotBegun),
            CandidatePairState::InProgress => Self::new("in-progress", Stage::UnderWay),
            CandidatePairState::Failed => Self::new("failed", Stage::Broken),
            CandidatePairState::Succeeded => Self::new("succeeded", Stage::Works),
        }
    }
}
