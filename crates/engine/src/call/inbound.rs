//! What signaling and the peer connection say, as inputs for the session.

use visavis_call::{Input, Knock, TransportState};
use visavis_media::VideoCodec;
use visavis_rtc::{DtlsState, PeerConnectionState, PeerEvent};
use visavis_signaling_client::SignalingEvent;
use visavis_signaling_protocol::SignalPayload;

use super::Call;
use crate::diagnostics::Log;
use crate::peer_task::from_rtc_candidate;
use crate::{Event, SignalingLink};

impl Call {
    /// What signaling says, as input for the session.
    pub(crate) fn signaling(&mut self, event: SignalingEvent, log: &mut Log) -> Option<Input> {
        let elapsed = self.started.elapsed();
        match event {
            SignalingEvent::Connecting { attempt } => {
                if attempt > 1 {
                    log.add("signaling", format!("connecting, attempt {attempt}"));
                }
                None
            }
            SignalingEvent::Opened => {
                self.setup.websocket.get_or_insert(elapsed);
                log.add("signaling", "WebSocket open".into());
                None
            }
            SignalingEvent::Joined {
                peer_id,
                peers,
                polite,
                ice_servers,
                resumed,
                locked,
                resume_token,
            } => {
                self.resume_token = Some(resume_token);
                self.own_id = Some(peer_id);
                self.setup.joined.get_or_insert(elapsed);
                self.states.signaling_link = SignalingLink::Open;
                self.states.polite = Some(polite);
                self.server_ice_servers = ice_servers;
                if !peers.is_empty() {
                    self.setup.remote_peer.get_or_insert(elapsed);
                }
                log.add("signaling", if resumed { "seat resumed" } else { "joined" }.into());
                Some(Input::Joined { peers, polite, resumed, locked })
            }
            SignalingEvent::PeerJoined(peer) => {
                self.setup.remote_peer.get_or_insert(elapsed);
                log.add("signaling", "the other side is in the room".into());
                Some(Input::PeerJoined(peer))
            }
            SignalingEvent::PeerLeft { peer_id, reason } => {
                log.add("signaling", format!("the other side left the room ({reason:?})"));
                Some(Input::PeerLeft { peer_id, reason })
            }
            SignalingEvent::Signal { from, session, payload } => {
                match &payload {
                    SignalPayload::Candidate(c) => self.priorities.note(&c.candidate),
                    SignalPayload::Description(d, _) => {
                        d.sdp.lines().for_each(|line| self.priorities.note(line));
                    }
                    SignalPayload::Proof(_) => {}
                }
                Some(Input::Signal { from, session, payload })
            }
            SignalingEvent::Lock { locked, by } => {
                self.lock_by_us = self.own_id.as_ref() == Some(&by);
                let who = if self.lock_by_us { "us" } else { "the other side" };
                let what = if locked { "locked" } else { "opened" };
                log.add("signaling", format!("the room was {what} by {who}"));
                Some(Input::Locked(locked))
            }
            SignalingEvent::Knocking => {
                log.add("signaling", "the person inside is asked to let us in".into());
                Some(Input::Knocking)
            }
            SignalingEvent::Knock { peer_id, display_name } => {
                Some(Input::Knock(Knock { peer_id, display_name }))
            }
            SignalingEvent::KnockGone { peer_id } => Some(Input::KnockGone { peer_id }),
            SignalingEvent::Lost { why, retry_in } => {
                self.states.signaling_link = SignalingLink::Reconnecting;
                log.add("signaling", format!("connection lost ({why}); again in {retry_in:.1?}"));
                None
            }
            SignalingEvent::Refused { code, message } => {
                self.states.signaling_link = SignalingLink::Closed;
                log.add("signaling", format!("refused: {message}"));
                Some(Input::Refused(code))
            }
            SignalingEvent::Unreachable(why) => {
                self.states.signaling_link = SignalingLink::Closed;
                log.add("signaling", format!("unreachable: {why}"));
                Some(Input::Unreachable(why))
            }
        }
    }

    /// What the peer connection says, as input for the session.
    pub(crate) fn peer_event(&mut self, event: PeerEvent, log: &mut Log) -> Option<Input> {
        let epoch = self.peer.as_ref()?.epoch;
        let elapsed = self.started.elapsed();
        match event {
            PeerEvent::LocalCandidate(candidate) => {
                self.priorities.note(&candidate.candidate);
                let candidate = from_rtc_candidate(candidate);
                return Some(Input::LocalCandidate { epoch, candidate });
            }
            PeerEvent::SignalingState(state) => {
                self.states.signaling = Some(state);
                if state == visavis_rtc::SignalingState::Stable {
                    self.setup.negotiated.get_or_insert(elapsed);
                }
                log.add("call", format!("signaling state {state}"));
            }
            PeerEvent::IceGatheringState(state) => {
                self.states.ice_gathering = Some(state);
                log.add("ice", format!("gathering {state}"));
            }
            PeerEvent::IceConnectionState(state) => {
                self.states.ice_connection = Some(state);
                if self.states.is_ice_connected() {
                    self.setup.ice_connected.get_or_insert(elapsed);
                }
                log.add("ice", format!("connection {state}"));
            }
            PeerEvent::DtlsState(state) => {
                self.states.dtls = Some(state);
                if state == DtlsState::Connected {
                    self.setup.dtls_connected.get_or_insert(elapsed);
                }
                log.add("dtls", state.to_string());
            }
            PeerEvent::PeerConnectionState(state) => {
                self.states.peer_connection = Some(state);
                log.add("call", format!("peer connection {state}"));
                let state = match state {
                    PeerConnectionState::New | PeerConnectionState::Connecting => {
                        TransportState::Connecting
                    }
                    PeerConnectionState::Connected => {
                        self.setup.dtls_connected.get_or_insert(elapsed);
                        TransportState::Connected
                    }
                    PeerConnectionState::Disconnected => TransportState::Disconnected,
                    PeerConnectionState::Failed => TransportState::Failed,
                    PeerConnectionState::Closed => return None,
                };
                return Some(Input::Transport { epoch, state });
            }
            PeerEvent::KeyframeRequested => self.context.video_send.request_keyframe(),
            PeerEvent::SenderReport(report) => {
                if let Some(connection) = self.connection() {
                    connection.sync.on_sender_report(&report);
                }
            }
            PeerEvent::DataChannelOpen => {
                (self.channel_open, self.channel_heard) = (true, false);
                self.told_display = None;
                log.add("call", "data channel open".into());
                self.say_media_state();
            }
            PeerEvent::DataChannelClosed => self.channel_open = false,
            PeerEvent::Message(text) => self.message(&text),
            PeerEvent::RelayError(error) => {
                let words = format!("{}: {} ({})", error.relay, error.reason, error.code);
                log.add("ice", words.clone());
                self.context.shared.push_event(Event::RelayProblem(words));
            }
            PeerEvent::DirectPath(direct) => {
                let way = if direct { "directly" } else { "by relay or TCP again" };
                log.add("ice", format!("media goes {way}"));
                tracing::trace!(target: crate::TRACE, direct, "path");
            }
            PeerEvent::VideoCodecs(codecs) => {
                let lacks = codecs.is_empty();
                if lacks && !self.remote.lacks_video_codec {
                    log.add("video", "no codec in common: sound only".into());
                    self.context.shared.push_event(Event::NoCommonVideoCodec);
                } else if !lacks {
                    let names: Vec<_> = codecs.iter().map(VideoCodec::as_str).collect();
                    log.add("video", format!("the remote peer takes {}", names.join(", ")));
                }
                self.remote.lacks_video_codec = lacks;
            }
            // The session decides when to offer; sender reports are for lip sync.
            _ => {}
        }
        None
    }
}
