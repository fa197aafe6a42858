// The wire vocabulary of the signaling channel, as docs/protocol.md specifies it: parse, check,
// serialize, and room codes. Pure: no socket, no document, no clock. The golden fixtures of the
// Rust crate `visavis-signaling-protocol` are checked against this file too.

export const PROTOCOL_VERSION = 1;

/** Limits that both ends respect; the same values as the crate's `limits` module. */
export const LIMITS = Object.freeze({
  pingIntervalMs: 4000,
  silenceLimitMs: 12000,
  backlogMessages: 256,
  maxKnocks: 4,
  knockLimitMs: 60000,
});

/** Stable names of faults: whether the connection ends, and whether to connect again. */
const ERROR_CODES = new Map([
  ["bad-json", { fatal: true, transient: false }],
  ["bad-message", { fatal: true, transient: false }],
  ["too-large", { fatal: true, transient: false }],
  ["rate-limited", { fatal: true, transient: true }],
  ["too-many-joins", { fatal: true, transient: false }],
  ["unsupported-version", { fatal: true, transient: false }],
  ["bad-room-code", { fatal: true, transient: false }],
  ["room-full", { fatal: true, transient: false }],
  ["room-locked", { fatal: true, transient: false }],
  ["refused-entry", { fatal: true, transient: false }],
  ["too-many-rooms", { fatal: true, transient: false }],
  ["not-joined", { fatal: true, transient: false }],
  ["already-joined", { fatal: true, transient: false }],
  ["no-such-peer", { fatal: false, transient: false }],
  ["idle-timeout", { fatal: true, transient: true }],
  ["replaced", { fatal: true, transient: false }],
  ["server-shutdown", { fatal: true, transient: true }],
]);

export const isFatal = (code) => ERROR_CODES.get(code)?.fatal ?? true;
export const isTransient = (code) => ERROR_CODES.get(code)?.transient ?? false;

/** What arrived is no message of this protocol. */
export class ProtocolError extends Error {
  name = "ProtocolError";
}

// ---- Messages ---------------------------------------------------------------------------------

/** Parses one text frame from the server; throws `ProtocolError`. Unknown fields are dropped. */
export const parseServerMessage = (text) => parse(text, SERVER_MESSAGES);

/** Parses one text frame as the server does; the page itself never needs it, its tests do. */
export function parseClientMessage(text) {
  const message = parse(text, CLIENT_MESSAGES);
  if (message.type === "join" && message.protocolVersion !== PROTOCOL_VERSION) {
    throw new ProtocolError("another version");
  }
  return message;
}

/** Parses one message of the data channel; throws `ProtocolError`. */
export const parseControlMessage = (text) => parse(text, CONTROL_MESSAGES);

/** One message as a text frame; absent (`undefined` or `null`) optional fields are left out. */
export function serialize(message) {
  return JSON.stringify(message, (_key, value) => (value === null ? undefined : value));
}

function parse(text, kinds) {
  let object;
  try {
    object = JSON.parse(text);
  } catch {
    throw new ProtocolError("not JSON");
  }
  if (!isObject(object)) throw new ProtocolError("not an object");
  const kind = Object.hasOwn(kinds, object.type) ? kinds[object.type] : undefined;
  if (typeof object.type !== "string" || !kind) throw new ProtocolError("unknown type");
  return { type: object.type, ...kind(object) };
}

const CLIENT_MESSAGES = {
  join: (o) =>
    fields(o, {
      protocolVersion: unsigned(0xffffffff),
      room: roomCode,
      displayName: optional(string),
      resumeToken: optional(id),
      session: optional(id),
      received: optional(count),
    }),
  signal: (o) => ({ ...fields(o, { to: id, session: optional(id) }), ...payload(o) }),
  leave: (o) => fields(o, { mayReturn: flag, gaveUp: flag }),
  lock: (o) => fields(o, { locked: boolean }),
  connected: (o) => fields(o, { session: id }),
  admit: (o) => fields(o, { peerId: id, admitted: boolean }),
  ping: (o) => fields(o, { received: optional(count) }),
};

const SERVER_MESSAGES = {
  joined: (o) =>
    fields(o, {
      peerId: id,
      peers: list(peerInfo),
      polite: boolean,
      iceServers: list(iceServer),
      resumeToken: id,
      resumed: boolean,
      received: optional(count),
      locked: flag,
    }),
  "peer-joined": peerInfo,
  "peer-left": (o) => fields(o, { peerId: id, reason: oneOf("left", "gave-up", "timeout") }),
  signal: (o) => ({ ...fields(o, { from: id, session: optional(id) }), ...payload(o) }),
  lock: (o) => fields(o, { locked: boolean, by: id }),
  knocking: () => ({}),
  knock: (o) => fields(o, { peerId: id, displayName: optional(string) }),
  "knock-gone": (o) => fields(o, { peerId: id }),
  // A code that is not known is fatal and final, see `isFatal` and `isTransient`.
  error: (o) => fields(o, { code: string, message: string }),
  pong: (o) => fields(o, { received: optional(count) }),
};

/** From peer to peer, over the data channel `visavis`. */
const CONTROL_MESSAGES = {
  "media-state": (o) => fields(o, { microphone: boolean, camera: boolean }),
  "clock-ping": (o) => fields(o, { t0: number }),
  "clock-pong": (o) => fields(o, { t0: number, t1: number, t2: number }),
};

/** Exactly one of the W3C dictionaries. */
function payload(o) {
  const { description, candidate } = fields(o, {
    description: optional(sessionDescription),
    candidate: optional(iceCandidate),
  });
  if ((description === undefined) === (candidate === undefined)) {
    throw new ProtocolError("a signal carries one of description and candidate");
  }
  return description ? { description } : { candidate };
}

/** `RTCSessionDescriptionInit`. */
function sessionDescription(value) {
  return fields(value, { type: oneOf("offer", "answer"), sdp: string });
}

/** `RTCIceCandidateInit`; an empty `candidate` marks the end of candidates. */
function iceCandidate(value) {
  return fields(value, {
    candidate: string,
    sdpMid: optional(string),
    sdpMLineIndex: optional(unsigned(0xffff)),
    usernameFragment: optional(string),
  });
}

function iceServer(value) {
  return fields(value, {
    urls: list(string),
    username: optional(string),
    credential: optional(string),
  });
}

function peerInfo(value) {
  return fields(value, { peerId: id, session: id, displayName: optional(string) });
}

// ---- Field readers: each returns the value or throws ------------------------------------------

function fields(object, readers) {
  if (!isObject(object)) throw new ProtocolError("an object is missing");
  const result = {};
  for (const [name, read] of Object.entries(readers)) {
    let value;
    try {
      value = read(Object.hasOwn(object, name) ? object[name] : undefined);
    } catch (error) {
      throw new ProtocolError(`${name}: ${error.message}`);
    }
    if (value !== undefined) result[name] = value;
  }
  return result;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const optional = (read) => (value) =>
  value === undefined || value === null ? undefined : read(value);

const list = (read) => (value) => {
  if (!Array.isArray(value)) throw new ProtocolError("not a list");
  return value.map(read);
};

const oneOf =
  (...names) =>
  (value) => {
    if (!names.includes(value)) throw new ProtocolError("unknown value");
    return value;
  };

const unsigned = (max) => (value) => {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new ProtocolError("not an unsigned integer in range");
  }
  return value;
};

/** How many messages have arrived; exact as far as a JavaScript number is. */
const count = unsigned(Number.MAX_SAFE_INTEGER);

function number(value) {
  if (typeof value !== "number") throw new ProtocolError("not a number");
  return value;
}

function string(value) {
  if (typeof value !== "string") throw new ProtocolError("not a string");
  return value;
}

function boolean(value) {
  if (typeof value !== "boolean") throw new ProtocolError("not a boolean");
  return value;
}

/** A boolean that is left out where it is false. */
const flag = (value) => optional(boolean)(value) || undefined;

/** Peer ids, sessions and resume tokens: 1 to 64 ASCII letters, digits, dashes, underscores. */
function id(value) {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(string(value))) throw new ProtocolError("not an identifier");
  return value;
}

function roomCode(value) {
  const code = parseRoomCode(string(value));
  if (!code) throw new ProtocolError("not a room code");
  return code;
}

// ---- Room codes -------------------------------------------------------------------------------

/** Letters of fresh codes: no `i`, `l`, `o`, which look like others. 23^10 codes, 45 bits. */
const ALPHABET = "abcdefghjkmnpqrstuvwxyz";
const LETTERS = 10;

/** What people type or paste (any case, dashes, spaces, a whole link) as `abc-defg-hij`, or null. */
export function parseRoomCode(text) {
  const letters = fromLink(text).replace(/[-\s]/g, "");
  return /^[A-Za-z]{10}$/.test(letters) ? group(letters.toLowerCase()) : null;
}

/** What has been typed so far, in groups; a pasted link becomes its code. Drops all but letters. */
export function formatRoomCode(text) {
  return group(fromLink(text).replace(/[^A-Za-z]/g, "").slice(0, LETTERS).toLowerCase());
}

/** A fresh code, each letter uniform over the alphabet. */
export function randomRoomCode() {
  let letters = "";
  while (letters.length < LETTERS) {
    // Rejection keeps the distribution uniform: 253 is the largest multiple of 23 in a byte.
    for (const byte of crypto.getRandomValues(new Uint8Array(32))) {
      if (byte < 253 && letters.length < LETTERS) letters += ALPHABET[byte % ALPHABET.length];
    }
  }
  return group(letters);
}

/** A fresh session id: 16 random bytes as hexadecimal. */
export function randomSession() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

function fromLink(text) {
  const at = text.lastIndexOf("/r/");
  return at < 0 ? text : text.slice(at + 3).split(/[?#/]/)[0];
}

function group(letters) {
  return [letters.slice(0, 3), letters.slice(3, 7), letters.slice(7)].filter(Boolean).join("-");
}
