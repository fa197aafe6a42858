//! A description as far as it is looked at and rewritten here: its m-sections, and their payload types of video.
//! Pure; the stack parses and writes the rest.

use visavis_media::{Bitrate, VideoCodec};

/// One m-section (RFC 8866 §5.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    /// All of its lines.
    pub(crate) text: &'a str,
}

/// The lines before the first m-section, and the sections.
pub(crate) fn split(sdp: &str) -> (&str, Vec<Section<'_>>) {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in sdp.split_inclusive('\n') {
        if line.starts_with("m=") {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([sdp.len()]);
    let sections = starts.iter().zip(ends).map(|(from, to)| Section { text: &sdp[*from..to] });
    (&sdp[..starts.first().copied().unwrap_or(sdp.len())], sections.collect())
}

/// The answer with the payload types of the offer, section by section ([`Section::with_numbers_of`]).
pub(crate) fn with_numbers_of(answer: &str, offer: &str) -> String {
    let ((session, answered), (_, offered)) = (split(answer), split(offer));
    let mut out = session.to_owned();
    for (index, section) in answered.iter().enumerate() {
        match offered.get(index) {
            Some(offered) => out.push_str(&section.with_numbers_of(*offered)),
            None => out.push_str(section.text),
        }
    }
    out
}

/// The value of the first line that begins with `name` outside of rejected sections, which is the bundle's.
pub(crate) fn bundled<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    let (session, sections) = split(sdp);
    let used = sections.into_iter().filter(|section| !section.is_rejected());
    let mut texts = [session].into_iter().chain(used.map(|section| section.text));
    texts.find_map(|text| text.lines().find_map(|line| line.strip_prefix(name))).map(str::trim)
}

impl<'a> Section<'a> {
    /// Media, port and transport protocol; empty words where it has less.
    fn words(self) -> impl Iterator<Item = &'a str> {
        let first = self.text.lines().next().unwrap_or_default();
        first.strip_prefix("m=").unwrap_or_default().split_ascii_whitespace()
    }

    /// `audio`, `video`, `application` or another.
    pub(crate) fn media(self) -> &'a str {
        self.words().next().unwrap_or_default()
    }

    /// The transport protocol.
    pub(crate) fn protocol(self) -> &'a str {
        self.words().nth(2).unwrap_or_default()
    }

    /// `a=mid`, if it is not empty.
    pub(crate) fn mid(self) -> Option<&'a str> {
        self.attributes("mid").next().filter(|mid| !mid.is_empty())
    }

    /// Its own direction.
    pub(crate) fn direction(self) -> Option<Direction> {
        direction_of(self.text)
    }

    /// The section with another direction.
    pub(crate) fn with_direction(self, direction: Direction) -> String {
        let lines = self.text.split_inclusive('\n');
        lines
            .map(|line| match Direction::of_line(line.trim_end()) {
                Some(_) => format!("{}\r\n", direction.line()),
                None => line.to_owned(),
            })
            .collect()
    }

    /// Formats in order of preference: payload types of RTP.
    pub(crate) fn formats(self) -> impl Iterator<Item = &'a str> {
        self.words().skip(3)
    }

    /// The lines after the first.
    pub(crate) fn lines(self) -> impl Iterator<Item = &'a str> {
        self.text.lines().skip(1).map(str::trim_end)
    }

    /// The values of `a=<name>:<value>` lines.
    pub(crate) fn attributes(self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines().filter_map(move |line| {
            line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':').map(str::trim)
        })
    }

    /// Port zero, which is no rejection in a section that only awaits its bundle (RFC 8843 §6).
    pub(crate) fn is_rejected(self) -> bool {
        let port = self.words().nth(1).and_then(|port| port.split('/').next());
        port == Some("0") && !self.lines().any(|line| line == "a=bundle-only")
    }

    /// The number of a header extension (RFC 8285 §5), if it has the short form.
    pub(crate) fn extension(self, uri: &str) -> Option<u8> {
        let number = self.attributes("extmap").find_map(|value| {
            let mut words = value.split_ascii_whitespace();
            let number = words.next()?.split('/').next()?;
            (words.next() == Some(uri)).then_some(number)
        });
        number?.parse().ok().filter(|number| (1..15).contains(number))
    }

    /// The section with its formats in this order.
    pub(crate) fn with_formats(self, formats: &[&str]) -> String {
        let first = self.text.split_inclusive('\n').next().unwrap_or_default();
        let words: Vec<&str> = first.split_ascii_whitespace().take(3).collect();
        let end = if first.ends_with("\r\n") { "\r\n" } else { "\n" };
        let line = [&words[..], formats].concat().join(" ");
        [&line, end, &self.text[first.len()..]].concat()
    }

    /// The payload types of video in order of preference, those of codecs that are known here.
    pub(crate) fn video_formats(self) -> Vec<VideoFormat<'a>> {
        let numbers = self.formats().filter_map(|format| format.parse().ok());
        let mut formats: Vec<VideoFormat<'_>> = numbers
            .filter_map(|payload_type| {
                let codec = VideoCodec::from_name(self.encoding(payload_type)?)?;
                let parameters = self.parameters(payload_type);
                Some(VideoFormat { payload_type, codec, parameters, rtx: None })
            })
            .filter(VideoFormat::is_usable)
            .collect();
        for rtx in self.formats().filter_map(|format| format.parse().ok()) {
            if self.encoding(rtx).is_some_and(|name| name.eq_ignore_ascii_case("rtx")) {
                let repaired = parameter(self.parameters(rtx), "apt");
                let repaired = repaired.and_then(|apt| apt.parse::<u8>().ok());
                let of = formats.iter_mut().find(|f| Some(f.payload_type) == repaired);
                if let Some(format) = of {
                    format.rtx.get_or_insert(rtx);
                }
            }
        }
        formats
    }

    /// The payload types of Opus and of RED around it.
    pub(crate) fn audio_formats(self) -> (Option<u8>, Option<u8>) {
        let numbers = || self.formats().filter_map(|format| format.parse::<u8>().ok());
        let is = |number: u8, name: &str| {
            self.encoding(number).is_some_and(|encoding| encoding.eq_ignore_ascii_case(name))
        };
        let opus = numbers().find(|number| is(*number, "opus"));
        // Around the same Opus only; more levels than we know are the sender's matter.
        let inner = opus.map(|opus| format!("{opus}/"));
        let red = numbers().find(|red| {
            let around =
                inner.as_ref().is_some_and(|i| self.parameters(*red).starts_with(i.as_str()));
            is(*red, "red") && around
        });
        (opus, red)
    }

    /// What whoever described this section wants to be sent as Opus.
    pub(crate) fn opus_wishes(self) -> OpusWishes {
        let Some(opus) = self.audio_formats().0 else { return OpusWishes::default() };
        let parameters = self.parameters(opus);
        let most = parameter(parameters, "maxaveragebitrate").and_then(|bps| bps.parse().ok());
        OpusWishes {
            stereo: parameter(parameters, "stereo") == Some("1"),
            most: most.filter(|bps| OPUS_BPS.contains(bps)).map(Bitrate::from_bps),
        }
    }

    /// The section of an answer with the numbers that the offer's `offered` has for the same formats. The stack keeps
    /// the numbers of its first negotiation, and Firefox looks for those of its own offer.
    pub(crate) fn with_numbers_of(self, offered: Section<'_>) -> String {
        let mut numbers: Vec<(u8, u8)> = Vec::new();
        let mut add = |ours: Option<u8>, theirs: Option<u8>| numbers.extend(ours.zip(theirs));
        match self.media() {
            "audio" => {
                let (ours, theirs) = (self.audio_formats(), offered.audio_formats());
                add(ours.0, theirs.0);
                add(ours.1, theirs.1);
            }
            "video" => {
                let theirs = offered.video_formats();
                for ours in self.video_formats() {
                    if let Some(theirs) = theirs.iter().find(|theirs| theirs.is_same(&ours)) {
                        add(Some(ours.payload_type), Some(theirs.payload_type));
                        add(ours.rtx, theirs.rtx);
                    }
                }
            }
            _ => {}
        }
        if numbers.iter().all(|(ours, theirs)| ours == theirs) {
            return self.text.to_owned();
        }
        // What the offer does not have is not in the answer either (RFC 3264 §6.1).
        let renamed = |word: &str| {
            let ours: u8 = word.parse().ok()?;
            numbers.iter().find(|(from, _)| *from == ours).map(|(_, to)| to.to_string())
        };
        let mut out = String::with_capacity(self.text.len());
        for line in self.text.split_inclusive('\n') {
            let body = line.trim_end();
            if let Some(words) = body.strip_prefix("m=") {
                let words: Vec<&str> = words.split_ascii_whitespace().collect();
                let (head, formats) = words.split_at(words.len().min(3));
                out.push_str(&format!("m={}", head.join(" ")));
                for format in formats.iter().filter_map(|format| renamed(format)) {
                    out.push_str(&format!(" {format}"));
                }
                out.push_str("\r\n");
                continue;
            }
            let named = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"]
                .iter()
                .find_map(|name| Some((*name, body.strip_prefix(name)?.split_once(' ')?)));
            let Some((name, (number, rest))) = named else {
                out.push_str(line);
                continue;
            };
            let Some(number) = renamed(number) else { continue };
            // Payload types among the parameters: of RTX (RFC 4588 §8.1) and of RED (RFC 2198 §5).
            let of_rtx = rest.strip_prefix("apt=").and_then(renamed).map(|n| format!("apt={n}"));
            let of_red = || -> Option<String> {
                let levels: Option<Vec<String>> = rest.split('/').map(renamed).collect();
                levels.map(|levels| levels.join("/"))
            };
            let rest = match name {
                "a=fmtp:" => of_rtx.or_else(of_red).unwrap_or_else(|| rest.to_owned()),
                _ => rest.to_owned(),
            };
            out.push_str(&format!("{name}{number} {rest}\r\n"));
        }
        out
    }

    /// The encoding name of a payload type.
    pub(crate) fn encoding(self, payload_type: u8) -> Option<&'a str> {
        let value = self.of_payload_type("rtpmap", payload_type)?;
        value.split('/').next()
    }

    pub(crate) fn parameters(self, payload_type: u8) -> &'a str {
        self.of_payload_type("fmtp", payload_type).unwrap_or_default()
    }

    pub(crate) fn of_payload_type(self, name: &'a str, payload_type: u8) -> Option<&'a str> {
        self.attributes(name).find_map(|value| {
            let (number, value) = value.split_once(char::is_whitespace)?;
            (number.parse() == Ok(payload_type)).then(|| value.trim())
        })
    }
}

/// What a receiver prefers of Opus (RFC 7587 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OpusWishes {
    /// Stereo rather than mono.
    pub(crate) stereo: bool,
    /// `maxaveragebitrate`.
    pub(crate) most: Option<Bitrate>,
}

/// What `maxaveragebitrate` may be (RFC 7587 §6.1).
const OPUS_BPS: std::ops::RangeInclusive<u64> = 6_000..=510_000;

/// Which way media goes (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(crate) fn line(self) -> &'static str {
        match self {
            Self::SendRecv => "a=sendrecv",
            Self::SendOnly => "a=sendonly",
            Self::RecvOnly => "a=recvonly",
            Self::Inactive => "a=inactive",
        }
    }

    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let all = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];
        all.into_iter().find(|direction| direction.line() == line)
    }

    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// The first direction in these lines.
pub(crate) fn direction_of(lines: &str) -> Option<Direction> {
    lines.lines().find_map(|line| Direction::of_line(line.trim_end()))
}

/// A payload type of video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VideoFormat<'a> {
    pub(crate) payload_type: u8,
    pub(crate) codec: VideoCodec,
    /// Format-specific parameters (`a=fmtp`).
    pub(crate) parameters: &'a str,
    /// The payload type of its retransmissions (RFC 4588).
    pub(crate) rtx: Option<u8>,
}

impl VideoFormat<'_> {
    /// Whether its parameters are of a profile that is coded and decoded here. Those of H.264 are left to the
    /// stack's matching.
    fn is_usable(&self) -> bool {
        let profile = match self.codec {
            VideoCodec::Av1 => parameter(self.parameters, "profile"),
            VideoCodec::Vp9 => parameter(self.parameters, "profile-id"),
            VideoCodec::H264 | VideoCodec::Vp8 => None,
        };
        profile.is_none_or(|profile| profile == "0")
    }

    /// Whether it is Main or High profile of H.264, which may be coded with CABAC.
    pub(crate) fn has_cabac(&self) -> bool {
        self.configuration().is_some_and(|(profile, _)| profile == "4d00" || profile == "6400")
    }

    /// Whether both mean the same configuration (RFC 6184 §8.2.2): of H.264 the level may differ.
    pub(crate) fn is_same(&self, other: &VideoFormat<'_>) -> bool {
        self.codec == other.codec && self.configuration() == other.configuration()
    }

    fn configuration(&self) -> Option<(String, &str)> {
        (self.codec == VideoCodec::H264).then(|| {
            let profile = parameter(self.parameters, "profile-level-id").unwrap_or("420010");
            let profile = profile.get(..4).unwrap_or(profile).to_ascii_lowercase();
            (profile, parameter(self.parameters, "packetization-mode").unwrap_or("0"))
        })
    }
}

/// The value of a format-specific parameter.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 120 124 102 98 45 96 97 x\r\na=mid:1\r\n\
        a=rtpmap:102 H264/90000\r\na=rtpmap:96 vp8/90000\r\na=rtpmap:98 VP9/90000\r\n\
        a=fmtp:98 profile-id=2\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96;rtx-time=3000\r\n\
        a=rtpmap:124 rtx/90000\r\na=fmtp:124 apt=120\r\na=rtpmap:45 AV1/90000\r\n\
        a=fmtp:102 profile-level-id=42E01F; packetization-mode=1\r\na=rtpmap:120 H265/90000\r\n";

    #[test]
    fn a_description_is_split_into_its_sections() {
        let sdp = format!("v=0\r\na=group:BUNDLE 0 1\r\nm=audio 0 RTP/AVP 0\r\n{VIDEO}");
        let (session, sections) = split(&sdp);
        assert_eq!(session, "v=0\r\na=group:BUNDLE 0 1\r\n");
        assert_eq!(sections.iter().map(|s| s.media()).collect::<Vec<_>>(), ["audio", "video"]);
        assert!(sections[0].is_rejected() && !sections[1].is_rejected());
        assert!(!Section { text: "m=video 0 X 1\na=bundle-only\n" }.is_rejected());
        assert_eq!(sections[1].text, VIDEO);
        assert_eq!(split("v=0"), ("v=0", vec![]));
    }

    #[test]
    fn payload_types_of_video_are_read_in_their_order() {
        let formats = Section { text: VIDEO }.video_formats();
        let found: Vec<_> = formats.iter().map(|f| (f.payload_type, f.codec, f.rtx)).collect();
        let expected = [
            (102, VideoCodec::H264, None),
            (45, VideoCodec::Av1, None),
            (96, VideoCodec::Vp8, Some(97)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn h264_differs_by_profile_and_mode_and_not_by_level() {
        let format = |parameters| VideoFormat {
            payload_type: 1,
            codec: VideoCodec::H264,
            parameters,
            rtx: None,
        };
        let ours = format("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
        assert!(ours.is_same(&format("profile-level-id=42E034; packetization-mode=1")));
        assert!(!ours.is_same(&format("profile-level-id=64001f;packetization-mode=1")));
        assert!(!ours.is_same(&format("profile-level-id=42e01f")));
    }
}
