//! A signaling server that lies: it stands in front of the real one, and between the two peers of a call.
//!
//! HTTP goes through as it is. In the WebSockets every session description is replaced by one of its own:
//! towards each of the two it has a [`Peer`], so it holds both DTLS sessions, reads what comes out of one and sends
//! it into the other. Neither of the two can tell that from a call without it, unless they prove to each
//! other who is at the other end.
//!
//! Descriptions are replaced one for one, on their way from the client to the real server, so that all counts of
//! messages stay right: an offer by an offer to the receiver, and its answer by the one that was made to the
//! offer. Candidates are taken out; its own stand in the descriptions.

mod impostor;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use visavis_media::assembler::{AssemblerOutput, FrameAssembler};
use visavis_media::codec::VideoDecoder as _;
use visavis_media::codec::h264::H264Decoder;
use visavis_media::codec::opus::{OpusDecoder, packet_samples};
use visavis_media::{EncodedAudioFrame, EncodedVideoFrame, MediaTime, ReceivedRtp, VideoCodec};
use visavis_rtc::{
    Candidate, Description, IceGatheringState, MediaClock, Peer, PeerConfig, PeerConnectionState,
    PeerEvent, SdpKind,
};
use visavis_signaling_protocol::ProofMessage;

use impostor::{Impostor, Known};

/// What it does with the two's proof of who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proofs {
    /// Passes it on as it is.
    Pass,
    /// Takes it out.
    Drop,
    /// Plays each of the two towards the other, with a guess at the secret, or with its own numbers where they
    /// have none.
    Guess,
}

/// What it has got out of the call, of both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loot {
    /// Connections that came about between it and one of the two.
    pub connections: u64,
    /// Decoded samples that were not silent.
    pub audio_samples: u64,
    /// Decoded frames.
    pub video_frames: u64,
    /// Messages of the data channel.
    pub messages: u64,
}

/// One that attacks every call of its server's; ends with its owner.
pub struct Mitm {
    url: String,
    state: Arc<State>,
    // Its tasks end with it.
    _runtime: tokio::runtime::Runtime,
}

impl Mitm {
    /// Starts one on a free port of the loopback interface, in front of the server at `ADDRESS:PORT`.
    ///
    /// # Errors
    ///
    /// There is no port.
    pub fn start(server: &str, proofs: Proofs) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let state = Arc::new(State {
            server: server.to_owned(),
            proofs,
            attack: tokio::sync::Mutex::default(),
            counts: Counts::default(),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}", listener.local_addr()?);
        runtime.spawn(accept(listener, state.clone()));
        Ok(Self { url, state, _runtime: runtime })
    }

    /// `http://ADDRESS:PORT`, as of a server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has got so far.
    pub fn loot(&self) -> Loot {
        let Counts { connections, audio_samples, video_frames, messages } = &self.state.counts;
        let [connections, audio_samples, video_frames, messages] =
            [connections, audio_samples, video_frames, messages]
                .map(|count| count.load(Ordering::Relaxed));
        Loot { connections, audio_samples, video_frames, messages }
    }
}

struct State {
    server: String,
    proofs: Proofs,
    attack: tokio::sync::Mutex<Option<Attack>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    audio_samples: AtomicU64,
    video_frames: AtomicU64,
    messages: AtomicU64,
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, from)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &state).await {
                tracing::debug!(%error, %from, "a connection through the man in the middle ended");
            }
        });
    }
}

async fn serve(mut stream: TcpStream, state: &Arc<State>) -> anyhow::Result<()> {
    // A request for a WebSocket is the first on its connection.
    let mut start = [0; 8];
    loop {
        match stream.peek(&mut start).await? {
            0 => return Ok(()),
            n if n < start.len() => tokio::task::yield_now().await,
            _ => break,
        }
    }
    if start == *b"GET /ws " {
        let client = tokio_tungstenite::accept_async(stream).await?;
        let url = format!("ws://{}/ws", state.server);
        let (server, _) = tokio_tungstenite::connect_async(url).await?;
        relay(client, server, state).await
    } else {
        let mut server = TcpStream::connect(&state.server).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut server).await?;
        Ok(())
    }
}

/// Passes the messages of one client, with its descriptions replaced.
async fn relay(
    client: tokio_tungstenite::WebSocketStream<TcpStream>,
    server: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>,
    state: &Arc<State>,
) -> anyhow::Result<()> {
    let (mut to_client, mut from_client) = client.split();
    let (mut to_server, mut from_server) = server.split();
    let mut sender = Sender::default();
    loop {
        tokio::select! {
            message = from_client.next() => match message.transpose()? {
                Some(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text)?;
                    if message["type"] == "join" {
                        sender.room = text_of(&message, "room")?;
                        sender.session = text_of(&message, "session")?;
                    }
                    if let Some(message) = state.replace(&sender, message).await? {
                        to_server.send(Message::text(message.to_string())).await?;
                    }
                }
                Some(Message::Close(_)) | None => return Ok(to_server.close().await?),
                Some(_) => {}
            },
            message = from_server.next() => match message.transpose()? {
                Some(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text)?;
                    if message["type"] == "joined" {
                        sender.id = text_of(&message, "peerId")?;
                    }
                    to_client.send(Message::Text(text)).await?;
                }
                Some(close @ Message::Close(_)) => return Ok(to_client.send(close).await?),
                None => return Ok(to_client.close().await?),
                Some(_) => {}
            },
        }
    }
}

/// A client.
#[derive(Default)]
struct Sender {
    /// As the server names it.
    id: String,
    room: String,
    session: String,
}

fn text_of(message: &Value, name: &str) -> anyhow::Result<String> {
    Ok(message[name].as_str().with_context(|| format!("no {name}"))?.to_owned())
}

/// One offer and what came of it.
struct Attack {
    /// Who offered, and what.
    offerer: String,
    offer: String,
    /// What the other got instead.
    own_offer: String,
    /// What the offerer gets for an answer, and for which one.
    own_answer: String,
    answer: Option<String>,
    /// Towards each of the two, by the id of the client.
    peers: HashMap<String, Arc<Peer>>,
    /// The same for the proof.
    impostors: HashMap<String, Impostor>,
    /// What each has said of itself.
    said: HashMap<String, (Known, ProofMessage)>,
}

impl State {
    /// What goes to the server instead of a message of a client; `None`: nothing.
    async fn replace(
        self: &Arc<Self>,
        sender: &Sender,
        mut message: Value,
    ) -> anyhow::Result<Option<Value>> {
        if message["type"] != "signal" {
            return Ok(Some(message));
        }
        let from = sender.id.as_str();
        let to = text_of(&message, "to")?;
        let mut attack = self.attack.lock().await;
        if let Some(candidate) = message.get("candidate") {
            if let Some(peer) = attack.as_ref().and_then(|attack| attack.peers.get(from)) {
                let text = |name: &str| candidate[name].as_str().map(str::to_owned);
                let candidate = Candidate {
                    candidate: text("candidate").unwrap_or_default(),
                    sdp_mid: text("sdpMid"),
                    sdp_m_line_index: candidate["sdpMLineIndex"].as_u64().map(|n| n as u16),
                    username_fragment: text("usernameFragment"),
                };
                // Those of TCP, and names that only browsers know.
                let _ = peer.add_candidate(candidate).await;
            }
            return Ok(None);
        }
        let mut descriptions = None;
        if let Some(description) = message.get("description") {
            let sdp = text_of(description, "sdp")?;
            let theirs = sdp.clone();
            let own = match (description["type"].as_str(), attack.as_mut()) {
                // Sent again, as it is when no answer comes.
                (Some("offer"), Some(known)) if known.offerer == from && known.offer == sdp => {
                    known.own_offer.clone()
                }
                // Both offered at once: the first counts; the other's comes again if it has to.
                (Some("offer"), Some(known)) if known.offerer == to && known.answer.is_none() => {
                    return Ok(None);
                }
                (Some("offer"), _) => {
                    let begun = self.begin(from, &to, sdp).await?;
                    attack.insert(begun).own_offer.clone()
                }
                (Some("answer"), Some(known)) if known.offerer == to => {
                    if known.answer.as_ref() != Some(&sdp) {
                        let peer = known.peers.get(from).context("no peer")?;
                        let answer = Description { kind: SdpKind::Answer, sdp: sdp.clone() };
                        peer.set_remote(answer).await?;
                        known.answer = Some(sdp);
                    }
                    known.own_answer.clone()
                }
                _ => return Ok(None),
            };
            message["description"]["sdp"] = own.clone().into();
            descriptions = Some((theirs, own));
        }
        let Some(proof) = message.get("proof") else { return Ok(Some(message)) };
        match (self.proofs, attack.as_mut()) {
            (Proofs::Pass, _) | (_, None) => Ok(Some(message)),
            (Proofs::Drop, _) => {
                let fields = message.as_object_mut().context("no object")?;
                fields.remove("proof");
                Ok(descriptions.map(|_| message))
            }
            (Proofs::Guess, Some(attack)) => {
                let proof = serde_json::from_value(proof.clone())?;
                let receiver_session = text_of(&message, "session")?;
                let own = attack.guess(sender, (&to, &receiver_session), descriptions, proof)?;
                message["proof"] = serde_json::to_value(own)?;
                Ok(Some(message))
            }
        }
    }

    /// Makes both connections for an offer.
    async fn begin(
        self: &Arc<Self>,
        from: &str,
        to: &str,
        offer: String,
    ) -> anyhow::Result<Attack> {
        let (mut towards_offerer, mut towards_other) = (Leg::new().await?, Leg::new().await?);
        let remote = Description { kind: SdpKind::Offer, sdp: offer.clone() };
        towards_offerer.peer.set_remote(remote).await?;
        let answer = towards_offerer.peer.create_answer().await?;
        let own_answer = towards_offerer.with_candidates(&answer.sdp).await?;
        let own_offer = towards_other.peer.create_offer(false).await?;
        let own_offer = towards_other.with_candidates(&own_offer.sdp).await?;
        let peers = HashMap::from([
            (from.to_owned(), towards_offerer.peer.clone()),
            (to.to_owned(), towards_other.peer.clone()),
        ]);
        let (one, two) = (towards_offerer.peer.clone(), towards_other.peer.clone());
        tokio::spawn(towards_offerer.pass_to(two, self.clone()));
        tokio::spawn(towards_other.pass_to(one, self.clone()));
        Ok(Attack {
            offerer: from.to_owned(),
            offer,
            own_offer,
            own_answer,
            answer: None,
            peers,
            impostors: HashMap::new(),
            said: HashMap::new(),
        })
    }
}

impl Attack {
    /// What the receiver (id and session) gets instead of a proof. `descriptions` are the sender's and
    /// what went on instead of it, if there is one beside the proof.
    fn guess(
        &mut self,
        sender: &Sender,
        (to, receiver_session): (&str, &str),
        descriptions: Option<(String, String)>,
        proof: ProofMessage,
    ) -> anyhow::Result<ProofMessage> {
        let known = |sdp| Known { session: sender.session.clone(), is_page: proof.page, sdp };
        if let Some((theirs, own)) = descriptions {
            if !self.impostors.contains_key(to) {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|error| anyhow!("random numbers: {error}"))?;
                let impostor = Impostor::new(&sender.room, known(own), receiver_session, &seed);
                self.impostors.insert(to.to_owned(), impostor);
            }
            self.said.insert(sender.id.clone(), (known(theirs), proof.clone()));
        }
        let impostor = self.impostors.get(to).context("a proof before a description")?;
        impostor.message(&proof, self.said.get(to))
    }
}

/// The connection to one of the two.
struct Leg {
    peer: Arc<Peer>,
    clock: MediaClock,
    events: mpsc::Receiver<PeerEvent>,
    media: mpsc::Receiver<Media>,
}

enum Media {
    Audio(ReceivedRtp),
    Video(ReceivedRtp),
}

impl Leg {
    async fn new() -> anyhow::Result<Self> {
        let clock = MediaClock::default();
        // What finds a full queue is lost, as on a bad network.
        let (events_in, events) = mpsc::channel(1024);
        let (audio, media) = mpsc::channel(4096);
        let video = audio.clone();
        let peer = Peer::new(
            PeerConfig { clock, ..PeerConfig::default() },
            events_in,
            move |rtp| drop(video.try_send(Media::Video(rtp))),
            move |rtp| drop(audio.try_send(Media::Audio(rtp))),
        )?;
        Ok(Self { peer: Arc::new(peer), clock, events, media })
    }

    /// A description of this side's with its candidates, which are few: there is no STUN server.
    async fn with_candidates(&mut self, sdp: &str) -> anyhow::Result<String> {
        let gather = async {
            let mut lines = String::new();
            while let Some(event) = self.events.recv().await {
                match event {
                    PeerEvent::LocalCandidate(candidate) if !candidate.candidate.is_empty() => {
                        let line = candidate.candidate.trim_start_matches("candidate:");
                        lines += &format!("a=candidate:{line}\r\n");
                    }
                    PeerEvent::IceGatheringState(IceGatheringState::Complete) => break,
                    _ => {}
                }
            }
            lines
        };
        let lines = tokio::time::timeout(GATHERING_LIMIT, gather)
            .await
            .map_err(|_| anyhow!("candidates are not gathered in time"))?;
        // All media goes by the first section's transport (RFC 8843), which ends where the second begins.
        let first = sdp.find("\r\nm=").context("no media")? + 2;
        let second = sdp[first..].find("\r\nm=").map_or(sdp.len(), |at| first + at + 2);
        Ok(format!("{}{lines}{}", &sdp[..second], &sdp[second..]))
    }

    /// Reads what comes and sends it on to `other`, until the connection ends.
    async fn pass_to(mut self, other: Arc<Peer>, state: Arc<State>) {
        let mut video = VideoReader::new();
        let Ok(mut audio) = AudioReader::new() else { return };
        let counts = &state.counts;
        loop {
            tokio::select! {
                media = self.media.recv() => match media {
                    Some(Media::Audio(rtp)) => audio.read(&rtp, &other, counts),
                    Some(Media::Video(rtp)) => video.read(rtp, self.clock, &self.peer, &other, counts),
                    None => return,
                },
                event = self.events.recv() => match event {
                    Some(PeerEvent::PeerConnectionState(PeerConnectionState::Connected)) => {
                        counts.connections.fetch_add(1, Ordering::Relaxed);
                    }
                    Some(PeerEvent::Message(text)) => {
                        counts.messages.fetch_add(1, Ordering::Relaxed);
                        let _ = other.send_message(&text);
                    }
                    // Of what it sends on, which comes from the other.
                    Some(PeerEvent::KeyframeRequested) => {
                        other.request_keyframe();
                    }
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }
}

struct AudioReader {
    decoder: OpusDecoder,
    samples: Vec<f32>,
    first_timestamp: Option<u32>,
}

impl AudioReader {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { decoder: OpusDecoder::new()?, samples: Vec::new(), first_timestamp: None })
    }

    fn read(&mut self, rtp: &ReceivedRtp, other: &Peer, counts: &Counts) {
        let Some(samples) = packet_samples(&rtp.payload).filter(|_| !rtp.retransmitted) else {
            return;
        };
        self.samples.clear();
        if self.decoder.decode(&rtp.payload, &mut self.samples).is_ok() {
            let heard = self.samples.iter().filter(|sample| sample.abs() > SILENCE).count();
            counts.audio_samples.fetch_add(heard as u64, Ordering::Relaxed);
        }
        let first = *self.first_timestamp.get_or_insert(rtp.timestamp);
        let since_first = u64::from(rtp.timestamp.wrapping_sub(first));
        other.audio_sender().send(&EncodedAudioFrame {
            data: rtp.payload.clone(),
            time: MediaTime::from_micros(since_first * 1_000_000 / 48_000),
            duration: Duration::from_micros(samples as u64 * 1_000_000 / 48_000),
        });
    }
}

struct VideoReader {
    assembler: FrameAssembler,
    decoder: H264Decoder,
}

impl VideoReader {
    fn new() -> Self {
        Self { assembler: FrameAssembler::new(), decoder: H264Decoder::new() }
    }

    /// `peer` is where it comes from.
    fn read(
        &mut self,
        rtp: ReceivedRtp,
        clock: MediaClock,
        peer: &Peer,
        other: &Peer,
        counts: &Counts,
    ) {
        self.assembler.push(rtp, clock.now());
        while let Some(output) = self.assembler.poll(clock.now()) {
            let AssemblerOutput::Frame(frame) = output else {
                peer.request_keyframe();
                continue;
            };
            let Ok(Some(picture)) = self.decoder.decode(&frame.data, clock.now()) else {
                self.assembler.wait_for_keyframe(clock.now());
                continue;
            };
            counts.video_frames.fetch_add(1, Ordering::Relaxed);
            other.video_sender().send(&EncodedVideoFrame {
                codec: VideoCodec::H264,
                data: frame.data,
                keyframe: frame.keyframe,
                time: clock.now(),
                size: picture.size(),
            });
        }
    }
}

/// Without servers to ask, all candidates are there within milliseconds.
const GATHERING_LIMIT: Duration = Duration::from_secs(5);
/// Samples below are no sound.
const SILENCE: f32 = 1e-3;
