//! Repair of lost packets over a real connection, with losses put in next to the wire.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rtc::interceptor::{Packet, Registry, Slot, TaggedPacket};

use crate::interceptor::{Queues, Stage, Staged};

/// Says whether a packet with this SSRC and sequence number is lost.
#[derive(Clone)]
pub(crate) struct Lottery(pub(crate) Arc<dyn Fn(u32, u16) -> bool + Send + Sync>);

impl std::fmt::Debug for Lottery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lottery")
    }
}

struct Loss(Lottery);

impl Stage for Loss {
    fn on_write(&mut self, packet: TaggedPacket, queues: &mut Queues) {
        if let Packet::Rtp(rtp) = &packet.message.packet
            && (self.0.0)(rtp.header.ssrc, rtp.header.sequence_number)
        {
            return;
        }
        queues.write.push_back(packet);
    }
}

pub(crate) fn add_to(registry: Registry, lottery: Option<Lottery>) -> Registry {
    match lottery {
        Some(lottery) => registry.with(Slot::from(500), Staged::new(Loss(lottery))),
        None => registry,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use visavis_media::{EncodedVideoFrame, ReceivedRtp, Size, VideoCodec};

    use super::*;
    use crate::{MediaClock, Peer, PeerConfig, PeerConnectionState, PeerEvent};

    pub(crate) struct Side {
        pub(crate) peer: Arc<Peer>,
        events: mpsc::Receiver<PeerEvent>,
        video: mpsc::Receiver<ReceivedRtp>,
        audio: mpsc::Receiver<ReceivedRtp>,
        clock: MediaClock,
    }

    async fn side(lose: Option<Lottery>) -> Side {
        let (events_tx, events) = mpsc::channel(1024);
        let (video_tx, video) = mpsc::channel(8192);
        let clock = MediaClock::default();
        let config = PeerConfig { clock, lose, ..Default::default() };
        let take = move |rtp| video_tx.try_send(rtp).unwrap_or(());
        let (audio_tx, audio) = mpsc::channel(8192);
        let take_audio = move |rtp| audio_tx.try_send(rtp).unwrap_or(());
        let peer = Peer::new(config, events_tx, take, take_audio).unwrap();
        Side { peer: Arc::new(peer), events, video, audio, clock }
    }

    async fn until_connected(side: &mut Side, other: &Peer) {
        loop {
            match side.events.recv().await.unwrap() {
                PeerEvent::LocalCandidate(candidate) => {
                    other.add_candidate(candidate).await.unwrap();
                }
                PeerEvent::PeerConnectionState(PeerConnectionState::Connected) => return,
                _ => {}
            }
        }
    }

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Two connected sides; what the first sends goes through the lottery.
    pub(crate) async fn connected(lottery: Lottery) -> (Side, Side) {
        let (mut a, mut b) = (side(Some(lottery)).await, side(None).await);
        b.peer.set_remote(a.peer.create_offer(false).await.unwrap()).await.unwrap();
        a.peer.set_remote(b.peer.create_answer().await.unwrap()).await.unwrap();
        let (peer_a, peer_b) = (a.peer.clone(), b.peer.clone());
        tokio::time::timeout(DEADLINE, async {
            tokio::join!(until_connected(&mut a, &peer_b), until_connected(&mut b, &peer_a))
        })
        .await
        .expect("connection");
        (a, b)
    }

    /// Every 20th media packet and every 7th retransmission is lost; all media must arrive, with
    /// about one request for each loss, and the loss must show in the reports.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lost_packets_are_asked_for_and_arrive() {
        let (media, repairs) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let main_ssrc = Arc::new(AtomicU32::new(0));
        let (media_in, repairs_in, main_in) = (media.clone(), repairs.clone(), main_ssrc.clone());
        let lottery = Lottery(Arc::new(move |ssrc, _| {
            // The first stream seen is the media stream, the other one RTX.
            let _ = main_in.compare_exchange(0, ssrc, Ordering::Relaxed, Ordering::Relaxed);
            if main_in.load(Ordering::Relaxed) == ssrc {
                media_in.fetch_add(1, Ordering::Relaxed) % 20 == 10
            } else {
                repairs_in.fetch_add(1, Ordering::Relaxed) % 7 == 3
            }
        }));
        let (a, mut b) = connected(lottery).await;

        let sender = a.peer.video_sender();
        let mut sequences = BTreeSet::new();
        let mut retransmitted = 0;
        let mut codecs = BTreeSet::new();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        for n in 0..400u32 {
            tick.tick().await;
            let keyframe = n % 30 == 0;
            // Each has a payload type for its retransmissions.
            let codec = if n / 30 % 2 == 0 { VideoCodec::H264 } else { VideoCodec::Vp8 };
            let head: &[u8] = match (codec, keyframe) {
                (VideoCodec::H264, true) => {
                    &[0, 0, 0, 1, 0x67, 66, 0, 31, 0, 0, 0, 1, 0x68, 1, 0, 0, 0, 1, 0x65]
                }
                (VideoCodec::H264, false) => &[0, 0, 0, 1, 0x41],
                (_, true) => &[0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1],
                (_, false) => &[0x11, 2, 0],
            };
            let mut data = head.to_vec();
            data.extend(std::iter::repeat_n(7u8, 4000));
            let frame = EncodedVideoFrame {
                codec,
                data: Bytes::from(data),
                keyframe,
                time: a.clock.now(),
                size: Size::new(640, 360),
            };
            sender.send(&frame);
        }
        // After the last repair nothing more comes: wait until all that was sent is here. The very
        // last packet may be lost unnoticed, so one more frame ends the stream.
        let mut unwrapped = None;
        tokio::time::timeout(DEADLINE, async {
            loop {
                while let Ok(rtp) = b.video.try_recv() {
                    let first = *unwrapped.get_or_insert(rtp.sequence);
                    sequences.insert(rtp.sequence.wrapping_sub(first) as i16);
                    retransmitted += u32::from(rtp.retransmitted);
                    codecs.extend(rtp.codec.filter(|_| rtp.retransmitted));
                }
                let (low, high) = (*sequences.first().unwrap(), *sequences.last().unwrap());
                let expected = usize::try_from(high - low).unwrap() + 1;
                if sequences.len() == expected && expected >= 1590 {
                    return;
                }
                tick.tick().await;
            }
        })
        .await
        .expect("every packet");

        let lost = media.load(Ordering::Relaxed) / 20;
        assert!(retransmitted >= lost - 2, "{retransmitted} of {lost}");
        assert_eq!(codecs, BTreeSet::from([VideoCodec::H264, VideoCodec::Vp8]));
        let sent = a.peer.stats().await.outbound_video;
        let received = b.peer.stats().await.inbound_video;
        assert!(sent.nacked_packets > 0 && sent.retransmitted_packets_sent > 0);
        assert!(
            received.nacked_packets <= u64::from(lost) * 13 / 10,
            "{} requests for {lost} losses",
            received.nacked_packets
        );
        assert!(
            received.packets_lost >= i64::from(lost) - 2,
            "repairs must not hide the loss of the path: {received:?}"
        );
        tokio::time::timeout(DEADLINE, async {
            loop {
                let stats = a.peer.stats().await.outbound_video;
                if stats.remote_packets_lost.is_some_and(|n| n >= i64::from(lost) - 2) {
                    return;
                }
                tick.tick().await;
            }
        })
        .await
        .expect("a report of the loss");
    }

    /// Two audio packets of every ten are lost in a row; the copies in later ones bring all sound.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lost_sound_arrives_in_copies() {
        let count = Arc::new(AtomicU32::new(0));
        let counter = count.clone();
        let lottery =
            Lottery(Arc::new(move |_, _| counter.fetch_add(1, Ordering::Relaxed) % 10 >= 8));
        let (a, mut b) = connected(lottery).await;

        let sender = a.peer.audio_sender();
        assert!(sender.takes_redundancy() && b.peer.audio_sender().takes_redundancy());
        sender.set_redundancy(visavis_media::red::Redundancy::of(&[1, 2]));
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        for n in 0..205u64 {
            tick.tick().await;
            sender.send(&visavis_media::EncodedAudioFrame {
                data: Bytes::from(vec![n as u8; 60]),
                time: visavis_media::MediaTime::from_micros(n * 20_000),
                duration: Duration::from_millis(20),
            });
        }
        let mut frames = std::collections::BTreeMap::new();
        let mut copies = 0;
        tokio::time::timeout(DEADLINE, async {
            while !frames.contains_key(&204) {
                let rtp = b.audio.recv().await.unwrap();
                assert_eq!(rtp.payload.len(), 60);
                copies += u32::from(rtp.retransmitted);
                frames.insert(rtp.payload[0], rtp.timestamp);
            }
        })
        .await
        .expect("the last packet");
        assert_eq!(frames.len(), 205, "{:?}", frames.keys());
        assert!(copies > 300, "{copies}");
        let first = frames[&0];
        assert!(frames.iter().all(|(n, t)| t.wrapping_sub(first) == u32::from(*n) * 960));
        // Plain Opus again, without copies.
        sender.set_redundancy(visavis_media::red::Redundancy::NONE);
        while b.audio.try_recv().is_ok() {}
        for n in 205..215u64 {
            sender.send(&visavis_media::EncodedAudioFrame {
                data: Bytes::from(vec![n as u8; 60]),
                time: visavis_media::MediaTime::from_micros(n * 20_000),
                duration: Duration::from_millis(20),
            });
        }
        let plain = tokio::time::timeout(DEADLINE, b.audio.recv()).await.unwrap().unwrap();
        assert!(!plain.retransmitted && plain.payload.len() == 60);
    }
}
