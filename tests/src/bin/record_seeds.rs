//! Records the first inputs of the fuzz targets from real calls: `record_seeds DIRECTORY`, as root.
//!
//! A call between two of our peers and one with Chromium are watched on the loopback interface, where
//! STUN, DTLS and the requests to the server are in the clear; media is coded as a call codes it. Of each kind of
//! message a few are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use visavis_media::codec::h264::{H264Encoder, H264EncoderConfig};
use visavis_media::codec::opus::{OpusEncoder, OpusEncoderConfig};
use visavis_media::codec::{VideoEncoder, sps};
use visavis_media::red::{RedEncoder, Redundancy};
use visavis_media::synthetic::{TestPattern, Tone};
use visavis_media::{MediaTime, Size, VideoFrame};
use visavis_tests::browser::Browser;
use visavis_tests::program::{Server, join};

const LIMIT: Duration = Duration::from_secs(30);
const ROOM: &str = "abc-def-ghj-kmn";
/// Inputs kept of one kind of message.
const OF_EACH_KIND: usize = 3;
/// Longer ones are not kept: they make every target slow.
const MAX_BYTES: usize = 16 * 1024;

fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).context("usage: record_seeds DIRECTORY")?;
    let mut seeds = Seeds { directory: directory.into(), kept: BTreeMap::new() };
    let server = Server::start()?;
    let port = server.address().rsplit(':').next().and_then(|p| p.parse().ok()).context("port")?;
    let watch = Watch::start(port)?;
    calls(&server)?;
    let seen = watch.end()?;
    for datagram in &seen.datagrams {
        seeds.datagram(datagram)?;
    }
    for (to_server, stream) in &seen.streams {
        seeds.stream(*to_server, stream)?;
    }
    seeds.media()
}

fn calls(server: &Server) -> anyhow::Result<()> {
    let flags = ["--size", "320x180", "--duration", "4s"];
    let mut first = join("first", server.url(), ROOM, &flags)?;
    first.wait_event("waiting", LIMIT)?;
    let mut second = join("second", server.url(), ROOM, &flags)?;
    first.wait_event("summary", LIMIT)?;
    second.wait_event("summary", LIMIT)?;
    let browser = Browser::start(&[])?;
    let mut peer = join("peer", server.url(), ROOM, &flags[..2])?;
    peer.wait_event("waiting", LIMIT)?;
    let flags = "camera=test-pattern&microphone=tone&auto=1";
    let page = browser.open(&format!("{}/r/{ROOM}?{flags}", server.url()))?;
    page.wait_phase("connected", LIMIT)?;
    peer.wait_event("first-video-frame", LIMIT)?;
    page.click("#leave")?;
    peer.wait_event("summary", LIMIT)?;
    Ok(())
}

/// What was seen on the loopback interface.
#[derive(Default)]
struct Seen {
    datagrams: Vec<Vec<u8>>,
    /// The bytes of each connection of the server, either way, and whether they go to it.
    streams: Vec<(bool, Vec<u8>)>,
}

struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<io::Result<Seen>>,
}

impl Watch {
    fn start(server: u16) -> anyhow::Result<Self> {
        let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
        // SAFETY: the call takes no pointers; the descriptor is owned from here on.
        let socket = unsafe {
            let raw = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, protocol);
            anyhow::ensure!(raw >= 0, "no packet socket: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(raw)
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || watch(&socket, server, &stopped));
        Ok(Self { stop, thread })
    }

    fn end(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| anyhow::anyhow!("the watch broke"))??)
    }
}

fn watch(socket: &OwnedFd, server: u16, stop: &AtomicBool) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut streams: HashMap<(u16, u16), Vec<u8>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives until the call returns.
        if unsafe { libc::poll(&mut poll, 1, 100) } <= 0 {
            continue;
        }
        // SAFETY: all zero is a valid address; the kernel writes at most its size.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: buffer and address live until the call returns, and their sizes are true.
        let length = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut from).cast(),
                &mut size,
            )
        };
        // Every packet is seen leaving and arriving.
        if length > 0 && from.sll_pkttype == libc::PACKET_HOST {
            match payload(&buffer[..length.unsigned_abs()]) {
                Some((17, _, data)) => seen.datagrams.push(data.to_vec()),
                Some((6, ports, data)) if ports.0 == server || ports.1 == server => {
                    streams.entry(ports).or_default().extend(data);
                }
                _ => {}
            }
        }
    }
    seen.streams = streams.into_iter().map(|((_, to), bytes)| (to == server, bytes)).collect();
    Ok(seen)
}

/// Protocol, ports and payload of an IP packet of UDP or TCP.
fn payload(packet: &[u8]) -> Option<(u8, (u16, u16), &[u8])> {
    let (protocol, total, rest) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
            (*packet.get(9)?, total.checked_sub(header)?, packet.get(header..)?)
        }
        6 => {
            let total = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
            (*packet.get(6)?, total, packet.get(40..)?)
        }
        _ => return None,
    };
    let rest = rest.get(..total)?;
    let port = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let header = if protocol == 6 { usize::from(rest.get(12)? >> 4) * 4 } else { 8 };
    Some((protocol, (port(0)?, port(2)?), rest.get(header..)?))
}

struct Seeds {
    directory: PathBuf,
    /// By target and kind.
    kept: BTreeMap<(String, String), BTreeSet<Vec<u8>>>,
}

impl Seeds {
    fn keep(&mut self, target: &str, kind: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        let kept = self.kept.entry((target.to_owned(), kind.to_owned())).or_default();
        if kept.len() >= OF_EACH_KIND || bytes.len() > MAX_BYTES || kept.contains(&bytes) {
            return Ok(());
        }
        let directory = self.directory.join(target);
        std::fs::create_dir_all(&directory)?;
        write(&directory, &format!("call-{kind}-{}", kept.len()), &bytes)?;
        kept.insert(bytes);
        Ok(())
    }

    /// By the first byte (RFC 7983 §7) and what follows it.
    fn datagram(&mut self, datagram: &[u8]) -> anyhow::Result<()> {
        match datagram {
            [0 | 1, kind, ..] if datagram.len() >= 20 => {
                let kind = format!("{:02x}{kind:02x}-{}", datagram[0], datagram.len() / 8);
                self.keep("stun", &kind, datagram.to_vec())?;
                self.keep("ice_agent", &kind, step(0, datagram))?;
                // Type and attributes alone, to be signed for the agent of the target.
                let message = [&[0][..], &datagram[..2], &datagram[20..]].concat();
                self.keep("ice_agent", &format!("{kind}-signed"), step(1, &message))?;
                self.keep("turn_client", &kind, step(1, &message))
            }
            [20..=63, ..] if datagram.len() > 13 => {
                let kind = format!("{}-{}", datagram[0], datagram[13]);
                self.keep("dtls", &kind, step(0x81, datagram))
            }
            [128..=191, kind, ..] => self.keep("srtp", &format!("{kind}"), step(0, datagram)),
            _ => Ok(()),
        }
    }

    /// A connection to or from the server: HTTP, then WebSocket frames.
    fn stream(&mut self, to_server: bool, stream: &[u8]) -> anyhow::Result<()> {
        let Some(head) = stream.windows(4).position(|end| end == b"\r\n\r\n") else {
            return Ok(());
        };
        let (head, mut rest) = stream.split_at(head + 4);
        let is_websocket =
            head.to_ascii_lowercase().windows(18).any(|words| words == b"upgrade: websocket");
        if to_server && !is_websocket {
            return self.keep("http", "page", head.to_vec());
        }
        let mut unmasked = head.to_vec();
        while let Some((frame, masked, next)) = frame(rest) {
            rest = next;
            if masked && unmasked.len() + frame.len() < MAX_BYTES {
                // The same without masking, so that the text can be told and changed.
                let [high, low] = u16::try_from(frame.len())?.to_be_bytes();
                unmasked.extend([0x81, 0x80 | 126, high, low, 0, 0, 0, 0]);
                unmasked.extend(&frame);
            }
            let Ok(text) = String::from_utf8(frame) else { continue };
            let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            let kind = json["type"].as_str().unwrap_or("other").to_owned();
            self.keep("signaling_message", &kind, text.into_bytes())?;
            self.signal(&json)?;
        }
        if to_server { self.keep("http", "websocket", unmasked) } else { Ok(()) }
    }

    /// Descriptions and candidates, wherever in a message they are.
    fn signal(&mut self, json: &serde_json::Value) -> anyhow::Result<()> {
        match json {
            serde_json::Value::Object(fields) => {
                if let Some(sdp) = fields.get("sdp").and_then(|sdp| sdp.as_str()) {
                    let answer = fields.values().any(|value| value == "answer");
                    let kind = if answer { "answer" } else { "offer" };
                    let seed = [&[u8::from(answer)], sdp.as_bytes()].concat();
                    self.keep("session_description", kind, seed)?;
                }
                if let Some(line) = fields.get("candidate").and_then(|line| line.as_str()) {
                    let kind = line.split_whitespace().nth(2).unwrap_or("end").to_owned();
                    self.keep("candidate", &kind, line.as_bytes().to_vec())?;
                }
                fields.values().try_for_each(|value| self.signal(value))
            }
            serde_json::Value::Array(all) => all.iter().try_for_each(|value| self.signal(value)),
            _ => Ok(()),
        }
    }

    /// Pictures and sound as a call codes them.
    fn media(&mut self) -> anyhow::Result<()> {
        let mut encoder = H264Encoder::new(H264EncoderConfig::default());
        let mut pattern = TestPattern::new(Size::new(160, 96));
        let (mut units, mut path) = (Vec::new(), Vec::new());
        // H.264 for as long as `video_packets` can count, and then too.
        let mut video = vec![2 | 2 << 2, u8::MAX];
        let mut sequence = 0u16;
        for n in 0..4u32 {
            let elapsed = Duration::from_millis(u64::from(n) * 33);
            let buffer = pattern.frame(elapsed, n * 33);
            let frame = VideoFrame { buffer, time: MediaTime::default(), rtp_timestamp: n * 3000 };
            let Some(coded) = encoder.encode(&frame)? else { continue };
            units.extend(u16::try_from(coded.data.len())?.to_be_bytes());
            units.extend(&coded.data[..]);
            let packets: Vec<Vec<u8>> = sps::nal_units(&coded.data).flat_map(packets).collect();
            for (at, payload) in packets.iter().enumerate() {
                let marker = at + 1 == packets.len();
                sequence += 1;
                // As `video_packets` and `media_path` read them.
                let flags = if at == 0 { 0x10 } else { 0 } | u8::from(marker);
                video.extend([1, flags, u8::try_from(payload.len())?]);
                video.extend(payload);
                let [s1, s2] = sequence.to_be_bytes();
                let [t1, t2, t3, t4] = (n * 3000).to_be_bytes();
                let kind = 102 | u8::from(marker) << 7;
                let header = [0x80, kind, s1, s2, t1, t2, t3, t4, 0, 0, 0, 1];
                let packet = [&header[..], payload].concat();
                self.keep("rtp", "video", packet.clone())?;
                path.extend(step(2, &packet));
            }
        }
        self.keep("access_unit", "pattern", units)?;
        self.keep("video_packets", "pattern", video)?;
        self.keep("media_path", "video", path)?;

        let mut encoder = OpusEncoder::new(OpusEncoderConfig::default())?;
        let (mut tone, mut red) = (Tone::new(440.0, -20.0), RedEncoder::default());
        let (mut plain, mut packets) = (Vec::new(), Vec::new());
        for n in 0..12u32 {
            let time = MediaTime::from_micros(u64::from(n) * 10_000);
            let Some(coded) = encoder.encode(&tone.next_frame(time))? else { continue };
            plain.extend(u16::try_from(coded.data.len())?.to_be_bytes());
            plain.extend(&coded.data[..]);
            let copies = Redundancy::of(&[1, 2]);
            let payload = red.encode(n * 480, &coded.data, 111, copies);
            let payload = payload.as_deref().unwrap_or(&coded.data);
            packets.extend([1, 0x2a, u8::try_from(payload.len().min(255))?]);
            packets.extend(&payload[..payload.len().min(255)]);
            self.keep("redundant_audio", "copies", payload.to_vec())?;
        }
        self.keep("opus", "tone", plain)?;
        self.keep("audio_packets", "copies", packets)
    }
}

/// A step of an input that is a sequence of them (`crates/rtc/src/fuzzing`).
fn step(action: u8, bytes: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[action, high, low], bytes].concat()
}

/// A NAL unit whole or in FU-A packets of 200 bytes (RFC 6184 §5.8).
fn packets(nal: &[u8]) -> Vec<Vec<u8>> {
    if nal.len() <= 200 {
        return vec![nal.to_vec()];
    }
    let pieces: Vec<&[u8]> = nal[1..].chunks(200).collect();
    let last = pieces.len() - 1;
    let packet = |(at, piece): (usize, &&[u8])| {
        let bounds = u8::from(at == 0) << 7 | u8::from(at == last) << 6;
        [&[nal[0] & 0x60 | 28, bounds | nal[0] & 0x1f], *piece].concat()
    };
    pieces.iter().enumerate().map(packet).collect()
}

/// The payload of the WebSocket frame at the beginning (RFC 6455 §5.2), whether it was masked, and the rest.
fn frame(stream: &[u8]) -> Option<(Vec<u8>, bool, &[u8])> {
    let masked = stream.get(1)? & 0x80 != 0;
    let (length, mut at) = match stream[1] & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*stream.get(2)?, *stream.get(3)?])), 4),
        127 => return None,
        length => (usize::from(length), 2),
    };
    let mut mask = [0; 4];
    if masked {
        mask.copy_from_slice(stream.get(at..at + 4)?);
        at += 4;
    }
    let payload = stream.get(at..at + length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((payload, masked, &stream[at + length..]))
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = directory.join(name);
    std::fs::write(&path, bytes).with_context(|| path.display().to_string())
}
