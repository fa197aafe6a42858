// Every sentence that depends on a state: what happened, what it means, what to do. Pure.

/** Titles and sentences of the ended view, by end reason. */
const ENDED = {
  "local-hangup": ["You left the call", ""],
  "remote-hangup": ["The call is over", "The other side hung up."],
  "remote-lost": [
    "The other side is gone",
    "It lost its connection and did not come back. Call again in a moment.",
  ],
  "room-full": [
    "The room is full",
    "Two people are in it already. Check the code, or make a new room.",
  ],
  "room-locked": ["The room is locked", "The people inside have locked it. Ask them to open it."],
  "refused-entry": [
    "You were not let in",
    "The person inside did not let you in. Ask them, then try again in a minute.",
  ],
  "unsupported-version": [
    "This page is out of date",
    "The server speaks another version of the protocol. Reload the page.",
  ],
  replaced: ["The call goes on elsewhere", "It was taken over by another window of yours."],
  "too-many-joins": [
    "Too many attempts",
    "The server has had too many requests from this address. Wait a minute, then call again.",
  ],
  "too-many-rooms": [
    "The server is full",
    "It holds as many rooms as it can. Try again later.",
  ],
  refused: ["The server ended the call", "It did not accept what this page sent. Reload the page."],
  "server-unreachable": [
    "The server cannot be reached",
    "Check your network connection, then try again.",
  ],
  "connection-failed": [
    "No way to the other side",
    "The two networks let no direct connection through. A relay (TURN server) may be needed.",
  ],
  "connection-lost": [
    "The connection was lost",
    "It could not be restored. Check your network connection, then call again.",
  ],
  "unsupported-browser": [
    "This browser cannot make calls",
    "It has no WebRTC, or that is switched off, as in lockdown mode or by a policy. Use another browser, or the Visavis app.",
  ],
  incompatible: [
    "The two sides could not agree",
    "The other side's program and this browser have no common format. Try another browser.",
  ],
};

/** The same where it was not proven who the other person is, by what was missing. */
const NOT_PROVEN = {
  mismatch: [
    "Not the person with your code",
    "The other person did not prove to know your code. Its last six letters may have been mistyped, or somebody tried to get in between the two of you. Nothing of you was sent. Compare the code with each other by another way, then try again.",
  ],
  "no-secret": [
    "Half of the code is missing",
    "One of you may have entered only the first half of the code, or somebody tried to get in between the two of you. Nothing of you was sent. Both need the whole code or the whole link.",
  ],
  spent: [
    "This code is spent",
    "It was tried in vain five times, so it is not safe any more. Make a new room and share its code.",
  ],
  silence: [
    "No proof arrived",
    "The proof that it is the other person did not arrive. Nothing of you was sent. Call again in a moment.",
  ],
};

/** `{title, text}` for an end reason. */
export function endWords(reason, detail) {
  const words = reason === "not-proven" ? NOT_PROVEN[detail] : ENDED[reason];
  const [title, text] = words ?? ["The call is over", ""];
  return { title, text };
}

/**
 * One sentence on why there is no picture or sound of our own; null if there is no problem.
 * `kind`: "camera", "microphone", or "camera and microphone" where both have the same one.
 */
export function problemWords(kind, problem) {
  const isBoth = kind.includes(" and ");
  const it = isBoth ? "them" : "it";
  const is = isBoth ? "are" : "is";
  const deprived = { camera: "see you", microphone: "hear you" }[kind] ?? "see or hear you";
  const without = `You can join without ${it}; the other side will not ${deprived}.`;
  switch (problem) {
    case null:
      return null;
    case "refused":
      return `The ${kind} ${is} blocked for this page. ${without} To allow ${it}, use the icon beside the address, then try again.`;
    case "missing":
      return `No ${kind.replace(" and ", " and no ")} was found. ${without}`;
    case "busy":
      return `The ${kind} ${is} in use by another program, or did not start. Close that program, then try again.`;
    case "unplugged":
      return `The ${kind} ${isBoth ? "were" : "was"} unplugged. Plug ${it} in again, or choose another one.`;
    case "insecure":
      return `The browser gives the ${kind} only to pages opened over https:// or on this computer. ${without}`;
    default:
      return `The ${kind} did not start. ${without}`;
  }
}

/** The same in two or three words, for a badge. */
export function problemShort(kind, problem) {
  const name = kind === "camera" ? "Camera" : "Microphone";
  return { refused: `${name} blocked`, insecure: `${name} blocked`, missing: `No ${kind}` }[problem]
    ?? `${name} not working`;
}

/** Phase in words, for the notice in the middle and for screen readers. */
export function phaseWords(phase, { peerGone = false, signalingLink = "open" } = {}) {
  switch (phase) {
    case "joining":
      return "Joining the room…";
    case "knocking":
      return "Waiting to be let in…";
    case "waiting":
      return signalingLink === "reconnecting"
        ? "Lost the server. Trying to reach it again…"
        : "Waiting for the other side…";
    case "connecting":
      return "Connecting…";
    case "connected":
      return "Connected";
    case "reconnecting":
      if (signalingLink === "reconnecting") return "Your connection is interrupted. Reconnecting…";
      return peerGone ? "The other side is not reachable. Waiting for it…" : "Reconnecting…";
    default:
      return "";
  }
}

/** `{short, title, text}` for what is known of who the other person is. */
export function proofWords({ isProven, emoji, remoteIsPage }) {
  if (isProven) {
    return {
      short: "Proven by the code",
      title: "Encrypted, proven by the code",
      text:
        "The other person knows your code, and nobody in between can listen, if you trust the server of this page" +
        `${remoteIsPage ? "" : "; their program needs no such trust"}. Both of you see the same pictures:`,
    };
  }
  return {
    short: "Not proven",
    title: "Encrypted, not proven",
    text: emoji
      ? "Without the second half of the code nobody has shown who is at the other end. Read these to each other: if they are the same, nobody is in between."
      : "The other program cannot prove who is at the other end. Somebody in between could listen.",
  };
}

/** `{title, text}` for those who ask to be let in, `[{displayName}, …]`. */
export function knockWords([first, ...others]) {
  const more = others.length === 1 ? "One more person is" : `${others.length} more people are`;
  const text = "If you let them in, the person who is missing loses the place in this call.";
  return {
    title: `${first.displayName ?? "Somebody without a name"} wants to come in`,
    text: others.length > 0 ? `${text} ${more} waiting.` : text,
  };
}

/** Such as "Good · direct · 18 ms". */
export function qualityWords({ quality, route, rttMs }) {
  const word = { good: "Good", fair: "Fair", poor: "Poor" }[quality];
  if (!word) return "Measuring…";
  return [word, route, `${Math.round(rttMs)} ms`].filter(Boolean).join(" · ");
}

/** `4:07` or `1:04:07`. */
export function durationWords(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${two(m)}:${two(s)}`;
}

/** Such as "3 minutes 12 seconds", for reading aloud and for the ended view. */
export function spokenDuration(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [
    [Math.floor(seconds / 3600), "hour"],
    [Math.floor(seconds / 60) % 60, "minute"],
    [seconds % 60, "second"],
  ];
  const words = parts.filter(([n]) => n > 0).map(([n, unit]) => `${n} ${unit}${n === 1 ? "" : "s"}`);
  return words.join(" ") || "0 seconds";
}
