//! Between the descriptions that are signaled and those that the stack takes. Pure.
//!
//! The stack (rtc 0.21.1) refuses a whole description for one odd line of it, makes no answer if a video section has
//! no codec in common, leaves sections out of an answer that have to be in it (RFC 3264 §6), and stops a stream for
//! good where the remote peer makes it `inactive`. So it gets descriptions as browsers write them ([`Sections::remote`]):
//!
//! - what it has no use for is left out: codecs that are not ours, header extensions, lines it does not know;
//! - a rejected section of audio or video looks like one with our codecs, so that it stays as it is for later;
//! - any other section that is rejected is one of a kind that the stack passes over.
//!
//! [`Sections::local`] makes rejections of those again in what we signal.

use crate::codecs::{self, MID_URI};
use crate::congestion::TRANSPORT_CC_URI;
use crate::payload_types::VideoCodecs;
use crate::sdp::{self, Direction, Section};
use crate::types::SdpKind;

/// What is special in the sections of the last remote description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sections {
    special: Vec<Special>,
    /// `a=mid` of what the stack has of audio and video.
    known: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Special {
    index: usize,
    /// As the stack knows it.
    mid: String,
    treatment: Treatment,
    /// The section as a rejection.
    rejection: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// The stack knows nothing of it.
    Hidden,
    /// The stack takes it for one that is used.
    Rejected,
    /// The stack takes it for `sendrecv`; to be answered `inactive`.
    Inactive,
}

impl Sections {
    /// The remote description for the stack. `local` is our last description as it is signaled, which an answer
    /// answers.
    pub(crate) fn remote(
        &mut self,
        sdp: &str,
        kind: SdpKind,
        local: &str,
        codecs: VideoCodecs,
    ) -> String {
        let (session, sections) = sdp::split(sdp);
        let (_, ours) = sdp::split(local);
        let before = std::mem::take(&mut self.special);
        let hash = preferred_hash(sdp);
        let mut out = String::with_capacity(sdp.len());
        for line in session.lines().map(str::trim_end) {
            if ["v=", "o=", "s=", "t=", "a="].iter().any(|known| line.starts_with(known)) {
                push_line(&mut out, line, hash);
            }
        }
        let usable = |section: &Section<'_>| is_usable(*section, codecs);
        let mut has_channel = false;
        for (index, section) in sections.iter().enumerate() {
            let media = section.media();
            let ours = ours.get(index).filter(|_| kind == SdpKind::Answer);
            let hidden_before = before
                .iter()
                .any(|s| s.index == index && s.treatment == Treatment::Hidden && ours.is_some());
            let mid = section.mid().or(ours.and_then(|ours| ours.mid()));
            let mid = mid.map_or_else(|| format!("none{index}"), str::to_owned);
            let is_media = matches!(media, "audio" | "video");
            let mut special = |treatment| {
                let rejection = rejection(*section);
                self.special.push(Special { index, mid: mid.clone(), treatment, rejection });
            };
            if usable(section) && !hidden_before && !(media == "application" && has_channel) {
                has_channel |= media == "application";
                let inactive = section.direction() == Some(Direction::Inactive);
                let sendrecv = inactive && is_media && kind == SdpKind::Offer;
                if sendrecv {
                    special(Treatment::Inactive);
                }
                let default = sdp::direction_of(session).unwrap_or(Direction::SendRecv);
                let direction = section.direction().unwrap_or(default);
                let direction = if sendrecv { Direction::SendRecv } else { direction };
                used(&mut out, *section, ours.copied(), &mid, direction, codecs, hash);
                continue;
            }
            // The stack has its transceiver for the first of each kind, and for what it knows.
            let others = sections.iter().enumerate().filter(|(_, s)| s.media() == media);
            let first = others.clone().next().is_some_and(|(i, _)| i == index)
                && !others.clone().any(|(_, s)| usable(s));
            if is_media && !hidden_before && (first || self.known.contains(&mid)) {
                special(Treatment::Rejected);
                out.push_str(&format!(
                    "m={media} 9 UDP/TLS/RTP/SAVPF {}",
                    codecs::section(media, codecs)
                ));
                out.push_str(&format!("a=mid:{mid}\r\na=sendrecv\r\n"));
            } else {
                special(Treatment::Hidden);
                out.push_str(&format!(
                    "m=text 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\na=inactive\r\n"
                ));
            }
        }
        out
    }

    /// Our description as it is signaled, from the stack's.
    pub(crate) fn local(&mut self, sdp: &str, kind: SdpKind) -> String {
        let (session, sections) = sdp::split(sdp);
        self.known = sections.iter().filter_map(|s| s.mid().map(str::to_owned)).collect();
        let mut texts: Vec<String> = Vec::new();
        for section in sections {
            let special = self.special.iter().find(|s| section.mid() == Some(s.mid.as_str()));
            texts.push(match special.map(|special| (special, special.treatment)) {
                Some((special, Treatment::Rejected)) => special.rejection.clone(),
                Some((_, Treatment::Inactive)) if kind == SdpKind::Answer => {
                    section.with_direction(Direction::Inactive)
                }
                _ => section.text.to_owned(),
            });
        }
        for hidden in self.special.iter().filter(|s| s.treatment == Treatment::Hidden) {
            texts.insert(hidden.index.min(texts.len()), hidden.rejection.clone());
        }
        let rejected = |mid: &str| {
            let special = self.special.iter().find(|special| special.mid == mid);
            special.is_some_and(|special| special.treatment != Treatment::Inactive)
        };
        let mut out = String::with_capacity(sdp.len());
        for line in session.split_inclusive('\n') {
            match line.strip_prefix("a=group:BUNDLE") {
                // RFC 8843 §7.3.3: a rejected section is in no bundle.
                Some(mids) => {
                    let used = mids.split_ascii_whitespace().filter(|mid| !rejected(mid));
                    let used: String = used.flat_map(|mid| [" ", mid]).collect();
                    out.push_str(&format!("a=group:BUNDLE{used}\r\n"));
                }
                None => out.push_str(line),
            }
        }
        out + &texts.concat()
    }
}

/// Whether we have a use for a section.
fn is_usable(section: Section<'_>, codecs: VideoCodecs) -> bool {
    !section.is_rejected()
        && match section.media() {
            "audio" => audio_formats(section).any(|(_, name)| name.eq_ignore_ascii_case("opus")),
            "video" => section.video_formats().iter().any(|f| codecs.contains(f.codec)),
            "application" => section.formats().eq(["webrtc-datachannel"]),
            _ => false,
        }
}

/// Payload types of Opus and of RED, with their names.
fn audio_formats<'a>(section: Section<'a>) -> impl Iterator<Item = (u8, &'a str)> {
    section.formats().filter_map(move |format| {
        let number = format.parse().ok()?;
        let name = section.encoding(number)?;
        ["opus", "red"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
            .then_some((number, name))
    })
}

/// A section that is used, as the stack gets it.
fn used(
    out: &mut String,
    section: Section<'_>,
    ours: Option<Section<'_>>,
    mid: &str,
    direction: Direction,
    codecs: VideoCodecs,
    hash: Option<&str>,
) {
    // The number that the remote peer has, that the stack is told, and how it is described.
    let mut formats: Vec<(Option<u8>, String, String, String)> = Vec::new();
    match section.media() {
        "audio" => {
            for (number, _) in audio_formats(section) {
                let name = section.of_payload_type("rtpmap", number).unwrap_or_default();
                let parameters = section.of_payload_type("fmtp", number).unwrap_or_default();
                formats.push((
                    Some(number),
                    number.to_string(),
                    name.into(),
                    without_spaces(parameters),
                ));
            }
        }
        "video" => {
            let offered = ours.map(|ours| ours.video_formats()).unwrap_or_default();
            let theirs = section.video_formats();
            for format in theirs.iter().filter(|format| codecs.contains(format.codec)) {
                // An answer may have other numbers than the offer (RFC 3264 §6.1), the stack may not.
                let exact = offered.iter().find(|ours| ours.is_same(format));
                let same = exact.or(offered.iter().find(|ours| ours.codec == format.codec));
                let number = same.map_or(format.payload_type, |same| same.payload_type);
                if formats.iter().any(|(_, taken, ..)| *taken == number.to_string()) {
                    continue;
                }
                let name = format!("{}/90000", format.codec);
                let parameters = without_spaces(format.parameters);
                formats.push((Some(format.payload_type), number.to_string(), name, parameters));
                let rtx = format.rtx.map(|rtx| same.map_or(Some(rtx), |same| same.rtx));
                if let Some(rtx) = rtx.flatten() {
                    formats.push((
                        None,
                        rtx.to_string(),
                        "rtx/90000".into(),
                        format!("apt={number}"),
                    ));
                }
            }
            // libwebrtc sends with the first codec of an offer that it has, even if its answer leaves that out; the
            // stack passes on nothing whose payload type it was not told.
            for format in offered.iter().filter(|format| codecs.contains(format.codec)) {
                if theirs.iter().any(|theirs| theirs.codec == format.codec) {
                    continue;
                }
                let number = format.payload_type.to_string();
                let apt = format!("apt={number}");
                let name = format!("{}/90000", format.codec);
                formats.push((None, number, name, without_spaces(format.parameters)));
                if let Some(rtx) = format.rtx {
                    formats.push((None, rtx.to_string(), "rtx/90000".into(), apt));
                }
            }
        }
        _ => {}
    }
    if formats.is_empty() {
        out.push_str(section.text.lines().next().unwrap_or_default().trim_end());
    } else {
        out.push_str(&format!("m={} 9 UDP/TLS/RTP/SAVPF", section.media()));
        formats.iter().for_each(|(_, number, ..)| out.push_str(&format!(" {number}")));
    }
    out.push_str(&format!("\r\na=mid:{mid}\r\n{}\r\n", direction.line()));
    for (theirs, number, name, parameters) in &formats {
        out.push_str(&format!("a=rtpmap:{number} {name}\r\n"));
        if !parameters.is_empty() {
            out.push_str(&format!("a=fmtp:{number} {parameters}\r\n"));
        }
        for (of, feedback) in section.attributes("rtcp-fb").filter_map(|v| v.split_once(' ')) {
            if theirs.is_some_and(|theirs| of == "*" || of.parse() == Ok(theirs)) {
                out.push_str(&format!("a=rtcp-fb:{number} {}\r\n", feedback.trim()));
            }
        }
    }
    let written = ["rtpmap", "fmtp", "rtcp-fb", "mid"];
    for line in section.lines() {
        let Some(attribute) = line.strip_prefix("a=") else { continue };
        let name = attribute.split(':').next().unwrap_or_default();
        let uri = attribute.split_ascii_whitespace().nth(1).unwrap_or_default();
        let is_ours = name != "extmap"
            || [MID_URI, TRANSPORT_CC_URI].contains(&uri) && section.extension(uri).is_some();
        if is_ours && !written.contains(&name) && Direction::of_line(line).is_none() {
            push_line(out, line, hash);
        }
    }
}

/// The section as it is rejected (RFC 3264 §6). Firefox wants the connection line.
fn rejection(section: Section<'_>) -> String {
    let formats: Vec<&str> = section.formats().collect();
    let formats = if formats.is_empty() { "0".to_owned() } else { formats.join(" ") };
    let mid = section.mid().map(|mid| format!("a=mid:{mid}\r\n")).unwrap_or_default();
    let (media, protocol) = (section.media(), section.protocol());
    format!("m={media} 0 {protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\n{mid}a=inactive\r\n")
}

/// Puts an attribute in. Fingerprints get one form (RFC 8122 §5: the hash function's name in any case), and where one
/// is of the hash function that the stack verifies, others are left out.
fn push_line(out: &mut String, line: &str, hash: Option<&str>) {
    match line.strip_prefix("a=fingerprint:") {
        Some(value) => {
            let mut words = value.split_ascii_whitespace();
            let name = words.next().unwrap_or_default().to_ascii_lowercase();
            if hash.is_none_or(|hash| hash == name) {
                let bytes = words.collect::<Vec<_>>().join(" ").to_ascii_uppercase();
                out.push_str(&format!("a=fingerprint:{name} {bytes}\r\n"));
            }
        }
        // The stack looks at the first group only.
        None if line.starts_with("a=group:") && !line.starts_with("a=group:BUNDLE") => {}
        None => {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
}

fn preferred_hash(sdp: &str) -> Option<&'static str> {
    let is_it = |line: &str| {
        let value = line.strip_prefix("a=fingerprint:").unwrap_or_default();
        value
            .split_ascii_whitespace()
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(VERIFIED))
    };
    sdp.lines().any(is_it).then_some(VERIFIED)
}

/// RFC 6184 §8.1 has a space after each semicolon, which the stack does not read.
fn without_spaces(parameters: &str) -> String {
    parameters.split_ascii_whitespace().collect()
}

/// The hash function that the stack verifies fingerprints with.
const VERIFIED: &str = "sha-256";

#[cfg(test)]
#[path = "sections_tests.rs"]
mod tests;
