// Proof that the remote peer knows the same secret, and that nobody sits in between: CPace
// (draft-irtf-cfrg-cpace, X25519 with SHA-512, symmetric setting) and what is derived from it, as
// docs/protocol.md specifies. Pure functions, apart from `randomBytes`; strings of bytes are
// `Uint8Array`s. Plain JavaScript throughout, for a page over http:// to another machine has no
// WebCrypto. Checked against the test vectors of the Rust crate `visavis-proof`.

/** How many secrets of a room may be tried before its code is spent. */
export const MAX_GUESSES = 5;

const EMOJI_SHOWN = 7;

export const randomBytes = (length) => crypto.getRandomValues(new Uint8Array(length));

// ---- Bytes ------------------------------------------------------------------------------------

export const toHex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

export function fromHex(text) {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

const utf8 = new TextEncoder();
const toBytes = (part) => (typeof part === "string" ? utf8.encode(part) : part);

function concat(...parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The draft's `lv_cat`: each part behind its length in LEB128. Strings are taken as UTF-8. */
function lvCat(...parts) {
  return concat(
    ...parts.map(toBytes).flatMap((part) => {
      const length = [];
      for (let rest = part.length; ; rest >>= 7) {
        if (rest < 128) {
          length.push(rest);
          return [length, part];
        }
        length.push((rest & 0x7f) | 0x80);
      }
    }),
  );
}

function compare(a, b) {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

/** Looks at every byte, whatever the first ones are. */
function areEqual(a, b) {
  if (a.length !== b.length) return false;
  return a.reduce((difference, byte, i) => difference | (byte ^ b[i]), 0) === 0;
}

// ---- SHA-512 (FIPS 180-4) and HMAC (RFC 2104), 64-bit words in two halves -----------------------

/**
 * The fractional parts of the square and cube roots of the first primes are the constants of FIPS 180-4,
 * §4.2.3 and §5.3.5.
 */
const [INITIAL, ROUND] = (() => {
  const primes = [];
  for (let n = 2; primes.length < 80; n += 1) if (primes.every((p) => n % p !== 0)) primes.push(n);
  const root = (value, power) => {
    let [low, high] = [0n, 1n << 72n];
    while (high - low > 1n) {
      const middle = (low + high) >> 1n;
      if (middle ** power <= value) low = middle;
      else high = middle;
    }
    return BigInt.asUintN(64, low);
  };
  const halves = (values) => Int32Array.from(values.flatMap((v) => [Number(v >> 32n), Number(v & 0xffffffffn)]));
  return [
    halves(primes.slice(0, 8).map((p) => root(BigInt(p) << 128n, 2n))),
    halves(primes.map((p) => root(BigInt(p) << 192n, 3n))),
  ];
})();

export function sha512(message) {
  const state = INITIAL.slice();
  const padded = new Uint8Array((message.length + 17 + 127) & ~127);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  // No message of ours has 2^32 bits.
  view.setUint32(padded.length - 4, message.length * 8);
  const w = new Int32Array(160);
  for (let block = 0; block < padded.length; block += 128) {
    for (let i = 0; i < 32; i += 1) w[i] = view.getInt32(block + 4 * i);
    for (let i = 32; i < 160; i += 2) {
      let [h, l] = [w[i - 30], w[i - 29]];
      const s0h = ((h >>> 1) | (l << 31)) ^ ((h >>> 8) | (l << 24)) ^ (h >>> 7);
      const s0l = ((l >>> 1) | (h << 31)) ^ ((l >>> 8) | (h << 24)) ^ ((l >>> 7) | (h << 25));
      [h, l] = [w[i - 4], w[i - 3]];
      const s1h = ((h >>> 19) | (l << 13)) ^ ((l >>> 29) | (h << 3)) ^ (h >>> 6);
      const s1l = ((l >>> 19) | (h << 13)) ^ ((h >>> 29) | (l << 3)) ^ ((l >>> 6) | (h << 26));
      const low = (w[i - 31] >>> 0) + (s0l >>> 0) + (w[i - 13] >>> 0) + (s1l >>> 0);
      w[i + 1] = low;
      w[i] = w[i - 32] + s0h + w[i - 14] + s1h + Math.floor(low / 0x100000000);
    }
    let [ah, al, bh, bl, ch, cl, dh, dl, eh, el, fh, fl, gh, gl, hh, hl] = state;
    for (let i = 0; i < 160; i += 2) {
      const s1h = ((eh >>> 14) | (el << 18)) ^ ((eh >>> 18) | (el << 14)) ^ ((el >>> 9) | (eh << 23));
      const s1l = ((el >>> 14) | (eh << 18)) ^ ((el >>> 18) | (eh << 14)) ^ ((eh >>> 9) | (el << 23));
      const chh = (eh & fh) ^ (~eh & gh);
      const chl = (el & fl) ^ (~el & gl);
      const low1 = (hl >>> 0) + (s1l >>> 0) + (chl >>> 0) + (ROUND[i + 1] >>> 0) + (w[i + 1] >>> 0);
      const t1l = low1 | 0;
      const t1h = (hh + s1h + chh + ROUND[i] + w[i] + Math.floor(low1 / 0x100000000)) | 0;
      const s0h = ((ah >>> 28) | (al << 4)) ^ ((al >>> 2) | (ah << 30)) ^ ((al >>> 7) | (ah << 25));
      const s0l = ((al >>> 28) | (ah << 4)) ^ ((ah >>> 2) | (al << 30)) ^ ((ah >>> 7) | (al << 25));
      const low2 = (s0l >>> 0) + (((al & bl) ^ (al & cl) ^ (bl & cl)) >>> 0);
      const t2l = low2 | 0;
      const t2h = s0h + ((ah & bh) ^ (ah & ch) ^ (bh & ch)) + Math.floor(low2 / 0x100000000);
      [hh, hl, gh, gl, fh, fl] = [gh, gl, fh, fl, eh, el];
      const low3 = (dl >>> 0) + (t1l >>> 0);
      [eh, el] = [(dh + t1h + Math.floor(low3 / 0x100000000)) | 0, low3 | 0];
      [dh, dl, ch, cl, bh, bl] = [ch, cl, bh, bl, ah, al];
      const low4 = (t1l >>> 0) + (t2l >>> 0);
      [ah, al] = [(t1h + t2h + Math.floor(low4 / 0x100000000)) | 0, low4 | 0];
    }
    [ah, al, bh, bl, ch, cl, dh, dl, eh, el, fh, fl, gh, gl, hh, hl].forEach((word, i, words) => {
      if (i % 2 === 1) return;
      const low = (state[i + 1] >>> 0) + (words[i + 1] >>> 0);
      state[i] = state[i] + word + Math.floor(low / 0x100000000);
      state[i + 1] = low;
    });
  }
  const out = new DataView(new ArrayBuffer(64));
  state.forEach((word, i) => out.setInt32(4 * i, word));
  return new Uint8Array(out.buffer);
}

/** The first 32 bytes of SHA-512 of `lvCat(...parts)`. */
const hash32 = (...parts) => sha512(lvCat(...parts)).slice(0, 32);

/** HMAC-SHA-512, its first 32 bytes. */
export function mac(key, message) {
  const block = new Uint8Array(128);
  block.set(key.length > 128 ? sha512(key) : key);
  const inner = sha512(concat(block.map((b) => b ^ 0x36), message));
  return sha512(concat(block.map((b) => b ^ 0x5c), inner)).slice(0, 32);
}

// ---- Curve25519 (RFC 7748) and Elligator 2 (RFC 9380 §6.7.1) ------------------------------------

const P = 2n ** 255n - 19n;
const A = 486662n;

const modulo = (value) => {
  const rest = value % P;
  return rest < 0n ? rest + P : rest;
};

function power(base, exponent) {
  let [result, square] = [1n, base];
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if (rest & 1n) result = (result * square) % P;
    square = (square * square) % P;
  }
  return result;
}

function decode(bytes, highestMask) {
  const copy = Uint8Array.from(bytes);
  copy[31] &= highestMask;
  return BigInt(`0x${toHex(copy.reverse())}`);
}

const encode = (value) => fromHex(value.toString(16).padStart(64, "0")).reverse();

/** The function X25519 of RFC 7748 §5. */
export function x25519(scalar, point) {
  const clamped = Uint8Array.from(scalar);
  clamped[0] &= 0xf8;
  clamped[31] |= 0x40;
  const k = decode(clamped, 0x7f);
  const x1 = decode(point, 0x7f) % P;
  let [x2, z2, x3, z3, swap] = [1n, 0n, x1, 1n, 0n];
  for (let bit = 254n; bit >= 0n; bit -= 1n) {
    const next = (k >> bit) & 1n;
    if (swap !== next) [x2, x3, z2, z3] = [x3, x2, z3, z2];
    swap = next;
    const [a, b, c, d] = [x2 + z2, x2 - z2, x3 + z3, x3 - z3];
    const [aa, bb, da, cb] = [(a * a) % P, (b * b) % P, (d * a) % P, (c * b) % P];
    const e = aa - bb;
    x3 = (da + cb) ** 2n % P;
    z3 = (x1 * ((da - cb) ** 2n % P)) % P;
    x2 = (aa * bb) % P;
    z2 = (e * (aa + 121665n * e)) % P;
  }
  if (swap) [x2, z2] = [x3, z3];
  return encode(modulo(x2 * power(modulo(z2), P - 2n)));
}

function mapToCurve(bytes) {
  const r = decode(bytes, 0x7f) % P;
  const v = modulo(-A * power(modulo(1n + 2n * r * r), P - 2n));
  const isSquare = power(modulo(v * (v * (v + A) + 1n)), (P - 1n) / 2n) === 1n;
  return encode(isSquare ? v : modulo(-v - A));
}

// ---- CPace --------------------------------------------------------------------------------------

/** The draft's `calculate_generator`; SHA-512 takes blocks of 128 bytes. */
export function generator(password, channel, sid) {
  const padding = new Uint8Array(Math.max(0, 127 - lvCat("CPace255", password).length));
  return mapToCurve(sha512(lvCat("CPace255", password, padding, channel, sid)).slice(0, 32));
}

/** The draft's ISK with `transcript_oc`; null where a peer must refuse. */
export function intermediateKey({ scalar, share, sid }, ownData, remoteData, remoteShare) {
  const k = x25519(scalar, remoteShare);
  if (k.every((byte) => byte === 0) || areEqual(share, remoteShare)) return null;
  const ordered = [lvCat(share, ownData), lvCat(remoteShare, remoteData)].sort(compare);
  return sha512(concat(lvCat("CPace255_ISK", sid, k), toBytes("oc"), ordered[1], ordered[0]));
}

/** The room's name and the sessions of both, in the order of their bytes. */
export function exchangeId(room, a, b) {
  return lvCat(room, ...[a, b].sort((x, y) => compare(toBytes(x), toBytes(y))));
}

/** CPace's associated data of `{session, page, fingerprints}`. */
export function associatedData({ session, page, fingerprints }) {
  return lvCat(session, page ? "page" : "program", ...fingerprints);
}

/**
 * One party's half of an exchange: `{scalar, share, sid}`. `kind` is "code" or "key", `password` the six
 * letters or the key; `scalar` is 32 random bytes for this exchange alone.
 */
export function startExchange(kind, password, sid, scalar) {
  return { scalar, sid, share: x25519(scalar, generator(password, `visavis/2 ${kind}`, sid)) };
}

/**
 * What both have in common with the same password and the same view of the two parties:
 * `{confirm, verify(tag), key, emoji}`, or null for a remote share that no honest peer sends.
 */
export function finishExchange(exchange, own, remote, remoteShare) {
  if (own.session === remote.session) return null;
  const [ownData, remoteData] = [associatedData(own), associatedData(remote)];
  const isk = intermediateKey(exchange, ownData, remoteData, remoteShare);
  if (!isk) return null;
  const macKey = sha512(concat(toBytes("CPaceMac"), exchange.sid, isk));
  const expected = mac(macKey, lvCat(remoteShare, remoteData));
  return {
    confirm: mac(macKey, lvCat(exchange.share, ownData)),
    verify: (tag) => areEqual(expected, tag),
    key: hash32("visavis/2 continuity", isk),
    emoji: toEmoji(hash32("visavis/2 emoji", isk)),
  };
}

/** Names a key without telling it. */
export const keyId = (key) => hash32("visavis/2 key id", key);

// ---- Without a secret ---------------------------------------------------------------------------

/** Fixes `nonce` without telling it. */
export function commitment(sid, party, nonce) {
  return hash32("visavis/2 commitment", sid, associatedData(party), nonce);
}

/** Numbers of the emoji to compare; `a` and `b`: `[party, nonce]`. */
export function comparedEmoji(sid, a, b) {
  const halves = [a, b].map(([party, nonce]) => lvCat(associatedData(party), nonce)).sort(compare);
  return toEmoji(hash32("visavis/2 compared emoji", sid, ...halves));
}

const toEmoji = (hash) => Array.from(hash.slice(0, EMOJI_SHOWN), (byte) => byte & 0x3f);

// ---- Session descriptions -----------------------------------------------------------------------

/**
 * All fingerprints of a description in one form, sorted, each once (RFC 8122 §5); null if one cannot be
 * read.
 */
export function fingerprints(sdp) {
  const all = new Set();
  for (const line of sdp.split(/\r?\n/)) {
    if (!line.startsWith("a=fingerprint:")) continue;
    const [, hash, bytes] = /^a=fingerprint:\s*(\S+) +([0-9a-f]{2}(?::[0-9a-f]{2})*)\s*$/i.exec(line) ?? [];
    if (!hash) return null;
    all.add(`${hash.toLowerCase()} ${bytes.toUpperCase()}`);
  }
  return [...all].sort();
}

// ---- Emoji ---------------------------------------------------------------------------------------

/** `[symbol, name]` by number: the same as `EMOJI` of the Rust crate. */
export const EMOJI = Object.freeze([
  ["🐶", "dog"], ["🐱", "cat"], ["🦁", "lion"], ["🐴", "horse"],
  ["🐮", "cow"], ["🐷", "pig"], ["🐘", "elephant"], ["🐰", "rabbit"],
  ["🐼", "panda"], ["🐓", "rooster"], ["🐧", "penguin"], ["🐢", "turtle"],
  ["🐟", "fish"], ["🐙", "octopus"], ["🦋", "butterfly"], ["🐌", "snail"],
  ["🐝", "bee"], ["🦉", "owl"], ["🐳", "whale"], ["🌼", "flower"],
  ["🌳", "tree"], ["🌵", "cactus"], ["🍄", "mushroom"], ["🌙", "moon"],
  ["⛅", "cloud"], ["🔥", "fire"], ["🌈", "rainbow"], ["⭐", "star"],
  ["⛄", "snowman"], ["☔", "umbrella"], ["🍌", "banana"], ["🍎", "apple"],
  ["🍓", "strawberry"], ["🍇", "grapes"], ["🥕", "carrot"], ["🌽", "corn"],
  ["🍞", "bread"], ["🧀", "cheese"], ["🍳", "egg"], ["🍕", "pizza"],
  ["🎂", "cake"], ["🎩", "hat"], ["👓", "glasses"], ["👑", "crown"],
  ["👟", "shoe"], ["🎁", "gift"], ["🎈", "balloon"], ["💡", "lamp"],
  ["📖", "book"], ["📎", "paperclip"], ["🔑", "key"], ["🔨", "hammer"],
  ["📞", "telephone"], ["🔔", "bell"], ["⏰", "clock"], ["🏠", "house"],
  ["🚂", "train"], ["🚲", "bicycle"], ["🚀", "rocket"], ["⛵", "boat"],
  ["⚓", "anchor"], ["🎸", "guitar"], ["🎺", "trumpet"], ["⚽", "ball"],
]);
