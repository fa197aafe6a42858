// One visit to a room: signaling, the peer connection, and what to do when either fails. Knows no
// document and no device; it is given tracks and reports phases.
//
//   joining ─► knocking ─► (let in: as after joining; refused: ended)
//   joining ─► waiting ─► connecting ─► connected ◄─► reconnecting
//                 ▲────────────┘ (the other side went before media flowed)
//   every phase ─► ended (with `endReason`, the codes of the native peers)
//
// While nobody is there the offer is made already, so that its candidates are known by the time that
// somebody comes.
//
// Perfect negotiation as of W3C WebRTC 1.0 §10.7, with the browser's implicit rollback. Only the
// impolite side makes the first offer; the polite side adopts the transceivers of that offer, so
// that there are never more than one audio and one video m-line.
//
// A lost WebSocket loses no message (signaling.js). A restarted server does: then an unanswered
// offer is sent again, and ICE is restarted if there is no connection.

import { NotProven, Proof } from "./authentication.js";
import { asDtlsServer, preferRed, preferVideoCodecs, withStartBitrate } from "./codecs.js";
import { LIMITS, ProtocolError, parseControlMessage, randomSession } from "./protocol.js";
import { TIMES_MS, endOfRefusal } from "./rules.js";
import { Sending } from "./sending.js";
import { Signaling } from "./signaling.js";
import { withSound, withStereo } from "./sound.js";
import { summarize } from "./stats.js";
import { every } from "./ticker.js";

const TICK_MS = 500;
/**
 * Silence after which a path counts as broken although the browser still calls it connected, which
 * Chromium does for 7 s. Even a call that sends nothing has a STUN check every 2.5 s.
 */
const SILENCE_LIMIT_MS = 3500;
/** How long a server that was never reached is tried; it may just be restarting. */
const SERVER_PATIENCE_MS = 5000;
/** Between two measurements of the other side's clock. */
const CLOCK_PING_MS = 10000;

/** Least time between two sizes of the remote picture that the other side is told. */
const DISPLAY_SIZE_MS = 1000;

/**
 * Events: "change" (phase, peer, knocks or media state), "knock" (detail: `{displayName}`), "stream"
 * (`remoteStream` is another one), "stats" (about twice a second), "proof" (what is to be kept of the proof
 * changed: `identity`).
 */
export class Call extends EventTarget {
  phase = "joining";
  /** Code, once ended; `endDetail` is the server's text or an error's, for people who debug. */
  endReason = null;
  endDetail = null;
  /** `{peerId, session, displayName}` of the other side, as last known. */
  peer = null;
  /** What it says of itself: `{microphone, camera}`. */
  remoteMedia = null;
  /** Whether no video goes either way because the two have no video codec in common. */
  lacksVideoCodec = false;
  /** Null until it is known who the remote peer is. */
  remoteStream = null;
  /** `{isProven, emoji, remoteIsPage}` of the remote peer; nothing of the person is sent before. */
  authentication = null;
  polite = null;
  stats = null;
  /** When media first flowed, `performance.now()`; and how long it has when ended. */
  connectedAt = null;
  durationMs = 0;
  /** The other side's clock minus ours, ms, measured over the data channel; null until known. */
  clockOffsetMs = null;
  /** Those who ask to be let in: `{peerId, displayName}`, the first who came first. */
  knocks = [];
  /** Whether the room is locked, as far as the server said; nobody else can enter then. */
  isLocked = false;
  /** How many peer connections and ICE restarts this visit took. */
  peerConnections = 0;
  iceRestarts = 0;

  #signaling;
  #session;
  #identity;
  #proof;
  #proofAskedAt = 0;
  #incoming = new MediaStream();
  #tracks;
  #mediaState;
  #pc = null;
  #channel = null;
  /** What the other side was last told of it: `{width, height, at}`. */
  #displaySize = null;
  #senders = null;
  #sending = new Sending();
  #localStream = new MediaStream();
  #iceServers = [];
  #music;
  #peerGoneAt = null;
  /** The lock as the call has it: a server that was started anew has forgotten. */
  #lockWanted = false;
  /** What the person asked for and the server has not confirmed. */
  #lockAsked = null;
  /** Who was let in last. */
  #admitted = null;
  /** Somebody who is in the room without having been let in, as after a restart of the server. */
  #unasked = null;
  #makingOffer = false;
  #ignoreOffer = false;
  #settingAnswer = false;
  #restartedAt = 0;
  #describedAt = 0;
  #phaseSince = performance.now();
  #heardAt = 0;
  #clockAskedAt = 0;
  #knockedAt = -Infinity;
  #bestClockRttMs = Infinity;
  #stopTicking = null;

  /**
   * `join`: `{room, session, displayName?, resumeToken?}`; `identity`: of authentication.js; `tracks`:
   * `{audio, video}`, each may be null; `mediaState`: `{microphone, camera}`; `music`: whether sound is sent as that.
   */
  constructor({ url, join, identity, tracks, mediaState, music }) {
    super();
    this.#session = join.session;
    this.#identity = identity;
    this.#proof = new Proof(identity);
    this.#tracks = { ...tracks };
    this.#mediaState = mediaState;
    this.#music = music;
    this.#signaling = new Signaling(url, join);
    this.#signaling.addEventListener("joined", ({ detail }) => this.#onJoined(detail));
    this.#signaling.addEventListener("message", ({ detail }) => this.#onMessage(detail));
    this.#signaling.addEventListener("lost", ({ detail }) => {
      const isHopeless = performance.now() - this.#phaseSince > SERVER_PATIENCE_MS;
      if (detail.everJoined || !isHopeless) this.#changed();
      else this.#end("server-unreachable");
    });
    this.#signaling.addEventListener("refused", ({ detail }) => {
      this.#end(endOfRefusal(detail.code), `${detail.code}: ${detail.message}`);
    });
  }

  start() {
    // Lockdown mode, a policy, or a browser without it (Debian's WebKitGTK 2.50).
    if (!globalThis.RTCPeerConnection) return this.#end("unsupported-browser");
    this.#stopTicking = every(TICK_MS, () => this.#tick());
    this.#signaling.connect();
  }

  leave() {
    this.#end("local-hangup");
  }

  /** The page goes away: closed, or loaded anew, which only time can tell. */
  depart() {
    this.#signaling.close({ leave: { mayReturn: true } });
  }

  /** Locks the room as soon as two are in it, so that nobody else can enter; or opens it. */
  setLocked(locked) {
    this.#lockAsked = this.#lockWanted = locked;
    this.#settleLock();
  }

  /** Answers one of `knocks`. */
  admit(peerId, admitted) {
    if (!this.knocks.some((knock) => knock.peerId === peerId)) return;
    this.#forgetKnock(peerId);
    if (this.#unasked?.peerId === peerId) {
      const peer = this.#unasked;
      this.#unasked = null;
      // Refused, it stays in the room and is nobody to us.
      if (admitted) this.#meet(peer, { isAdmitted: true });
    } else {
      if (admitted) this.#admitted = peerId;
      this.#signaling.admit(peerId, admitted);
    }
    this.#changed();
  }

  /** Sends another track of that kind from now on; null sends none, the m-line stays. */
  setTrack(kind, track) {
    this.#tracks[kind] = track;
    if (!this.authentication) return;
    this.#senders?.[kind]?.replaceTrack(track).catch((e) => console.warn("visavis: track:", e));
  }

  /** Whether sound is sent as music from now on. The browser's encoder takes that from descriptions only. */
  setMusic(music) {
    if (this.#music === music) return;
    this.#music = music;
    if (this.#pc?.remoteDescription && this.#pc.signalingState === "stable") this.#offer(this.#pc);
  }

  /** Tells the other side what is on: `{microphone, camera}`. */
  setMediaState(mediaState) {
    this.#mediaState = mediaState;
    this.#sendData({ type: "media-state", ...mediaState });
  }

  /** Tells the other side at which size, in pixels of the screen, its picture is shown. To be called now and then. */
  setDisplaySize({ width, height }) {
    const told = this.#displaySize;
    const now = performance.now();
    if (told?.width === width && told.height === height) return;
    if ((told && now < told.at + DISPLAY_SIZE_MS) || this.#channel?.readyState !== "open" || !this.authentication) return;
    this.#displaySize = { width, height, at: now };
    this.#sendData({ type: "display-size", width, height });
  }

  /** The states of W3C WebRTC 1.0 and of the WebSocket. */
  get states() {
    return {
      signalingLink: this.#signaling.state,
      signaling: this.#pc?.signalingState ?? null,
      iceGathering: this.#pc?.iceGatheringState ?? null,
      iceConnection: this.#pc?.iceConnectionState ?? null,
      peerConnection: this.#pc?.connectionState ?? null,
      dataChannel: this.#channel?.readyState ?? null,
    };
  }

  /** Whether the server has lost the other side, which may still come back. */
  get isPeerGone() {
    return this.#peerGoneAt !== null;
  }

  // ---- Signaling --------------------------------------------------------------------------------

  #onJoined({ peerId, peers, polite, iceServers, resumeToken, resumed, locked = false }) {
    if (this.#identity.isSpent && !this.authentication) return this.#notProven("spent");
    // The server remembers if somebody is there; otherwise it may have been started anew.
    const isKnown = resumed || peers.length > 0;
    this.isLocked = locked;
    this.#lockWanted = this.#lockAsked ?? (locked || (!isKnown && this.#lockWanted));
    this.#iceServers = iceServers;
    this.polite = polite;
    this.#pc?.setConfiguration(this.#configuration());
    // The server tells again who knocks, and who is in the room.
    if (!resumed) this.#unasked = null;
    this.knocks = this.#unasked ? [this.#unasked] : [];
    this.dispatchEvent(new CustomEvent("seat", { detail: { peerId, resumeToken } }));
    if (resumed) {
      // What has happened to the other side meanwhile follows, in its order.
      if (this.phase === "waiting") this.#wait();
      else this.#changed();
    } else if (peers.length > 0) {
      this.#meet(peers[0]);
    } else if (this.#pc && this.phase !== "waiting") {
      // The server was restarted, or the other side's seat is free: it may still come back.
      this.#peerGoneAt ??= performance.now();
      this.#changed();
    } else {
      this.#wait();
    }
    this.#sayConnected();
    this.#settleLock();
  }

  /**
   * From then on nobody else enters unasked. Repeated after each "joined", for the server may have
   * been started anew, or the WebSocket may have died with it.
   */
  #sayConnected() {
    if (this.connectedAt !== null && this.peer) this.#signaling.connected(this.peer.session);
  }

  #knock({ peerId, displayName }) {
    this.#forgetKnock(peerId);
    if (this.knocks.length < LIMITS.maxKnocks) {
      this.knocks = [...this.knocks, { peerId, displayName }];
      // It may be the one that is waited for, so that the answer is.
      this.#knockedAt = performance.now();
      this.dispatchEvent(new CustomEvent("knock", { detail: { displayName } }));
    }
    this.#changed();
  }

  #forgetKnock(peerId) {
    this.knocks = this.knocks.filter((knock) => knock.peerId !== peerId);
  }

  /** A room is locked once both are in it: whoever lost the seat would not get in again. */
  #settleLock() {
    const isTogether = this.peer !== null && this.#peerGoneAt === null;
    if (this.#lockWanted === this.isLocked || (this.#lockWanted && !isTogether)) return;
    this.#signaling.lock(this.#lockWanted);
  }

  #onMessage(message) {
    switch (message.type) {
      case "peer-joined":
        this.#meet(message);
        this.#settleLock();
        break;
      case "lock":
        this.isLocked = this.#lockWanted = message.locked;
        this.#lockAsked = null;
        this.dispatchEvent(new CustomEvent("lock", { detail: message }));
        this.#changed();
        break;
      case "peer-left":
        if (message.peerId === this.#unasked?.peerId) {
          this.#unasked = null;
          this.#forgetKnock(message.peerId);
          this.#changed();
        }
        if (message.peerId === this.peer?.peerId) this.#onPeerLeft(message.reason);
        break;
      case "knocking":
        if (!this.peer) this.#setPhase("knocking");
        break;
      case "knock":
        this.#knock(message);
        break;
      case "knock-gone":
        this.#forgetKnock(message.peerId);
        this.#changed();
        break;
      case "signal":
        if (message.from !== this.peer?.peerId || !this.#pc) break;
        // Of a life that is over.
        if (message.session && message.session !== this.peer.session) break;
        if (message.description) this.#onDescription(this.#pc, message.description, message.proof);
        else if (message.proof) this.#onProof(message.proof);
        else this.#onCandidate(this.#pc, message.candidate);
        break;
    }
  }

  #meet({ peerId, session, displayName }, { isAdmitted = false } = {}) {
    const same = this.#pc && this.peer?.session === session;
    // The server vouches for the seat. Whoever has another one replaces nobody unasked.
    const isKnown = same || isAdmitted || [this.peer?.peerId, this.#admitted].includes(peerId);
    if (this.connectedAt !== null && !isKnown) {
      this.#unasked = { peerId, session, displayName };
      this.#knock(this.#unasked);
      return;
    }
    this.#unasked = null;
    this.peer = { peerId, session, displayName };
    this.#peerGoneAt = null;
    if (!same) {
      this.peerConnections += 1;
      const isOfferMade = this.phase === "waiting" && !this.polite;
      if (!this.#pc || !isOfferMade) this.#openPeerConnection();
      this.#setPhase(this.connectedAt === null ? "connecting" : "reconnecting");
      this.#restartedAt = this.#heardAt = performance.now();
      if (this.#pc.signalingState === "have-local-offer" && !this.#makingOffer) {
        this.#sendDescription(this.#pc);
      }
      return;
    }
    if (this.#pc.signalingState === "have-local-offer") this.#sendDescription(this.#pc);
    else if (!this.polite && !this.#isIceConnected()) this.#restartIce();
    this.#changed();
  }

  #onPeerLeft(reason) {
    if (reason === "left") {
      this.#end("remote-hangup");
    } else if (reason === "gave-up") {
      this.#end(this.#noPath());
    } else if (this.connectedAt === null) {
      this.peer = null;
      // The other side may still have its half of the closed connection.
      this.#session = randomSession();
      this.#signaling.renew(this.#session);
      this.#wait();
    } else {
      this.#peerGoneAt = performance.now();
      this.#changed();
    }
  }

  #signal(payload) {
    if (this.peer) this.#signaling.signal(this.peer, payload);
  }

  // ---- The peer connection ----------------------------------------------------------------------

  #configuration() {
    return { iceServers: this.#iceServers, bundlePolicy: "max-bundle" };
  }

  /** Makes the offer anew each time: servers, credentials and networks may be others. */
  #wait() {
    this.#openPeerConnection();
    this.#setPhase("waiting");
  }

  /** Begins anew; an older connection is closed. */
  #openPeerConnection() {
    this.#closePeerConnection();
    const pc = new RTCPeerConnection(this.#configuration());
    this.#pc = pc;
    this.#makingOffer = this.#ignoreOffer = this.#settingAnswer = false;
    this.#proof = new Proof(this.#identity);
    this.#proofAskedAt = 0;
    this.#incoming = new MediaStream();
    this.#sending = new Sending();
    pc.ontrack = ({ track, receiver }) => {
      // As little delay as the network allows; the browser adds what jitter demands.
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
      this.#incoming.addTrack(track);
    };
    pc.onnegotiationneeded = () => this.#offer(pc);
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate === "") return; // Firefox says the end twice.
      this.#signal({ candidate: candidate?.toJSON() ?? { candidate: "", sdpMLineIndex: 0 } });
    };
    pc.onconnectionstatechange = pc.oniceconnectionstatechange = () => this.#judge();
    this.dispatchEvent(new CustomEvent("stream"));
    if (!this.polite) this.#setUp(pc);
  }

  #closePeerConnection() {
    const pc = this.#pc;
    this.#pc = this.#channel = this.#senders = null;
    this.remoteMedia = this.stats = this.clockOffsetMs = null;
    this.lacksVideoCodec = false;
    this.authentication = this.remoteStream = null;
    this.#bestClockRttMs = Infinity;
    if (!pc) return;
    pc.ontrack = pc.onnegotiationneeded = pc.onicecandidate = null;
    pc.onconnectionstatechange = pc.oniceconnectionstatechange = null;
    pc.close();
  }

  /** Opens the data channel and, on the side that offers, the two m-lines. */
  #setUp(pc) {
    this.#displaySize = null;
    this.#channel = pc.createDataChannel("visavis", { negotiated: true, id: 0, ordered: true });
    this.#channel.onopen = () => {
      this.setMediaState(this.#mediaState);
      this.#askClock();
    };
    // The other side's stack may have lost what we said before its channel was open, which it is now.
    const again = () => {
      this.setMediaState(this.#mediaState);
      this.#displaySize = null;
    };
    this.#channel.addEventListener("message", again, { once: true });
    this.#channel.onmessage = ({ data }) => this.#onData(data);
    this.#senders = {};
    if (this.polite) return;
    for (const kind of ["audio", "video"]) {
      const streams = [this.#localStream];
      this.#adopt(kind, pc.addTransceiver(kind, { direction: "sendrecv", streams }));
    }
  }

  /** Makes the transceiver the one that carries our track of that kind. */
  #adopt(kind, transceiver) {
    const { sender } = transceiver;
    transceiver.direction = "sendrecv";
    sender.setStreams?.(this.#localStream);
    if (kind === "video") preferVideoCodecs(transceiver);
    else preferRed(transceiver);
    this.#senders[kind] = sender;
    this.setTrack(kind, this.#tracks[kind]);
  }

  /** The polite side: takes the offer's m-lines for its own, and drops any that it had made. */
  #adoptOffered(pc) {
    for (const transceiver of pc.getTransceivers()) {
      const { kind } = transceiver.receiver.track;
      if (transceiver.mid === null) transceiver.stop?.();
      else if (this.#senders[kind] !== transceiver.sender && !this.#isNegotiated(pc, kind)) {
        this.#adopt(kind, transceiver);
      }
    }
  }

  #isNegotiated(pc, kind) {
    const own = this.#senders[kind];
    return own && pc.getTransceivers().some((t) => t.sender === own && t.mid !== null);
  }

  async #offer(pc) {
    if (!this.#senders) return; // The polite side waits for the first offer.
    try {
      this.#makingOffer = true;
      await describe(pc, "offer");
      if (pc === this.#pc) this.#sendDescription(pc);
    } catch (error) {
      if (pc === this.#pc) console.warn("visavis: offer:", error);
    } finally {
      if (pc === this.#pc) this.#makingOffer = false;
    }
  }

  async #onDescription(pc, description, proof) {
    try {
      const readyForOffer =
        !this.#makingOffer && (pc.signalingState === "stable" || this.#settingAnswer);
      const offerCollision = description.type === "offer" && !readyForOffer;
      this.#ignoreOffer = !this.polite && offerCollision;
      if (this.#ignoreOffer) return;
      if (description.type === "answer" && pc.signalingState !== "have-local-offer") return;
      const fingerprints = this.#proof.check(description, proof);
      if (!fingerprints) return void console.warn("visavis: a description of another peer was refused");
      const wasConfirmed = this.#proof.isConfirmed;
      this.#proof.described(fingerprints, proof);
      if (!this.#senders) this.#setUp(pc);
      this.#settingAnswer = description.type === "answer";
      // With an offer the confirmation goes along with the answer.
      if (description.type === "answer" && wasConfirmed !== this.#proof.isConfirmed) this.#sendProof();
      const taken = pc.remoteDescription ? description : asDtlsServer(description);
      await pc.setRemoteDescription(withSound(withStartBitrate(taken), this.#music));
      if (pc !== this.#pc) return;
      this.#settingAnswer = false;
      this.#proofMoved();
      if (description.type === "offer") {
        this.#adoptOffered(pc);
        await describe(pc, "answer");
        if (pc !== this.#pc) return;
        this.#sendDescription(pc);
      }
      this.#sending.limitVideo(this.#senders.video);
      this.#noteVideo(pc);
    } catch (error) {
      if (pc !== this.#pc) return;
      this.#settingAnswer = false;
      if (error instanceof NotProven) return this.#notProven(error.reason);
      console.warn("visavis: description:", error);
      if (!pc.remoteDescription) this.#end("incompatible", String(error));
    }
  }

  async #onCandidate(pc, candidate) {
    try {
      await pc.addIceCandidate(candidate);
    } catch (error) {
      if (pc === this.#pc && !this.#ignoreOffer) console.debug("visavis: candidate:", error);
    }
  }

  /** With the candidates that are known by now. */
  #sendDescription({ localDescription: { type, sdp } }) {
    this.#describedAt = performance.now();
    if (!this.peer) return;
    try {
      const proof = this.#proof.describe(this.#session, this.peer.session, sdp);
      this.#signal({ description: { type, sdp }, proof });
      this.#proofMoved();
    } catch (error) {
      if (!(error instanceof NotProven)) throw error;
      this.#notProven(error.reason);
    }
  }

  // ---- The proof --------------------------------------------------------------------------------

  #onProof(message) {
    const wasConfirmed = this.#proof.isConfirmed;
    try {
      const isAsked = this.#proof.receive(message);
      if (isAsked || wasConfirmed !== this.#proof.isConfirmed) this.#sendProof();
      this.#proofMoved();
    } catch (error) {
      if (!(error instanceof NotProven)) throw error;
      this.#notProven(error.reason);
    }
  }

  #sendProof(again = undefined) {
    const { message } = this.#proof;
    this.#proofAskedAt = performance.now();
    if (message) this.#signal({ proof: { ...message, again } });
  }

  /** It may be known by now who the remote peer is: then media and messages go both ways. */
  #proofMoved() {
    if (this.#proof.lacksConfirmation) this.#proofAskedAt ||= performance.now();
    this.dispatchEvent(new CustomEvent("proof", { detail: this.#identity }));
    if (this.authentication || !this.#proof.result || !this.#senders) return;
    this.authentication = this.#proof.result;
    for (const kind of ["audio", "video"]) this.setTrack(kind, this.#tracks[kind]);
    this.setMediaState(this.#mediaState);
    this.#askClock();
    this.remoteStream = this.#incoming;
    this.dispatchEvent(new CustomEvent("stream"));
    this.#judge();
    this.#changed();
  }

  #notProven(reason) {
    this.dispatchEvent(new CustomEvent("proof", { detail: this.#identity }));
    this.#signal({ proof: { failed: reason } });
    this.#end("not-proven", reason);
  }

  /** A side that has none of the other's video codecs rejects the section (RFC 8829 §5.3.1). */
  #noteVideo(pc) {
    const sections = [pc.currentLocalDescription, pc.currentRemoteDescription].map((description) => {
      return description?.sdp.split(/^(?=m=)/m).filter((section) => section.startsWith("m=video")) ?? [];
    });
    const isAgreed = (section, at) => {
      const other = sections[1][at];
      return [section, other].every((one) => one && !one.startsWith("m=video 0 ") && !/^a=inactive\r?$/m.test(one));
    };
    const lacks = sections[0].length > 0 && !sections[0].some(isAgreed);
    if (lacks === this.lacksVideoCodec) return;
    this.lacksVideoCodec = lacks;
    this.#changed();
  }

  // ---- The data channel -------------------------------------------------------------------------

  #sendData(message) {
    if (this.authentication && this.#channel?.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  #onData(data) {
    // It is said again to whoever is first heard.
    if (!this.authentication) return;
    const receivedAt = Date.now();
    let message;
    try {
      message = parseControlMessage(data);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return;
    }
    switch (message.type) {
      case "media-state":
        this.remoteMedia = { microphone: message.microphone, camera: message.camera };
        this.#changed();
        break;
      case "clock-ping":
        this.#sendData({ type: "clock-pong", t0: message.t0, t1: receivedAt, t2: Date.now() });
        break;
      case "clock-pong":
        this.#onClock(message, receivedAt);
        break;
    }
  }

  #askClock() {
    this.#clockAskedAt = performance.now();
    this.#sendData({ type: "clock-ping", t0: Date.now() });
  }

  /** NTP's offset (RFC 5905 §8); the exchange with the shortest round trip wins. */
  #onClock({ t0, t1, t2 }, t3) {
    const rtt = t3 - t0 - (t2 - t1);
    if (rtt < 0 || rtt > this.#bestClockRttMs) return;
    this.#bestClockRttMs = rtt;
    this.clockOffsetMs = (t1 - t0 + (t2 - t3)) / 2;
  }

  // ---- Recovery ---------------------------------------------------------------------------------

  #isIceConnected() {
    return ["connected", "completed"].includes(this.#pc?.iceConnectionState);
  }

  #canSignal() {
    return this.#signaling.state === "open" && this.peer && this.#peerGoneAt === null;
  }

  #restartIce() {
    this.#restartedAt = performance.now();
    if (!this.#senders) return;
    this.iceRestarts += 1;
    this.#pc.restartIce();
  }

  async #tick() {
    const pc = this.#pc;
    if (pc) {
      const report = await pc.getStats();
      if (pc !== this.#pc) return;
      const heard = this.stats?.heard;
      const before = this.stats;
      this.stats = summarize(report, before);
      if (this.stats.heard !== heard) this.#heardAt = performance.now();
      this.dispatchEvent(new CustomEvent("stats"));
      if (this.#senders) this.#sending.follow(this.#senders, this.stats, before, this.#music);
      if (performance.now() - this.#clockAskedAt > CLOCK_PING_MS) this.#askClock();
    }
    this.#judge();
  }

  /** Looks at everything and moves the phase on; called on every change and every tick. */
  #judge() {
    const pc = this.#pc;
    if (!pc || this.phase === "ended") return;
    const now = performance.now();
    const sincePhase = now - this.#phaseSince;
    const silentFor = now - this.#heardAt;
    const isDown =
      pc.connectionState === "failed" ||
      (["disconnected", "failed"].includes(pc.iceConnectionState) && silentFor > TIMES_MS.disconnectedGrace) ||
      (this.connectedAt !== null && silentFor > SILENCE_LIMIT_MS);
    const isUp = pc.connectionState === "connected" && !isDown && this.authentication !== null;

    if (this.phase === "connected") {
      if (!isDown) return;
      this.#setPhase("reconnecting");
    } else if (isUp) {
      this.connectedAt ??= now;
      this.#setPhase("connected");
      this.#sayConnected();
      return;
    }

    if (this.phase === "connecting") {
      if (sincePhase > TIMES_MS.connectLimit) {
        if (pc.connectionState === "connected") return this.#notProven("silence");
        return this.#end("connection-failed");
      }
    } else if (this.phase === "reconnecting") {
      const goneFor = this.#peerGoneAt === null ? 0 : now - this.#peerGoneAt;
      // Whoever knocked may be the one that is waited for.
      const isAsked = now - this.#knockedAt < LIMITS.knockLimitMs;
      if (!isAsked && Math.min(goneFor, sincePhase) > TIMES_MS.remoteReturnLimit) return this.#end("remote-lost");
      if (!isAsked && sincePhase > TIMES_MS.reconnectLimit) {
        return this.#end(this.#peerGoneAt === null ? this.#noPath() : "remote-lost");
      }
    }
    if (!this.#canSignal()) return;
    if (this.#proof.lacksConfirmation && now - this.#proofAskedAt > TIMES_MS.proof) this.#sendProof(true);
    if (pc.signalingState === "have-local-offer" && now - this.#describedAt > TIMES_MS.answer) {
      this.#sendDescription(pc);
    }
    if (pc.signalingState !== "stable") return;
    // The impolite side acts at once; the other one only if nothing came of it.
    const delay = this.polite ? TIMES_MS.politeDelay : 0;
    if (this.#restartedAt < this.#phaseSince) {
      // The path broke.
      if (isDown && sincePhase >= delay) this.#restartIce();
    } else if (now - this.#restartedAt > TIMES_MS.restartInterval + delay && (isDown || !this.polite)) {
      this.#restartIce();
    }
  }

  #setPhase(phase) {
    if (this.phase === phase) return this.#changed();
    this.phase = phase;
    this.#phaseSince = performance.now();
    this.#changed();
  }

  #noPath() {
    return this.connectedAt === null ? "connection-failed" : "connection-lost";
  }

  #end(reason, detail = null) {
    if (this.phase === "ended") return;
    this.durationMs = this.connectedAt === null ? 0 : performance.now() - this.connectedAt;
    this.endReason = reason;
    this.endDetail = detail;
    this.#stopTicking?.();
    this.knocks = [];
    // A seat that another window of ours has taken over is not ours to free.
    const gaveUp = !["local-hangup", "remote-hangup"].includes(reason);
    this.#signaling.close({ leave: reason === "replaced" ? null : { gaveUp } });
    this.#closePeerConnection();
    this.#setPhase("ended");
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/** Sets the local description. A browser that does not let it be changed has it as it is. */
async function describe(pc, type) {
  const made = await (type === "offer" ? pc.createOffer() : pc.createAnswer());
  try {
    await pc.setLocalDescription(withStereo(made));
  } catch (error) {
    if (error.name !== "InvalidModificationError") throw error;
    await pc.setLocalDescription(made);
  }
}
