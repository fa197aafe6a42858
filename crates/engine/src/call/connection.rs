//! The call's peer connections: made ahead while it waits, made for whoever comes, closed.

use visavis_call::Epoch;
use visavis_rtc::RelayTls;
use visavis_signaling_protocol::IceServer;

use super::Call;
use crate::clock_sync::ClockSync;
use crate::diagnostics::Log;
use crate::error::PeerError;
use crate::media_watch::MediaWatch;
use crate::peer_task::{IdlePeer, PeerParts};
use crate::run_loop::Tag;

impl Call {
    pub(super) async fn create_peer(&mut self, epoch: Epoch) -> Result<(), PeerError> {
        self.close_peer();
        let ice_servers = self.ice_servers();
        let idle = match self.ahead.take() {
            Some((idle, known)) if known == ice_servers && idle.is_fresh() => idle,
            stale => {
                self.ahead = stale;
                self.drop_ahead();
                IdlePeer::new(self.parts(ice_servers)).await?
            }
        };
        self.peer = Some(idle.start(Tag { call: self.id, epoch }));
        self.media = MediaWatch::new();
        Ok(())
    }

    /// It is known who the remote peer is: from now on it is sent to, and heard and seen.
    pub(super) fn open_media(&mut self) {
        let Some(peer) = &self.peer else { return };
        self.context.video_send.set_target(Some(peer.peer.video_sender()));
        self.context.audio_send.set_target(Some(peer.peer.audio_sender()));
        if peer.gate.open() {
            peer.peer.request_keyframe();
        }
        self.say_media_state();
    }

    /// Gathers candidates while nobody is there, if it is we who will offer.
    pub(super) async fn look_ahead(&mut self, log: &mut Log) {
        if !self.waiting || self.states.polite != Some(false) {
            return self.drop_ahead();
        }
        let ice_servers = self.ice_servers();
        match &self.ahead {
            Some((idle, known)) if *known == ice_servers && idle.is_fresh() => return,
            _ => self.drop_ahead(),
        }
        let made = async {
            let mut idle = IdlePeer::new(self.parts(ice_servers.clone())).await?;
            idle.offer_ahead().await?;
            Ok::<_, PeerError>(idle)
        };
        match made.await {
            Ok(idle) => self.ahead = Some((idle, ice_servers)),
            Err(error) => log.add("ice", format!("no candidates ahead: {error}")),
        }
    }

    pub(super) fn drop_ahead(&mut self) {
        if let Some((idle, _)) = self.ahead.take() {
            self.context.closing.spawn(idle.close());
        }
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        self.own_ice_servers.iter().chain(&self.server_ice_servers).cloned().collect()
    }

    fn parts(&mut self, ice_servers: Vec<IceServer>) -> PeerParts {
        PeerParts {
            clock: self.context.clock,
            reports: self.context.reports.clone(),
            relay_tls: self.relay_tls(&ice_servers),
            ice_servers,
            addresses: self.addresses,
            max_bitrate: self.context.video_send.max_bitrate(),
            video_codecs: self.context.video_send.codecs(),
            slot: self.context.shared.remote_video.clone(),
            display_file: self.context.display_file.clone(),
            audio: self.context.audio_receive.clone(),
            decode_delay: self.context.decode_delay,
        }
    }

    /// Reads the system's certificates once, and only if a relay needs them.
    fn relay_tls(&mut self, servers: &[IceServer]) -> Option<RelayTls> {
        let mut urls = servers.iter().flat_map(|server| &server.urls);
        if self.relay_tls.is_none() && urls.any(|url| url.starts_with("turns:")) {
            self.relay_tls = visavis_signaling_client::relay_tls(self.context.trusted_certificate)
                .inspect_err(|error| tracing::warn!(%error, "no TLS to relays"))
                .ok();
        }
        self.relay_tls.clone()
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
        self.context.closing.spawn(async move { peer.peer.close().await });
    }
}
