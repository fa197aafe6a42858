//! Two peers on this machine: connecting, media, messages, renegotiation, restart, rollback.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crate::common::{connected_pair, init_log, negotiate, picture, side, sound, within};
use visavis_media::MediaTime;
use visavis_rtc::{PeerEvent, SendOutcome, SignalingState};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_connect_and_media_flows_both_ways() {
    init_log();
    let (a, b, took) = connected_pair().await;
    eprintln!("offer to connected: {took:?}");
    for (from, to) in [(&a, &b), (&b, &a)] {
        let sender = from.peer.video_sender();
        assert!(sender.is_receiving());
        for n in 0..30u8 {
            assert_eq!(sender.send(&picture(from.clock, n == 0, 5000, n + 2)), SendOutcome::Sent);
            let packets = to.next_picture().await;
            let timestamp = packets[0].timestamp;
            assert!(packets.iter().all(|p| p.timestamp == timestamp && !p.retransmitted));
            assert!(packets.windows(2).all(|p| p[1].sequence == p[0].sequence.wrapping_add(1)));
            let last = packets.last().unwrap();
            assert!(last.payload[2..].iter().all(|byte| *byte == n + 2));
        }
        let audio = from.peer.audio_sender();
        let mut previous: Option<visavis_media::ReceivedRtp> = None;
        for n in 0..50u8 {
            let time = MediaTime::from_micros(u64::from(n) * 20_000);
            assert_eq!(audio.send(&sound(n, time)), SendOutcome::Sent);
            let packet = to.next_audio().await;
            assert!(packet.payload.iter().all(|byte| *byte == n));
            if let Some(previous) = previous {
                assert_eq!(packet.timestamp.wrapping_sub(previous.timestamp), 960);
                assert_eq!(packet.sequence, previous.sequence.wrapping_add(1));
                assert!(packet.arrival >= previous.arrival);
            }
            previous = Some(packet);
        }
    }
    a.peer.close().await;
    b.peer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyframe_burst_arrives_whole() {
    let (a, b, _) = connected_pair().await;
    let sender = a.peer.video_sender();
    for n in 0..10u8 {
        // Some 150 packets each, back to back.
        assert_eq!(sender.send(&picture(a.clock, true, 170_000, n + 2)), SendOutcome::Sent);
    }
    let mut expected = None;
    for _ in 0..10 {
        for packet in b.next_picture().await {
            assert_eq!(packet.sequence, expected.unwrap_or(packet.sequence));
            expected = Some(packet.sequence.wrapping_add(1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_on_the_data_channel() {
    let (a, b, _) = connected_pair().await;
    for (side, other) in [(&a, &b), (&b, &a)] {
        side.until("open channel", other, |e| (*e == PeerEvent::DataChannelOpen).then_some(()))
            .await;
    }
    for n in 0..50 {
        a.peer.send_message(&format!("message {n}")).unwrap();
    }
    for n in 0..50 {
        let text = b
            .until("message", &a, |e| match e {
                PeerEvent::Message(text) => Some(text.clone()),
                _ => None,
            })
            .await;
        assert_eq!(text, format!("message {n}"));
    }
    assert!(a.peer.send_message(&"x".repeat(1 << 20)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyframe_request_reaches_the_sender_once_in_a_while() {
    let (a, b, _) = connected_pair().await;
    assert!(!b.peer.request_keyframe(), "nothing was received yet");
    a.peer.video_sender().send(&picture(a.clock, true, 100, 2));
    b.next_picture().await;
    assert!(b.peer.request_keyframe());
    assert!(!b.peer.request_keyframe(), "throttled");
    a.until("keyframe request", &b, |e| (*e == PeerEvent::KeyframeRequested).then_some(())).await;
    assert_eq!(a.peer.stats().await.outbound_video.pli_count, 1);
    assert_eq!(b.peer.stats().await.inbound_video.pli_count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ice_restart_keeps_the_media() {
    let (a, b, _) = connected_pair().await;
    a.peer.video_sender().send(&picture(a.clock, true, 100, 2));
    b.next_picture().await;
    negotiate(&a, &b, true).await;
    flows_both_ways(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_is_held_leaves_the_media_alone_until_it_is_answered() {
    let (a, b, _) = connected_pair().await;
    // One that is dropped, for good, leaves no trace.
    let forgotten = a.peer.offer_restart().await.unwrap();
    flows_both_ways(&a, &b).await;
    a.peer.rollback().await.unwrap();
    negotiate(&b, &a, true).await;
    flows_both_ways(&a, &b).await;

    let held = a.peer.offer_restart().await.unwrap();
    let ufrag = |sdp: &str| sdp.lines().find(|l| l.starts_with("a=ice-ufrag:")).unwrap().to_owned();
    assert_ne!(ufrag(&held.sdp), ufrag(&forgotten.sdp));
    flows_both_ways(&a, &b).await;
    b.peer.set_remote(held).await.unwrap();
    let answer = b.peer.create_answer().await.unwrap();
    a.peer.set_remote(answer).await.unwrap();
    flows_both_ways(&a, &b).await;

    // An ordinary offer after one that was held is a restart, too.
    a.peer.offer_restart().await.unwrap();
    negotiate(&a, &b, false).await;
    flows_both_ways(&a, &b).await;
}

/// Waits for pictures in both directions.
async fn flows_both_ways(a: &crate::common::Side, b: &crate::common::Side) {
    let (send_a, send_b) = (a.peer.video_sender(), b.peer.video_sender());
    // Frames until some get through on the new path, in both directions.
    let flow = async |sender: &visavis_rtc::VideoSender,
                      from: &crate::common::Side,
                      to: &crate::common::Side| {
        within("media after the restart", async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            let mut got = 0;
            while got < 50 {
                tick.tick().await;
                sender.send(&picture(from.clock, true, 100, 77));
                while let Ok(packet) = to.video.lock().await.try_recv() {
                    got += usize::from(packet.marker && packet.payload[1..].contains(&77));
                }
            }
        })
        .await;
    };
    let pump = async |side: &crate::common::Side, other: &crate::common::Side| {
        side.until("end", other, |_| None::<()>).await;
    };
    tokio::select! {
        () = async { tokio::join!(flow(&send_a, a, b), flow(&send_b, b, a)); } => {}
        () = pump(a, b) => {}
        () = pump(b, a) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renegotiation_by_either_side_keeps_media_and_counters() {
    let (a, b, _) = connected_pair().await;
    let sender = a.peer.video_sender();
    for round in 0..4u8 {
        sender.send(&picture(a.clock, true, 3000, round + 2));
        b.next_picture().await;
        if round % 2 == 0 {
            negotiate(&a, &b, false).await
        } else {
            negotiate(&b, &a, false).await
        }
        assert!(sender.is_receiving());
    }
    sender.send(&picture(a.clock, true, 3000, 50));
    b.next_picture().await;
    let stats = b.peer.stats().await;
    assert_eq!(stats.inbound_video.packets_lost, 0);
    assert!(stats.inbound_video.packets_received >= 5 * 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colliding_offers_are_resolved_by_rolling_back() {
    let (polite, impolite) = (side().await, side().await);
    let ours = polite.peer.create_offer(false).await.unwrap();
    let theirs = impolite.peer.create_offer(false).await.unwrap();
    // The impolite side ignores `ours`; the polite one gives way.
    drop(ours);
    assert!(polite.peer.set_remote(theirs.clone()).await.is_err(), "an offer is pending");
    polite.peer.rollback().await.unwrap();
    assert!(polite.peer.rollback().await.is_err(), "nothing is pending");
    polite.peer.set_remote(theirs).await.unwrap();
    let answer = polite.peer.create_answer().await.unwrap();
    impolite.peer.set_remote(answer).await.unwrap();
    tokio::join!(polite.until_connected(&impolite), impolite.until_connected(&polite));
    for (from, to) in [(&polite, &impolite), (&impolite, &polite)] {
        assert_eq!(
            from.peer.video_sender().send(&picture(from.clock, true, 100, 9)),
            SendOutcome::Sent
        );
        to.next_picture().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collision_in_a_running_call_is_resolved_too() {
    let (a, b, _) = connected_pair().await;
    a.peer.create_offer(false).await.unwrap();
    let offer = b.peer.create_offer(false).await.unwrap();
    a.peer.rollback().await.unwrap();
    a.peer.set_remote(offer).await.unwrap();
    let answer = a.peer.create_answer().await.unwrap();
    b.peer.set_remote(answer).await.unwrap();
    a.peer.video_sender().send(&picture(a.clock, true, 100, 9));
    b.next_picture().await;
    let mut last = None;
    while let Ok(event) = a.events.lock().await.try_recv() {
        if let PeerEvent::SignalingState(state) = event {
            last = Some(state);
        }
    }
    assert_eq!(last, Some(SignalingState::Stable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_remote_side_does_not_receive_is_not_sent() {
    for (direction, sends) in [("recvonly", true), ("inactive", false), ("sendonly", false)] {
        let (a, b) = (side().await, side().await);
        b.peer.set_remote(a.peer.create_offer(false).await.unwrap()).await.unwrap();
        let mut answer = b.peer.create_answer().await.unwrap();
        let video = answer.sdp.find("m=video").unwrap();
        let (head, tail) = answer.sdp.split_at(video);
        answer.sdp = format!("{head}{}", tail.replacen("a=sendrecv", &format!("a={direction}"), 1));
        a.peer.set_remote(answer).await.unwrap();
        tokio::join!(a.until_connected(&b), b.until_connected(&a));
        assert_eq!(a.peer.video_sender().is_receiving(), sends, "{direction}");
        assert!(a.peer.audio_sender().is_receiving());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_before_the_connection_go_nowhere() {
    let a = side().await;
    let sender = a.peer.video_sender();
    assert_eq!(sender.send(&picture(a.clock, true, 100, 2)), SendOutcome::NotReceiving);
    a.peer.create_offer(false).await.unwrap();
    assert_eq!(sender.send(&picture(a.clock, true, 100, 2)), SendOutcome::NotReceiving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_know_the_path_and_both_directions() {
    let (a, b, _) = connected_pair().await;
    within("report blocks", async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            for (from, to) in [(&a, &b), (&b, &a)] {
                from.peer.video_sender().send(&picture(from.clock, true, 3000, 5));
                from.peer.audio_sender().send(&sound(1, from.clock.now()));
                while to.video.lock().await.try_recv().is_ok() {}
            }
            let stats = a.peer.stats().await;
            if stats.outbound_video.round_trip_time_s.is_some()
                && stats.outbound_audio.round_trip_time_s.is_some()
            {
                break;
            }
        }
    })
    .await;
    let stats = a.peer.stats().await;
    let pair = stats.selected_pair().expect("a selected pair");
    assert!(pair.nominated && pair.current_round_trip_time_s.is_some());
    assert!(stats.candidate(&pair.local_candidate_id).is_some());
    assert!(stats.candidate(&pair.remote_candidate_id).is_some());
    assert!(stats.outbound_video.round_trip_time_s.unwrap() < 0.2);
    assert_eq!(stats.outbound_video.remote_fraction_lost, Some(0.0));
    assert_eq!(stats.inbound_video.packets_lost, 0);
    assert!(stats.inbound_audio.sender_reports_received > 0);
    assert!(
        stats.codecs.iter().any(|c| c.eq_ignore_ascii_case("video/h264")),
        "{:?}",
        stats.codecs
    );
    assert!(
        stats.codecs.iter().any(|c| c.eq_ignore_ascii_case("audio/opus")),
        "{:?}",
        stats.codecs
    );
    assert_eq!(stats.transport.dtls_state, "connected");
    assert!(!stats.transport.srtp_cipher.is_empty());
    assert!(!stats.transport.tls_version.is_empty());
    eprintln!("{stats:#?}");
}
