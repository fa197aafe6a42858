//! Snapshots as an engine would give them.

use std::collections::VecDeque;
use std::time::Duration;

use visavis_engine::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn candidate(kind: CandidateType, address: &str, priority: u32) -> CandidateInfo {
    CandidateInfo {
        kind,
        protocol: CandidateProtocol::Udp,
        address: address.into(),
        priority: Some(priority),
        relay_protocol: None,
    }
}

/// The lobby with one of each device.
pub(crate) fn lobby() -> CallSnapshot {
    let device = |id: &str, name: &str| DeviceInfo {
        id: DeviceId(id.into()),
        name: name.into(),
        default: true,
    };
    CallSnapshot {
        devices: DeviceList {
            cameras: vec![device("/dev/video0", "Integrated Camera")],
            microphones: vec![device("mic", "Built-in Microphone"), device("usb", "USB Headset")],
            speakers: vec![device("out", "Headphones")],
        },
        local: LocalMedia {
            camera_on: true,
            microphone_on: true,
            camera_name: Some("Integrated Camera".into()),
            camera_format: Some("1280×720 · 30 fps".into()),
            microphone_name: Some("Built-in Microphone".into()),
            speaker_name: Some("Headphones".into()),
            microphone_level_dbfs: -18.0,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// Alone in a room.
pub(crate) fn waiting() -> CallSnapshot {
    CallSnapshot {
        phase: Phase::Waiting,
        code: "abc-def-ghj-kmn".parse().ok(),
        room_link: Some("http://192.168.1.14:8080/r/abc-def#ghj-kmn".into()),
        states: States { signaling_link: SignalingLink::Open, ..Default::default() },
        ..lobby()
    }
}

/// A call of four minutes with everything filled in.
pub(crate) fn connected() -> CallSnapshot {
    let local = candidate(CandidateType::Host, "192.168.1.14:50331", 2_130_706_431);
    let remote = candidate(CandidateType::Host, "192.168.1.20:55019", 2_130_706_175);
    let reflexive = candidate(CandidateType::Srflx, "198.51.100.20:61002", 1_694_498_815);
    CallSnapshot {
        phase: Phase::Connected,
        room_link: Some("https://meet.example/r/abc-def#ghj-kmn".into()),
        authentication: Some(Authentication {
            is_proven: true,
            emoji: Some([0, 14, 21, 33, 47, 58, 63]),
            remote_is_page: false,
        }),
        connected_for: Duration::from_secs(252),
        remote: RemoteParty {
            present: true,
            display_name: Some("Ada".into()),
            microphone_on: Some(false),
            camera_on: Some(true),
            lacks_video_codec: false,
        },
        states: States {
            signaling_link: SignalingLink::Open,
            signaling: Some(SignalingState::Stable),
            ice_gathering: Some(IceGatheringState::Complete),
            ice_connection: Some(IceConnectionState::Connected),
            dtls: Some(DtlsState::Connected),
            peer_connection: Some(PeerConnectionState::Connected),
            polite: Some(true),
        },
        local_candidates: vec![local.clone(), reflexive.clone()],
        remote_candidates: vec![remote.clone()],
        pairs: vec![
            PairInfo {
                local,
                remote: remote.clone(),
                state: CandidatePairState::Succeeded,
                nominated: true,
                selected: true,
                path: "direct UDP",
                priority: 9_151_314_442_816_847_871,
                controlling_priority: 2_130_706_431,
                controlled_priority: 2_130_706_431,
                requests_lost: 0,
                last_failure: None,
                rtt: Some(ms(18)),
                requests_sent: 14,
                responses_received: 14,
                bytes_sent: 41_200_000,
                bytes_received: 39_800_000,
            },
            PairInfo {
                local: reflexive,
                remote,
                state: CandidatePairState::InProgress,
                nominated: false,
                selected: false,
                path: "direct UDP",
                priority: 7_277_816_997_830_721_535,
                controlling_priority: 1_694_498_815,
                controlled_priority: 2_130_706_431,
                requests_lost: 9,
                last_failure: Some("refused with code 400".into()),
                rtt: None,
                requests_sent: 9,
                responses_received: 0,
                bytes_sent: 0,
                bytes_received: 0,
            },
        ],
        nominations: vec![
            NominationInfo {
                age: Duration::from_secs(252),
                local: "203.0.113.9:49160".into(),
                remote: "192.168.1.23:51234".into(),
                path: "relay over UDP",
                reason: "the first that answered".into(),
            },
            NominationInfo {
                age: Duration::from_millis(251_700),
                local: "192.168.1.7:50000".into(),
                remote: "192.168.1.23:51234".into(),
                path: "direct UDP",
                reason: "direct UDP instead of relay over UDP".into(),
            },
        ],
        consent_age: Some(ms(400)),
        video_sent: VideoSentStats {
            codec: Some("H264".into()),
            width_px: 1280,
            height_px: 720,
            fps: 30.0,
            frames: 7560,
            bytes: 40_100_000,
            packets: 36_100,
            keyframes: 3,
            target_bitrate_bps: 2_500_000,
            bitrate_bps: 2_340_000,
            remote_fraction_lost: Some(0.004),
            encode_time: Duration::from_micros(5200),
            ..Default::default()
        },
        video_received: VideoReceivedStats {
            codec: Some("H264".into()),
            width_px: 1280,
            height_px: 720,
            fps: 29.8,
            frames_decoded: 7511,
            packets: 35_800,
            packets_lost: 12,
            bytes: 38_900_000,
            bitrate_bps: 2_210_000,
            jitter: Duration::from_micros(1800),
            latency: Some(LatencyStats { p50: ms(18), p95: ms(27), max: ms(64) }),
            decode_time: Duration::from_micros(1800),
            ..Default::default()
        },
        audio_sent: AudioSentStats {
            codec: Some("opus".into()),
            packets: 12_600,
            bytes: 1_010_000,
            bitrate_bps: 32_000,
            remote_fraction_lost: Some(0.0),
            channels: Some(1),
            redundancy_depth: 1,
            redundancy_reach: 1,
            target_bitrate_bps: 32_000,
        },
        audio_received: AudioReceivedStats {
            codec: Some("opus".into()),
            packets: 12_590,
            lost: 4,
            concealed_ratio: 0.002,
            jitter_buffer: ms(40),
            bitrate_bps: 31_500,
            level_dbfs: Some(-24.0),
            tone_hz: Some(440.0),
            channels: Some(1),
            jitter: Duration::from_micros(900),
            red_copies: 1_200,
            red_recovered: 3,
            av_offset_ms: Some(32.0),
            flash_and_beep: None,
        },
        setup: SetupTimes {
            websocket: Some(ms(9)),
            joined: Some(ms(12)),
            remote_peer: Some(ms(5012)),
            authenticated: Some(ms(5041)),
            negotiated: Some(ms(5034)),
            ice_connected: Some(ms(5078)),
            dtls_connected: Some(ms(5101)),
            first_audio: Some(ms(5140)),
            first_video_frame: Some(ms(5186)),
        },
        dtls_version: Some("DTLS 1.2".into()),
        srtp_cipher: Some("AES-128-GCM".into()),
        history: (0..120u32)
            .map(|i| HistoryPoint {
                at_s: i as f32,
                video_sent_bps: 1_900_000 + u64::from(i % 17) * 30_000,
                video_target_bps: 2_500_000,
                video_received_bps: 2_000_000 + u64::from(i % 11) * 40_000,
                rtt_ms: Some(18.0),
                fps_received: 30.0,
            })
            .collect(),
        log: (0..24u64)
            .map(|i| LogEntry {
                at: ms(i * 137),
                topic: ["signaling", "call", "ice", "dtls", "media", "device"][(i % 6) as usize],
                text: format!("event number {i}"),
            })
            .collect::<VecDeque<_>>()
            .into(),
        local: LocalMedia {
            voice: VoiceState {
                running: true,
                echo_cancellation: true,
                echo_return_loss_enhancement_db: Some(27.5),
                ..Default::default()
            },
            ..waiting().local
        },
        ..waiting()
    }
}
