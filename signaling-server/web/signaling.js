// The signaling channel: JSON over one WebSocket, with heartbeat, backoff and resume
// (docs/protocol.md). It outlives any single WebSocket; a lost one is replaced until `close()` or
// a refusal of the server. Both ends count what they have received, so that a resume goes on
// exactly where the dead WebSocket stopped. No document, no peer connection.
//
// Events: "joined" (detail: the message), "message" (detail: peer-joined, peer-left, signal, lock,
// knocking, knock or knock-gone),
// "lost" (the WebSocket is gone, another attempt follows), "refused" (detail: {code, message};
// nothing follows).

import {
  LIMITS,
  PROTOCOL_VERSION,
  ProtocolError,
  isFatal,
  isTransient,
  parseServerMessage,
  serialize,
} from "./protocol.js";
import { every } from "./ticker.js";

/** A server that was started anew may be busy with all who come back from one address: no reason to end a call. */
const SHARED = ["too-many-joins", "too-many-rooms"];

/** Waits before each attempt after a loss, the last one for all that follow. */
const RETRY_MS = [100, 250, 500, 1000, 2000, 4000];
/** An attempt that has not been answered by then is given up. */
const JOIN_TIMEOUT_MS = 8000;

export class Signaling extends EventTarget {
  /** "connecting", "open", "reconnecting" or "closed". */
  state = "closed";

  #url;
  #join;
  #socket = null;
  #retry = null;
  #joinTimer = null;
  #attempts = 0;
  #lastHeard = 0;
  #stopHeartbeat = null;
  /** Numbered messages (signal, peer-joined, peer-left) had from the server in this session. */
  #received = 0;
  /** Whether `joined` was had in this session; it may have been lost with its WebSocket. */
  #hasJoined = false;
  /** `signal`s that the server has not confirmed; the first one has the number `#confirmed`. */
  #outbox = [];
  #confirmed = 0;

  /** `join`: the fields `room`, `session`, and optionally `displayName`, `resumeToken`. */
  constructor(url, join) {
    super();
    this.#url = url;
    this.#join = { ...join };
  }

  connect() {
    this.state = "connecting";
    this.#stopHeartbeat = every(LIMITS.pingIntervalMs, () => this.#beat());
    addEventListener("online", this.#hurry);
    this.#open();
  }

  /** Sends a payload to a peer of the room, in its present session; while the WebSocket is gone, it
   * is kept. */
  signal({ peerId, session }, payload) {
    const message = { type: "signal", to: peerId, session, ...payload };
    this.#outbox.push(message);
    if (this.#outbox.length > LIMITS.backlogMessages) this.#confirm(this.#confirmed + 1);
    this.#send(message);
  }

  /** Another life of the peer connection: joins again, and forgets what was to be sent. */
  renew(session) {
    if (this.state === "closed") return;
    this.#join.session = session;
    this.#hasJoined = false;
    this.#received = this.#confirmed = 0;
    this.#outbox = [];
    this.#drop();
    this.state = "reconnecting";
    this.#open();
  }

  /** Asks for a locked or an open room; while the WebSocket is gone, nothing is asked. */
  lock(locked) {
    this.#send({ type: "lock", locked });
  }

  /** Says that media flows between us and the remote peer of that session. */
  connected(session) {
    this.#send({ type: "connected", session });
  }

  /** Answers a knock; while the WebSocket is gone, nothing is said and the server asks again. */
  admit(peerId, admitted) {
    this.#send({ type: "admit", peerId, admitted });
  }

  #send(message) {
    if (this.state === "open") this.#socket.send(serialize(message));
  }

  /**
   * Ends the channel. With `leave`, an object, the seat is free at once; with `mayReturn` in it after
   * a while, unless it is taken back.
   */
  close({ leave = null } = {}) {
    if (this.state === "closed") return;
    if (leave) this.#send({ type: "leave", ...leave });
    this.state = "closed";
    this.#stopHeartbeat?.();
    removeEventListener("online", this.#hurry);
    clearTimeout(this.#retry);
    this.#drop();
  }

  #open() {
    clearTimeout(this.#retry);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#joinTimer = setTimeout(() => this.#lose(), JOIN_TIMEOUT_MS);
    socket.onopen = () => {
      this.#lastHeard = performance.now();
      const received = this.#received;
      const join = { type: "join", protocolVersion: PROTOCOL_VERSION, ...this.#join, received };
      socket.send(serialize(join));
    };
    socket.onmessage = ({ data }) => this.#onFrame(data);
    socket.onclose = () => this.#lose();
  }

  #onFrame(data) {
    this.#lastHeard = performance.now();
    let message;
    try {
      message = parseServerMessage(data);
    } catch (error) {
      // A newer server may say things that this page does not know; they are not for it.
      if (!(error instanceof ProtocolError)) throw error;
      console.debug("visavis: ignored a frame of the server:", error.message);
      return;
    }
    switch (message.type) {
      case "pong":
        this.#confirm(message.received ?? 0);
        break;
      case "joined":
        this.#onJoined(message);
        break;
      case "error":
        this.#onError(message);
        break;
      case "knocking":
        // Those inside take their time; the server does not let them take more than a minute.
        clearTimeout(this.#joinTimer);
        this.#joinTimer = setTimeout(() => this.#lose(), LIMITS.knockLimitMs + JOIN_TIMEOUT_MS);
        this.#emit("message", message);
        break;
      case "lock":
      case "knock":
      case "knock-gone":
        this.#emit("message", message);
        break;
      default:
        this.#received += 1;
        this.#emit("message", message);
    }
  }

  #onJoined(message) {
    clearTimeout(this.#joinTimer);
    this.#attempts = 0;
    this.#join.resumeToken = message.resumeToken;
    this.state = "open";
    if (message.resumed) {
      this.#confirm(message.received ?? 0);
      for (const kept of this.#outbox) this.#send(kept);
    } else {
      // Another seat, or a server that knows nothing of us: both counts begin anew.
      this.#received = this.#confirmed = 0;
      this.#outbox = [];
    }
    // What was never had cannot be resumed.
    this.#emit("joined", { ...message, resumed: message.resumed && this.#hasJoined });
    this.#hasJoined = true;
  }

  /** The server has had the first `received` signals of this session. */
  #confirm(received) {
    const arrived = received - this.#confirmed;
    if (arrived <= 0) return;
    this.#outbox.splice(0, arrived);
    this.#confirmed = received;
  }

  #onError({ code, message }) {
    if (!isFatal(code)) {
      console.debug("visavis: the server refused a message:", code, message);
    } else if (isTransient(code) || (this.#join.resumeToken && SHARED.includes(code))) {
      this.#lose();
    } else {
      this.close();
      this.#emit("refused", { code, message });
    }
  }

  /** The WebSocket is of no use any more: tries another one after a while. */
  #lose() {
    if (this.state === "closed") return;
    this.#drop();
    const wasFirst = this.state === "connecting";
    if (!wasFirst) this.state = "reconnecting";
    const longest = RETRY_MS[Math.min(this.#attempts, RETRY_MS.length - 1)];
    this.#attempts += 1;
    // Partly random, so that the clients of a restarted server do not return in step.
    const wait = longest * (1 - Math.random() / 4);
    this.#retry = setTimeout(() => this.#open(), wait);
    this.#emit("lost", { everJoined: !wasFirst });
  }

  /** The network is back: no need to sit out the backoff. */
  #hurry = () => {
    if (this.state === "open" || this.state === "closed") return;
    this.#drop();
    this.#open();
  };

  #drop() {
    clearTimeout(this.#joinTimer);
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #beat() {
    if (this.state !== "open") return;
    if (performance.now() - this.#lastHeard > LIMITS.silenceLimitMs) this.#lose();
    else this.#send({ type: "ping", received: this.#received });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
