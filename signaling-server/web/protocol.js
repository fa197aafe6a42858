// The wire vocabulary of the signaling channel, as docs/protocol.md specifies it: parse, check,
// serialize, and room codes. Pure: no socket, no document, no clock. The golden fixtures of the
// Rust crate `visavis-signaling-protocol` are checked against this file too.

export const PROTOCOL_VERSION = 2;

/** Limits that both ends respect; the same values as the crate's `limits` module. */
export const LIMITS = Object.freeze({
  pingIntervalMs: 4000,
  silenceLimitMs: 12000,
  backlogMessages: 256,
  displayNameChars: 64,
  iceServers: 8,
  iceUrls: 4,
  iceTextBytes: 512,
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
      iceServers: (value) => usableIceServers(list(iceServer)(value)),
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
  "display-size": (o) => fields(o, { width: count, height: count }),
  "decoder-overloaded": (o) => fields(o, { codec: string }),
  "clock-ping": (o) => fields(o, { t0: number }),
  "clock-pong": (o) => fields(o, { t0: number, t1: number, t2: number }),
};

/** One of the W3C dictionaries, or a proof alone; a description may have a proof beside it. */
function payload(o) {
  const all = fields(o, {
    description: optional(sessionDescription),
    candidate: optional(iceCandidate),
    proof: optional(proof),
  });
  const { description, candidate } = all;
  const isAlone = candidate !== undefined ? all.proof === undefined : all.proof !== undefined;
  if (description !== undefined ? candidate !== undefined : !isAlone) {
    throw new ProtocolError("a signal carries a description, a candidate or a proof");
  }
  return all;
}

/** What peers tell each other to prove who they are; see docs/protocol.md. */
function proof(value) {
  return fields(value, {
    page: flag,
    code: optional(bytes32),
    key: optional((key) => fields(key, { id: bytes32, share: bytes32 })),
    commitment: optional(bytes32),
    confirm: optional(bytes32),
    again: flag,
    failed: optional(oneOf("mismatch", "no-secret", "spent", "silence")),
  });
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

/**
 * The ICE servers that can be used, and so few of them that a server cannot make this page send to
 * addresses by the hundred; one that `RTCPeerConnection` refuses would end the call.
 */
export function usableIceServers(servers) {
  const fits = (text) => text === undefined || utf8.encode(text).length <= LIMITS.iceTextBytes;
  return servers
    .map(({ urls, username, credential }) => {
      // A relay without credentials is none (W3C WebRTC 1.0 §4.4.1.6).
      const isRelay = username !== undefined && credential !== undefined;
      const scheme = isRelay ? /^(stun|turns?):[!-~]+$/i : /^stun:[!-~]+$/i;
      const usable = urls.filter((url) => scheme.test(url) && fits(url)).slice(0, LIMITS.iceUrls);
      return { urls: usable, username, credential };
    })
    .filter(({ urls, username, credential }) => urls.length > 0 && fits(username) && fits(credential))
    .slice(0, LIMITS.iceServers);
}

const utf8 = new TextEncoder();

function peerInfo(value) {
  return fields(value, { peerId: id, session: id, displayName: optional(displayName) });
}

/** A name is cleaned by the server, and here again; undefined if nothing is left. */
const displayName = (value) => cleanName(string(value), LIMITS.displayNameChars) ?? undefined;

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

/** 32 bytes as hexadecimal digits. */
function bytes32(value) {
  if (!/^[0-9a-f]{64}$/.test(string(value))) throw new ProtocolError("not 64 hexadecimal digits");
  return value;
}

function roomCode(value) {
  const code = parseCode(string(value));
  if (!code || code.secret) throw new ProtocolError("not the name of a room");
  return code.room;
}

// ---- Names ------------------------------------------------------------------------------------

/** Marks in a row that stay: more than any script needs. Dozens cover the lines around. */
const MAX_MARKS = 4;
const ZWNJ = "\u200c";
const ZWJ = "\u200d";
/** What has no shape of its own, private use, lone surrogates, and the Braille pattern without dots. */
const INVISIBLE = /^[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]$/u;
/** What is drawn over, under or around the character before it. */
const MARK = /^[\p{Mn}\p{Me}]$/u;
/** Blocks from Arabic to Myanmar, and Khmer and Mongolian. */
const JOINING_SCRIPT = /^[\u0600-\u109f\u1780-\u18af]$/u;
/** Blocks of symbols and emoji, and the selectors of their style. */
const PICTOGRAPH = /^[\u2100-\u2bff\u{1f000}-\u{1faff}]$/u;
const STYLE = /^[\ufe0e\ufe0f]$/u;

/**
 * `text` without what could make it look like another name or disturb the words around it, as the
 * crate's `clean_name`, which says what stays and why; null if nothing is left.
 */
export function cleanName(text, maxChars) {
  let clean = "";
  let [length, marks] = [0, 0];
  let last = null;
  // A space or joiner, which stays if something follows that it separates or joins.
  let between = "";
  for (const c of text) {
    const isMark = MARK.test(c);
    if (/^\p{White_Space}$/u.test(c)) {
      if (last) between = " ";
      continue;
    }
    if (c === ZWNJ || c === ZWJ) {
      if (last) between ||= c;
      continue;
    }
    const isStyle = last !== null && !between && STYLE.test(c) && PICTOGRAPH.test(last);
    if (!isStyle) {
      if (INVISIBLE.test(c)) continue;
      if (isMark && (last === null || between === " " || marks === MAX_MARKS)) continue;
    }
    if (between && between !== " " && !joins(last, between, c)) between = "";
    length += between ? 2 : 1;
    if (length > maxChars) break;
    marks = isMark ? marks + 1 : 0;
    clean += between + c;
    between = "";
    last = c;
  }
  return clean || null;
}

/** Whether a joiner changes how the characters beside it look. */
function joins(before, joiner, after) {
  if (JOINING_SCRIPT.test(before) && JOINING_SCRIPT.test(after)) return true;
  return joiner === ZWJ && (PICTOGRAPH.test(before) || STYLE.test(before)) && PICTOGRAPH.test(after);
}

// ---- Codes ------------------------------------------------------------------------------------
//
// A code is the name of a room, which the server knows, and a secret, which it never does: twelve letters,
// `abc-def-ghj-kmn`. In a link the secret is the fragment, which browsers do not send.

/** Letters of fresh codes: no `i`, `l`, `o`, which look like others. 23^6 for each half, 27 bits. */
const ALPHABET = "abcdefghjkmnpqrstuvwxyz";
/** Letters of each half. */
const LETTERS = 6;
/** White space, what programs make of a dash, characters without a width, the mark in a link. */
const SEPARATORS = /[\s\-#_\u00ad\u2010-\u2015\u2043\u2212\ufe58\ufe63\uff0d\u200b-\u200f\u2060\ufeff]/g;
/** What sentences and quotations put around a code. */
const PUNCTUATION = "!-/:-@\\[-`{-~«»‘-‟…。、";
const AROUND = new RegExp(`^[\\s${PUNCTUATION}]+|[\\s${PUNCTUATION}]+$`, "g");
const BEHIND = new RegExp(`[${PUNCTUATION}]+$`);

/**
 * What people type or paste (any case, dashes of any kind, spaces, a whole link) as `{room, secret}`, or
 * null; `secret` is null for the name of a room alone.
 */
export function parseCode(text) {
  const at = text.lastIndexOf("/r/");
  const letters = at < 0 ? text.replace(AROUND, "").replace(SEPARATORS, "") : linkLetters(text.slice(at + 3));
  if (letters === null || !/^([A-Za-z]{6}){1,2}$/.test(letters)) return null;
  const [room, secret] = halves(letters.toLowerCase());
  return { room, secret };
}

/** The whole code, as people write it. */
export const formatCode = ({ room, secret }) => (secret ? `${room}-${secret}` : room);

/** What follows the server's address in a link. */
export const codePath = ({ room, secret }) => `/r/${room}${secret ? `#${secret}` : ""}`;

/** What has been typed so far, in groups; a pasted link becomes its code. Drops all but letters. */
export function formatTyped(text) {
  const at = text.lastIndexOf("/r/");
  const code = at < 0 ? null : parseCode(text);
  if (code) return formatCode(code);
  const letters = (at < 0 ? text : text.slice(at + 3)).replace(/[^A-Za-z]/g, "");
  return letters.slice(0, 2 * LETTERS).toLowerCase().match(/.{1,3}/g)?.join("-") ?? "";
}

/** A fresh code, each letter uniform over the alphabet. */
export function randomCode() {
  let letters = "";
  while (letters.length < 2 * LETTERS) {
    // Rejection keeps the distribution uniform: 253 is the largest multiple of 23 in a byte.
    for (const byte of crypto.getRandomValues(new Uint8Array(32))) {
      if (byte < 253 && letters.length < 2 * LETTERS) letters += ALPHABET[byte % ALPHABET.length];
    }
  }
  const [room, secret] = halves(letters);
  return { room, secret };
}

/** The letters behind `/r/`: the room's, then those of the fragment; null for none. */
function linkLetters(tail) {
  const decoded = tail.replace(/(?:%[0-9a-f]{2})+/gi, (escaped) => {
    try {
      return decodeURIComponent(escaped);
    } catch {
      return "\ufffd";
    }
  });
  const [word = ""] = decoded.trim().split(/\s/);
  const [path, ...rest] = word.replace(BEHIND, "").split("#");
  const room = path.split(/[?/]/)[0].replace(SEPARATORS, "");
  if (![LETTERS, 2 * LETTERS].includes(room.length)) return null;
  return room + rest.join("#").replace(SEPARATORS, "");
}

function halves(letters) {
  const group = (half) => (half ? `${half.slice(0, 3)}-${half.slice(3)}` : null);
  return [group(letters.slice(0, LETTERS)), group(letters.slice(LETTERS))];
}

/** A fresh session id: 16 random bytes as hexadecimal. */
export function randomSession() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
