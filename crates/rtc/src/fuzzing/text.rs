//! Text out of signaling: session descriptions and candidates.

use std::sync::LazyLock;
use std::time::Instant;

use rtc::crypto::default_provider;
use rtc::peer_connection::certificate::RTCCertificate;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sdp::description::session::SessionDescription;
use visavis_media::VideoCodec;

use crate::answer::{self, Role};
use crate::connection::{from_stack, ice_description, to_stack};
use crate::sections::Sections;
use crate::session::LocalStreams;
use crate::types::{MediaKind, SdpKind};
use crate::{codecs, parity};

/// A connection as the program makes it, but without sockets.
fn connection() -> Option<RTCPeerConnection> {
    static CERTIFICATE: LazyLock<Option<RTCCertificate>> = LazyLock::new(|| {
        let provider = default_provider().ok()?;
        let made = rtc::dtls::crypto::Certificate::generate_self_signed(
            vec!["peer".into()],
            provider.crypto(),
        );
        let far = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
        Some(RTCCertificate::from_existing(made.ok()?, far))
    });
    let configuration =
        RTCConfigurationBuilder::new().with_certificates(vec![CERTIFICATE.clone()?]).build();
    let mut connection = RTCPeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_media_engine(codecs::media_engine(VideoCodec::ALL.into_iter().collect()).ok()?)
        .build(Instant::now())
        .ok()?;
    let local = LocalStreams { audio: 21, video: 22, rtx: 24, parity: 23 };
    connection.add_track(codecs::local_track(MediaKind::Audio, local)).ok()?;
    connection.add_track(codecs::local_track(MediaKind::Video, local)).ok()?;
    Some(connection)
}

/// A description: what we read from it and write into it, and the stack's parser. The first byte says whether
/// it is an offer, an answer, or goes to the parser only.
pub fn session_description(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    let Ok(sdp) = std::str::from_utf8(text) else { return };
    if let Ok(parsed) = SessionDescription::unmarshal(&mut std::io::Cursor::new(text)) {
        let again = parsed.marshal();
        let parsed = SessionDescription::unmarshal(&mut std::io::Cursor::new(again.as_bytes()));
        assert!(parsed.is_ok(), "{again}");
    }
    let _ = (parity::is_announced(sdp), parity::announce(sdp), Role::of(sdp));
    let preferred = codecs::announce_stereo(&codecs::prefer_red(sdp));
    let preferred =
        codecs::prefer_video(&preferred, [VideoCodec::Vp8, VideoCodec::H264].into_iter().collect());
    let _ = answer::with_one_of_each(&Role::Server.put_into(&preferred));
    if let Ok(ice) = ice_description(sdp) {
        let told = from_stack(sdp, &ice.credentials, ice.candidates.iter(), true);
        assert!(ice_description(&told).is_ok_and(|again| again.credentials == ice.credentials));
    }
    let sdp = to_stack(sdp);

    let (mut sections, all) = (Sections::default(), VideoCodec::ALL.into_iter().collect());
    let part = if kind & 3 == 1 { SdpKind::Answer } else { SdpKind::Offer };
    // Odd inputs go to the stack as they are, too.
    let sdp = if kind & 4 == 0 { sections.remote(&sdp, part, &sdp, all) } else { sdp };
    let _ = sections.local(&sdp, SdpKind::Answer);

    let Some(mut connection) = connection() else { return };
    let now = Instant::now();
    match kind & 3 {
        0 => {
            let Ok(offer) = RTCSessionDescription::offer(sdp) else { return };
            if connection.set_remote_description(now, offer).is_ok()
                && let Ok(answer) = connection.create_answer(None)
            {
                let _ = sections.local(&answer.sdp, SdpKind::Answer);
                let _ = connection.set_local_description(now, answer);
            }
        }
        1 => {
            if let Ok(offer) = connection.create_offer(None)
                && connection.set_local_description(now, offer).is_ok()
                && let Ok(answer) = RTCSessionDescription::answer(sdp)
            {
                let _ = connection.set_remote_description(now, answer);
            }
        }
        _ => {}
    }
}

/// A candidate line: what is understood of it is written and understood again.
pub fn candidate(input: &[u8]) {
    let Ok(line) = std::str::from_utf8(input) else { return };
    if let Ok(candidate) = visavis_ice::Candidate::parse(line) {
        let again = visavis_ice::Candidate::parse(&candidate.to_string());
        assert_eq!(again.as_ref(), Ok(&candidate), "{line}");
    }
}
