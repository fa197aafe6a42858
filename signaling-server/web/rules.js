// What the page has in common with native peers: when something is tried again or given up, and with which code
// a call ends. Pure. `crates/call/fixtures/rules.json` has the same; tests compare.

export const TIMES_MS = {
  /** An offer that is not answered by then is sent again. */
  answer: 4000,
  /** Silence on a `disconnected` path after which ICE is restarted, instead of waiting for `failed`. */
  disconnectedGrace: 1000,
  /** How long the polite side waits for the other one to restart ICE; both at once cost a round. */
  politeDelay: 1500,
  /** Between two ICE restarts that did not help. */
  restartInterval: 8000,
  /** No connection by then: there is no path. */
  connectLimit: 40000,
  /** A call without media is over by then, whoever is at fault. */
  reconnectLimit: 60000,
  /** A call without media whose other side the server has lost is over by then: a long tunnel. */
  remoteReturnLimit: 45000,
  /** A confirmation of the remote peer that did not come is asked for after this. */
  proof: 2000,
};

/** Refusals that have an end code of their own. */
const REFUSALS = [
  "room-full",
  "room-locked",
  "refused-entry",
  "unsupported-version",
  "replaced",
  "too-many-joins",
  "too-many-rooms",
];

/** With which code a call ends that the server refuses with `code`. */
export function endOfRefusal(code) {
  return REFUSALS.includes(code) ? code : "refused";
}
