//! Formats and protocols without a partner: bytes in, and what was understood written again.

use std::time::Instant;

use bytes::Bytes;
use rtc::crypto::default_provider;
use rtc::ice::attributes::control::AttrControl;
use rtc::ice::attributes::priority::PriorityAttr;
use rtc::mdns::{MDNS_PORT, Mdns, MdnsConfig};
use rtc::sansio::Protocol;
use rtc::shared::marshal::{Marshal, MarshalSize, Unmarshal};
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;
use rtc::stun::addr::MappedAddress;
use rtc::stun::attributes::{ATTR_REALM, ATTR_USERNAME};
use rtc::stun::error_code::ErrorCodeAttribute;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{Getter, Message, is_stun_message};
use rtc::stun::textattrs::TextAttribute;
use rtc::stun::uattrs::UnknownAttributes;
use rtc::stun::xoraddr::XorMappedAddress;
use rtc::turn::proto::channum::ChannelNumber;
use rtc::turn::proto::data::Data;
use rtc::turn::proto::lifetime::Lifetime;
use rtc::turn::proto::peeraddr::PeerAddress;
use rtc::turn::proto::relayaddr::RelayedAddress;
use rtc::{rtcp as rtc_rtcp, rtp as rtc_rtp};

use super::{received, steps};

/// A STUN or TURN message, read by the stack and by us.
pub fn stun(input: &[u8]) {
    let (now, path) = (Instant::now(), visavis_ice::Path::Udp { base: super::LOCAL.into() });
    let role = visavis_ice::Role::Controlled;
    let zeros = |bytes: &mut [u8]| bytes.fill(0);
    let mut agent = visavis_ice::Agent::new(visavis_ice::Config::default(), role, zeros);
    agent.receive(now, path, super::REMOTE.into(), input);
    if !is_stun_message(input) {
        return;
    }
    let mut message = Message { raw: input.to_vec(), ..Message::default() };
    if message.decode().is_err() {
        return;
    }
    let _ = message.to_string();
    let get = |getter: &mut dyn Getter| {
        let _ = getter.get_from(&message);
    };
    get(&mut XorMappedAddress::default());
    get(&mut MappedAddress::default());
    get(&mut ErrorCodeAttribute::default());
    get(&mut UnknownAttributes(Vec::new()));
    let _ = PriorityAttr::default().get_from(&message);
    get(&mut AttrControl::default());
    get(&mut ChannelNumber::default());
    get(&mut Data::default());
    get(&mut Lifetime::default());
    get(&mut PeerAddress::default());
    get(&mut RelayedAddress::default());
    for attribute in [ATTR_USERNAME, ATTR_REALM] {
        let _ = TextAttribute::get_from_as(&message, attribute);
    }
    let _ = FINGERPRINT.check(&message);
    if let Ok(crypto) = default_provider() {
        let _ = MessageIntegrity::check(&mut message, b"password", crypto.crypto());
    }
}

/// One resolver with a question and a name of its own, and the messages of others.
pub fn mdns(input: &[u8]) {
    let now = Instant::now();
    let names = vec!["aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee.local".to_owned()];
    let config = MdnsConfig::new().with_local_names(names).with_local_ip([192, 0, 2, 1].into());
    let mut mdns = Mdns::new(now, config);
    mdns.query_now(now, "bbbbbbbb-bbbb-4ccc-8ddd-eeeeeeeeeeee.local");
    for step in steps(input) {
        let _ = mdns.handle_read(received(now, ([192, 0, 2, 9], MDNS_PORT), step.bytes));
        while mdns.poll_event().is_some() {}
        let mut answers = 0;
        while mdns.poll_write().is_some() {
            answers += 1;
        }
        // A name's question has one answer; the question of ours may go again.
        assert!(answers <= 2 + step.bytes.len() / 16, "{answers} answers");
    }
}

/// A packet of RTP; what is read is written, and read again to the same.
pub fn rtp(input: &[u8]) {
    let Ok(packet) = rtc_rtp::Packet::unmarshal(&mut Bytes::copy_from_slice(input)) else { return };
    for id in 0..=15 {
        let _ = packet.header.get_extension(id);
    }
    let Ok(again) = packet.marshal() else { return };
    let again = rtc_rtp::Packet::unmarshal(&mut again.freeze());
    assert_eq!(again.map(|again| again.payload).ok(), Some(packet.payload));
}

/// A compound packet of RTCP.
pub fn rtcp(input: &[u8]) {
    let Ok(packets) = rtc_rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(input)) else {
        return;
    };
    for packet in packets {
        // Nothing writes them as text: rtc-rtcp 0.21.1 panics on the largest REMB (docs/security.md).
        let _ = (packet.destination_ssrc(), packet.header());
        let _ = packet.marshal();
    }
}

/// Packets that claim to be encrypted for us.
pub fn srtp(input: &[u8]) {
    let Ok(crypto) = default_provider() else { return };
    for profile in [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80] {
        let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
        let Ok(mut context) = Context::new(&key, &salt, profile, None, None, crypto.crypto())
        else {
            continue;
        };
        for step in steps(input) {
            let _ = context.decrypt_rtp(step.bytes);
            let _ = context.decrypt_rtcp(step.bytes);
            // And what a peer of ours would have encrypted, which goes further. Nobody encrypts a header whose
            // extensions are cut short.
            let header = rtc_rtp::Header::unmarshal(&mut &*step.bytes);
            if header.is_ok_and(|header| header.marshal_size() <= step.bytes.len())
                && let Ok(encrypted) = context.encrypt_rtp(step.bytes)
            {
                let _ = context.decrypt_rtp(&encrypted);
            }
            if let Ok(encrypted) = context.encrypt_rtcp(step.bytes) {
                let _ = context.decrypt_rtcp(&encrypted);
            }
        }
    }
}

/// Datagrams on a stream: those of TURN or those with their length in front (by the first byte), in
/// pieces. However the stream is cut they are the same.
pub fn stream_framing(input: &[u8]) {
    let Some((first, stream)) = input.split_first() else { return };
    let turn = first & 1 != 0;
    let piece = usize::from(first >> 1) + 1;
    let whole = crate::driver::streams::cut(turn, std::iter::once(stream));
    assert_eq!(crate::driver::streams::cut(turn, stream.chunks(piece)), whole);
    let bytes: usize = whole.iter().map(bytes::BytesMut::len).sum();
    assert!(bytes <= stream.len());
}
