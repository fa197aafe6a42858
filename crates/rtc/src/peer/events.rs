//! What the stack's driver and the data channel report, as events of the peer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceConnectionState, RTCIceGatheringState,
    RTCPeerConnectionIceEvent, RTCPeerConnectionState, RTCSignalingState,
};

use crate::disclosure::Disclosure;
use crate::ice::IceGeneration;
use crate::session::Session;
use crate::types::{Candidate, DtlsState, PeerEvent};

/// Pushes what the driver says into the event channel, and nothing more: the driver waits for it.
pub(super) struct Handler {
    pub(super) session: Arc<Session>,
    pub(super) local_ice: Arc<Mutex<IceGeneration>>,
    pub(super) disclosure: Arc<Disclosure>,
    /// Data channels that the remote peer opened by itself.
    pub(super) unasked_channels: AtomicUsize,
}

impl Handler {
    fn candidate(&self, candidate: String) -> PeerEvent {
        let generation = self.local_ice.lock().unwrap_or_else(PoisonError::into_inner);
        PeerEvent::LocalCandidate(Candidate {
            candidate,
            sdp_mid: generation.first_mid.clone(),
            sdp_m_line_index: Some(0),
            username_fragment: generation.ufrag().map(str::to_owned),
        })
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_negotiation_needed(&self) {
        self.session.emit(PeerEvent::NegotiationNeeded);
    }

    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(init) = event.candidate.to_json()
            && !init.candidate.is_empty()
        {
            let over_tcp = self.session.tcp.beside(&init.candidate);
            for line in [Some(init.candidate), over_tcp].into_iter().flatten() {
                if let Some(told) = self.disclosure.candidate(&line) {
                    self.session.emit(self.candidate(told));
                }
            }
        }
    }

    /// All channels are agreed on before ([`super::CHANNEL_ID`]), so this is one that nobody asked for. A foreign
    /// page may open one or two; the stack keeps something of each for good.
    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        if self.unasked_channels.fetch_add(1, Ordering::Relaxed) >= MAX_UNASKED_CHANNELS {
            self.session.direct.guard.shut("it opened one data channel after another");
        }
        // Not here, where the driver waits.
        tokio::spawn(async move { channel.close().await });
    }

    async fn on_signaling_state_change(&self, state: RTCSignalingState) {
        self.session.emit(PeerEvent::SignalingState(state.into()));
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        self.session.wake.notify_one();
        if state == RTCIceConnectionState::Connected {
            self.session.direct.connected();
        }
        self.session.emit(PeerEvent::IceConnectionState(state.into()));
        if state == RTCIceConnectionState::Connected
            && !self.session.connected.load(Ordering::Relaxed)
        {
            self.session.emit(PeerEvent::DtlsState(DtlsState::Connecting));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.session.emit(self.candidate(String::new()));
        }
        self.session.emit(PeerEvent::IceGatheringState(state.into()));
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.session.wake.notify_one();
        // DTLS stays up through an ICE disconnection, so this is set once.
        if state == RTCPeerConnectionState::Connected
            && !self.session.connected.swap(true, Ordering::Relaxed)
        {
            self.session.direct.has_keys();
            self.session.emit(PeerEvent::DtlsState(DtlsState::Connected));
        }
        self.session.emit(PeerEvent::PeerConnectionState(state.into()));
    }
}

/// Beyond these the remote peer is not listened to any more; labels have up to 64 KiB each (RFC 8832 §5.1).
const MAX_UNASKED_CHANNELS: usize = 8;

/// Owns the data channel: what comes in becomes events, what is queued goes out.
pub(super) async fn run_channel(
    channel: Arc<dyn DataChannel>,
    mut outgoing: mpsc::Receiver<String>,
    session: Arc<Session>,
    open: Arc<AtomicBool>,
) {
    loop {
        tokio::select! {
            event = channel.poll() => match event {
                Some(DataChannelEvent::OnOpen) => {
                    open.store(true, Ordering::Relaxed);
                    session.emit(PeerEvent::DataChannelOpen);
                }
                Some(DataChannelEvent::OnMessage(message)) => {
                    match String::from_utf8(message.data.into()) {
                        Ok(text) if message.is_string => session.emit(PeerEvent::Message(text)),
                        _ => tracing::debug!("data channel message that is not text ignored"),
                    }
                }
                Some(DataChannelEvent::OnClose) | None => break,
                Some(_) => {}
            },
            Some(text) = outgoing.recv() => {
                if let Err(error) = channel.send_text(&text).await {
                    tracing::warn!(%error, "data channel message not sent");
                }
            }
        }
    }
    if open.swap(false, Ordering::Relaxed) {
        session.emit(PeerEvent::DataChannelClosed);
    }
}
