//! The call's peer connections: prepared while it waits, made for whoever comes, closed.

use visavis_call::{Epoch, Input};
use visavis_signaling_protocol::IceServer;

use super::Call;
use crate::clock_sync::ClockSync;
use crate::diagnostics::Log;
use crate::error::PeerError;
use crate::media_watch::MediaWatch;
use crate::peer_task::{MadePeer, PeerConnection, PeerHandle, PeerParts};
use crate::prepared_peer::PreparedPeer;
use crate::run_loop::Tag;

impl Call {
    pub(super) fn create_peer(&mut self, epoch: Epoch) {
        self.close_peer();
        let ice_servers = self.ice_servers();
        let prepared = self.prepared_peer.take().filter(|peer| peer.is_for(&ice_servers));
        let parts = self.parts(ice_servers);
        self.peer = Some(PeerHandle::start(Tag { call: self.id, epoch }, parts, prepared));
        self.media = MediaWatch::new();
    }

    /// The present peer connection is there.
    pub(crate) fn peer_made(&mut self, made: MadePeer) {
        let Some(peer) = &mut self.peer else { return };
        let MadePeer { connection, audio, jitter } = made;
        self.context.audio_receive.begin(audio, connection.sync.clone(), jitter);
        peer.connection = Some(connection);
    }

    /// The present peer connection could not be made, as input for the session.
    pub(crate) fn peer_failed(&self, error: &PeerError, log: &mut Log) -> Option<Input> {
        log.add("call", format!("no peer connection: {error}"));
        let epoch = self.peer.as_ref()?.epoch;
        Some(Input::OperationFailed { epoch, why: error.to_string(), remote_fault: false })
    }

    pub(super) fn connection(&self) -> Option<&PeerConnection> {
        self.peer.as_ref()?.connection.as_ref()
    }

    /// It is known who the remote peer is: from now on it is sent to, and heard and seen.
    pub(super) fn open_media(&mut self) {
        // What proves it came out of the connection, so that it is there.
        let Some(PeerConnection { peer, gate, .. }) = self.connection() else { return };
        self.context.video_send.set_target(Some(peer.video_sender()));
        self.context.audio_send.set_target(Some(peer.audio_sender()));
        if gate.open() {
            peer.request_keyframe();
        }
        self.say_media_state();
    }

    /// Gathers candidates while nobody is there, if it is we who will offer.
    pub(super) fn prepare_peer(&mut self) {
        if !self.waiting || self.states.polite != Some(false) {
            self.prepared_peer = None;
            return;
        }
        let ice_servers = self.ice_servers();
        if self.prepared_peer.as_ref().is_none_or(|peer| !peer.is_for(&ice_servers)) {
            let parts = self.parts(ice_servers);
            self.prepared_peer = Some(PreparedPeer::start(self.id, parts, &self.context.closing));
        }
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        self.own_ice_servers.iter().chain(&self.server_ice_servers).cloned().collect()
    }

    fn parts(&self, ice_servers: Vec<IceServer>) -> PeerParts {
        PeerParts {
            clock: self.context.clock,
            reports: self.context.reports.clone(),
            relay_tls: self.relay_tls.clone(),
            ice_servers,
            addresses: self.addresses,
            max_bitrate: self.context.video_send.max_bitrate(),
            video_codecs: self.context.video_send.codecs(),
            slot: self.context.shared.remote_video.clone(),
            display_file: self.context.display_file.clone(),
            decode_delay: self.context.decode_delay,
        }
    }

    pub(super) fn close_peer(&mut self) {
        let Some(peer) = self.peer.take() else { return };
        self.context.video_send.set_target(None);
        self.context.audio_send.set_target(None);
        self.context.audio_receive.end();
        self.context.shared.remote_video.clear();
        self.channel_open = false;
        self.clock_sync = ClockSync::default();
        self.remote.microphone_on = None;
        self.remote.camera_on = None;
        self.remote.lacks_video_codec = false;
        // One that is still being made is closed when it is there.
        if let Some(connection) = peer.connection {
            self.context.closing.spawn(async move { connection.peer.close().await });
        }
    }
}
