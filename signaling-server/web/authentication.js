// The proof of one peer connection: what is said, what it means, and when it stands. Pure; mirrors
// crates/call/src/proof.rs.
//
// Both peers do the same: each has one message whose first part is fixed for the connection, and which
// carries a confirmation once the remote peer's is known. Whichever description or signal brings it, and
// however often, it means the same.

import {
  MAX_GUESSES,
  commitment,
  comparedEmoji,
  exchangeId,
  fingerprints,
  finishExchange,
  fromHex,
  keyId,
  randomBytes,
  startExchange,
  toHex,
} from "./proof.js";

/** There is no proof, and the call ends; `reason`: "mismatch", "no-secret", "spent" or "silence". */
export class NotProven extends Error {
  name = "NotProven";

  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

/** What outlives a peer connection: `{room, secret, key, guesses}`; `secret` and `key` may be null. */
export class Identity {
  constructor({ room, secret = null, key = null, guesses = 0 }) {
    this.room = room;
    this.secret = secret?.replace("-", "") ?? null;
    this.key = key;
    this.guesses = guesses;
  }

  get isSpent() {
    return this.secret !== null && this.key === null && this.guesses >= MAX_GUESSES;
  }
}

export class Proof {
  /** `{isProven, emoji, remoteIsPage}` once it is known who the remote peer is. */
  result = null;

  #identity;
  #own = null;
  #ownFingerprints = null;
  #remoteFingerprints = null;
  /** The first message of the remote peer; what others of it must begin with. */
  #remote = null;
  #remoteConfirm = null;
  /** `{kind, agreement}`; `kind` is "code", "key" or "nothing". */
  #common = null;
  #pendingGuesses = 0;

  constructor(identity) {
    this.#identity = identity;
  }

  /** Whether our confirmation was given away and the remote peer's is missing. */
  get lacksConfirmation() {
    return this.result === null && this.#common !== null;
  }

  /** Our message as it is now, or undefined. */
  get message() {
    if (!this.#own) return undefined;
    const confirm = this.#common && (this.#common.agreement?.confirm ?? this.#own.nonce);
    return { ...this.#own.message, ...(confirm && { confirm: toHex(confirm) }) };
  }

  get isConfirmed() {
    return this.message?.confirm !== undefined;
  }

  /** Notes an own description; returns the message to send with it. */
  describe(session, remoteSession, sdp) {
    const all = fingerprints(sdp);
    this.#ownFingerprints = all?.length > 0 ? all : null;
    this.#begin(session, remoteSession);
    this.#advance();
    return this.message;
  }

  /** The fingerprints of a remote description that may be used; null for one that may not. */
  check({ sdp }, message) {
    const all = fingerprints(sdp);
    const known = this.#remoteFingerprints;
    if (!all || (known && String(known) !== String(all))) return null;
    return this.#remote && message && !isSamePeer(this.#remote, message) ? null : all;
  }

  /** Notes a remote description that is used, with its fingerprints as `check` returned them. */
  described(all, message) {
    this.#remoteFingerprints = all;
    if (message) return void this.receive(message);
    if (this.result || this.#remote) return;
    // Nobody talks to us without a proof who could have one.
    if (this.#identity.secret || this.#identity.key) throw new NotProven("no-secret");
    this.result = { isProven: false, emoji: null, remoteIsPage: false };
  }

  /** A message of the remote peer; whether it asks for an answer. */
  receive(message) {
    if (this.result) return message.again === true;
    if (message.failed) throw new NotProven(message.failed);
    if (this.#remote && !isSamePeer(this.#remote, message)) return false;
    this.#remoteConfirm ??= message.confirm ? fromHex(message.confirm) : null;
    this.#remote ??= message;
    this.#advance();
    return message.again === true;
  }

  /** Goes as far as what is known allows. */
  #advance() {
    const [own, remote, identity] = [this.#own, this.#remote, this.#identity];
    if (!own || !remote || !this.#ownFingerprints || !this.#remoteFingerprints || this.result) return;
    const ownParty = { session: own.session, page: true, fingerprints: this.#ownFingerprints };
    const remoteParty = {
      session: own.remoteSession,
      page: remote.page === true,
      fingerprints: this.#remoteFingerprints,
    };
    const finish = (exchange, share) => {
      // Without a fingerprint there is nothing that DTLS would be checked against.
      const hasFingerprints = remoteParty.fingerprints.length > 0;
      const agreement = hasFingerprints && finishExchange(exchange, ownParty, remoteParty, fromHex(share));
      if (!agreement) throw new NotProven("mismatch");
      return agreement;
    };
    if (!this.#common) {
      if (own.key && remote.key && own.message.key.id === remote.key.id) {
        this.#common = { kind: "key", agreement: finish(own.key, remote.key.share) };
      } else if (own.code && remote.code) {
        if (identity.guesses >= MAX_GUESSES) throw new NotProven("spent");
        identity.guesses += 1;
        this.#pendingGuesses += 1;
        this.#common = { kind: "code", agreement: finish(own.code, remote.code) };
      } else if (own.message.commitment && remote.commitment) {
        this.#common = { kind: "nothing" };
      } else {
        throw new NotProven("no-secret");
      }
    }
    const { kind, agreement } = this.#common;
    const confirm = this.#remoteConfirm;
    if (!confirm) return;
    const isRight = agreement
      ? agreement.verify(confirm)
      : toHex(commitment(own.sid, remoteParty, confirm)) === remote.commitment;
    if (!isRight) throw new NotProven("mismatch");
    const emoji =
      agreement?.emoji ?? comparedEmoji(own.sid, [ownParty, own.nonce], [remoteParty, confirm]);
    if (kind === "code") identity.key = agreement.key;
    identity.guesses -= this.#pendingGuesses;
    this.#pendingGuesses = 0;
    this.result = { isProven: kind !== "nothing", emoji, remoteIsPage: remoteParty.page };
  }

  /** Makes the own part, once. */
  #begin(session, remoteSession) {
    if (this.#own || !this.#ownFingerprints) return;
    const { room, secret, key } = this.#identity;
    const sid = exchangeId(room, session, remoteSession);
    const start = (kind, password) => password && startExchange(kind, password, sid, randomBytes(32));
    const own = { session, remoteSession, sid, nonce: randomBytes(32) };
    own.code = start("code", secret);
    own.key = start("key", key);
    own.message = { page: true };
    if (own.code) own.message.code = toHex(own.code.share);
    if (own.key) own.message.key = { id: toHex(keyId(key)), share: toHex(own.key.share) };
    if (!own.code && !own.key) {
      const party = { session, page: true, fingerprints: this.#ownFingerprints };
      own.message.commitment = toHex(commitment(sid, party, own.nonce));
    }
    this.#own = own;
  }
}

/** Whether two messages have the same first part. */
function isSamePeer(a, b) {
  const first = ({ page, code, key, commitment: fixed }) => [page === true, code, key?.id, key?.share, fixed];
  return String(first(a)) === String(first(b));
}
