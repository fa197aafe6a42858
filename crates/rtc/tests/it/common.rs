//! Two peers in one process, with signaling by hand.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};
use visavis_media::{
    EncodedAudioFrame, EncodedVideoFrame, MediaTime, ReceivedRtp, Size, VideoCodec,
};
use visavis_rtc::{
    Candidate, MediaClock, Peer, PeerConfig, PeerConnectionState, PeerEvent, SdpKind,
};

/// A peer with its queues.
pub(crate) struct Side {
    pub(crate) peer: Arc<Peer>,
    pub(crate) events: Mutex<mpsc::Receiver<PeerEvent>>,
    pub(crate) video: Mutex<mpsc::Receiver<ReceivedRtp>>,
    pub(crate) audio: Mutex<mpsc::Receiver<ReceivedRtp>>,
    pub(crate) clock: MediaClock,
}

pub(crate) async fn side() -> Side {
    side_with(&VideoCodec::ALL).await
}

/// A peer that codes these.
pub(crate) async fn side_with(video_codecs: &[VideoCodec]) -> Side {
    let clock = MediaClock::default();
    let (events_tx, events) = mpsc::channel(1024);
    let (video_tx, video) = mpsc::channel(8192);
    let (audio_tx, audio) = mpsc::channel(8192);
    let video_codecs = video_codecs.to_vec();
    let config = PeerConfig { clock, video_codecs, ..Default::default() };
    let peer = Peer::new(
        config,
        events_tx,
        move |rtp| video_tx.try_send(rtp).unwrap_or(()),
        move |rtp| audio_tx.try_send(rtp).unwrap_or(()),
    )
    .unwrap();
    Side {
        peer: Arc::new(peer),
        events: Mutex::new(events),
        video: Mutex::new(video),
        audio: Mutex::new(audio),
        clock,
    }
}

/// Every wait of these tests ends here.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("no {what} within 20 s"))
}

impl Side {
    /// The next event for which `pick` gives something; candidates go to `other` meanwhile.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        other: &Side,
        mut pick: impl FnMut(&PeerEvent) -> Option<T>,
    ) -> T {
        within(what, async {
            let mut events = self.events.lock().await;
            loop {
                let event = events.recv().await.unwrap();
                if let PeerEvent::LocalCandidate(candidate) = &event {
                    let _ = other.peer.add_candidate(candidate.clone()).await;
                }
                if let Some(found) = pick(&event) {
                    return found;
                }
            }
        })
        .await
    }

    pub(crate) async fn until_connected(&self, other: &Side) {
        self.until("connection", other, |event| {
            (*event == PeerEvent::PeerConnectionState(PeerConnectionState::Connected)).then_some(())
        })
        .await;
    }

    pub(crate) async fn next_video(&self) -> ReceivedRtp {
        within("video", async { self.video.lock().await.recv().await.unwrap() }).await
    }

    pub(crate) async fn next_audio(&self) -> ReceivedRtp {
        within("audio", async { self.audio.lock().await.recv().await.unwrap() }).await
    }

    /// The payloads of the next picture, by marker.
    pub(crate) async fn next_picture(&self) -> Vec<ReceivedRtp> {
        let mut packets = Vec::new();
        loop {
            let packet = self.next_video().await;
            let last = packet.marker;
            packets.push(packet);
            if last {
                return packets;
            }
        }
    }
}

/// `a` offers to `b`.
pub(crate) async fn negotiate(a: &Side, b: &Side, ice_restart: bool) {
    let offer = a.peer.create_offer(ice_restart).await.unwrap();
    assert_eq!(offer.kind, SdpKind::Offer);
    b.peer.set_remote(offer).await.unwrap();
    let answer = b.peer.create_answer().await.unwrap();
    a.peer.set_remote(answer).await.unwrap();
}

/// Two connected peers and how long it took from the offer on.
pub(crate) async fn connected_pair() -> (Side, Side, Duration) {
    let (a, b) = (side().await, side().await);
    let start = Instant::now();
    negotiate(&a, &b, false).await;
    tokio::join!(a.until_connected(&b), b.until_connected(&a));
    (a, b, start.elapsed())
}

/// An access unit: parameter sets if it is a keyframe, then one slice of `bytes`.
pub(crate) fn picture(
    clock: MediaClock,
    keyframe: bool,
    bytes: usize,
    fill: u8,
) -> EncodedVideoFrame {
    let mut data = Vec::new();
    if keyframe {
        data.extend_from_slice(&[0, 0, 0, 1, 0x67, 0x42, 0xe0, 0x1f, 0, 0, 0, 1, 0x68, 0xce]);
    }
    data.extend_from_slice(&[0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }]);
    data.extend(std::iter::repeat_n(fill.max(2), bytes));
    EncodedVideoFrame {
        codec: VideoCodec::H264,
        data: Bytes::from(data),
        keyframe,
        time: clock.now(),
        size: Size::new(1280, 720),
    }
}

/// A coded picture of about `bytes`, as far as packetizers look into it.
pub(crate) fn picture_of(codec: VideoCodec, clock: MediaClock, bytes: usize) -> EncodedVideoFrame {
    let mut frame = picture(clock, true, bytes, 77);
    frame.codec = codec;
    match codec {
        VideoCodec::H264 => {}
        // A keyframe of profile 0 with show_frame; one byte of partition follows the start code and the size.
        VideoCodec::Vp8 => {
            let head = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00];
            frame.data = [&head[..], &vec![77; bytes]].concat().into();
        }
        // Frame marker, profile 0, a keyframe that is shown, its sync code.
        VideoCodec::Vp9 => {
            let head = [0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x3f, 0x00];
            frame.data = [&head[..], &vec![77; bytes]].concat().into();
        }
        // Temporal delimiter, sequence header, and a frame OBU with its size in LEB128.
        VideoCodec::Av1 => {
            let head = [0x12, 0x00, 0x0a, 0x04, 0x18, 0x15, 0x7f, 0xfc, 0x32];
            let size = [(bytes & 0x7f) as u8 | 0x80, (bytes >> 7) as u8];
            frame.data = [&head[..], &size, &vec![77; bytes]].concat().into();
        }
    }
    frame
}

pub(crate) fn sound(number: u8, time: MediaTime) -> EncodedAudioFrame {
    EncodedAudioFrame {
        data: Bytes::from(vec![number; 80]),
        time,
        duration: Duration::from_millis(20),
    }
}

pub(crate) fn end_of_candidates() -> Candidate {
    Candidate::default()
}

pub(crate) fn init_log() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}
