// The page of Visavis: joins a room and holds a call with the one other person in it. This module
// wires the views to the devices and the call.
//
// Address: `/` or `/r/ROOM#SECRET`. The secret stays in the fragment, which browsers do not send. For diagnosis, demonstrations and tests:
//   ?camera=test-pattern   sends a test pattern with the time-code strip (timecode.js)
//   ?camera=grainy-test-pattern   the same under the grain of a camera's sensor
//   ?microphone=tone       sends a 440 Hz tone
//   ?microphone=beep       a short 1 kHz tone whenever these patterns flash, once a second
//   ?camera=none, ?microphone=none   as if there was no such device
//   ?auto=1                joins the room of `/r/ROOM` without a click, with none but these sources:
//                          a link must not show a person's camera to whoever made it
// and `window.visavis`, see debug.js.

import { Identity } from "./authentication.js";
import { Call } from "./call.js";
import { CallView } from "./call-view.js";
import { exposeDebug } from "./debug.js";
import { connectDevices } from "./device-view.js";
import { Lobby } from "./lobby.js";
import { Media } from "./media.js";
import { fromHex, toHex } from "./proof.js";
import { codePath, parseCode, randomSession } from "./protocol.js";
import { SelfView } from "./self-view.js";
import { announce, byId, load, save, setText, showView } from "./ui.js";
import { endWords, spokenDuration } from "./words.js";

/** Where a reloaded page finds its seat again: `{room, displayName, resumeToken, key}`. */
const SEAT_KEY = "visavis.seat";
/** How often the code of each room was guessed at in vain: `{room: number}`. */
const GUESSES_KEY = "visavis.guesses";

const parameters = new URLSearchParams(location.search);
const media = new Media({
  camera: parameters.get("camera"),
  microphone: parameters.get("microphone"),
  music: parameters.get("music") === "1",
});
const callView = new CallView(media);
const lobby = new Lobby(media, join);
new SelfView(media);
connectDevices(media);

/** The present or last call. */
let call = null;
let lastJoin = null;

function join({ code, displayName }) {
  const { room } = code;
  lastJoin = { code, displayName };
  const seat = load("sessionStorage", SEAT_KEY);
  const { resumeToken, key } = seat?.room === room ? seat : {};
  const guesses = load("localStorage", GUESSES_KEY)?.[room] ?? 0;
  const identity = new Identity({ ...code, key: key ? fromHex(key) : null, guesses });
  const url = new URL("/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  call = new Call({
    url: url.href,
    join: { room, displayName, resumeToken, session: randomSession() },
    identity,
    tracks: media.tracks,
    mediaState: media.state,
    music: media.music,
  });
  let keep = key ? { key } : {};
  call.addEventListener("seat", ({ detail }) => {
    keep = { ...keep, room, displayName, resumeToken: detail.resumeToken };
    save("sessionStorage", SEAT_KEY, keep);
  });
  call.addEventListener("proof", ({ detail }) => {
    if (detail.key && toHex(detail.key) !== keep.key) {
      keep.key = toHex(detail.key);
      save("sessionStorage", SEAT_KEY, keep);
    }
    const all = load("localStorage", GUESSES_KEY) ?? {};
    if ((all[room] ?? 0) === detail.guesses) return;
    save("localStorage", GUESSES_KEY, { ...all, [room]: detail.guesses || undefined });
  });
  const current = call;
  call.addEventListener("change", () => {
    if (current === call && current.phase === "ended") onEnded(current);
  });
  if (addressOf(code) !== here()) history.pushState(null, "", addressOf(code));
  callView.show(call, code);
  call.start();
}

function onEnded({ endReason, endDetail, durationMs }) {
  save("sessionStorage", SEAT_KEY, null);
  const { title, text } = endWords(endReason, endDetail);
  // A warning that nobody takes for the end of a call, with one way out.
  const isWarning = endReason === "not-proven";
  byId("ended").classList.toggle("warning", isWarning);
  byId("call-again").hidden = isWarning;
  byId("back").classList.toggle("primary", isWarning);
  setText(byId("ended-title"), title);
  setText(byId("ended-text"), text);
  setText(byId("ended-duration"), `It lasted ${spokenDuration(durationMs)}.`);
  byId("ended-duration").hidden = durationMs === 0;
  setText(byId("ended-detail"), endDetail ?? "");
  byId("ended-detail").hidden = !endDetail || isWarning;
  setText(byId("call-again"), durationMs > 0 ? "Call again" : "Try again");
  document.title = "Visavis";
  showView("ended", byId("ended-title"));
  announce(`${title}. ${text}`);
}

byId("call-again").addEventListener("click", () => join(lastJoin));
byId("back").addEventListener("click", () => {
  history.pushState(null, "", `/${location.search}`);
  lobby.show(null);
});
addEventListener("popstate", () => {
  if (call && call.phase !== "ended") call.leave();
  lobby.show(codeOfAddress());
});

// A page that is closed is gone for the other side soon; one that is loaded anew comes back.
addEventListener("pagehide", () => {
  if (call && call.phase !== "ended") call.depart();
});
addEventListener("pageshow", ({ persisted }) => {
  // Kept by the browser and shown again: its call is not, but the seat is.
  if (persisted && call && call.phase !== "ended") location.reload();
});

let sent = { ...media.tracks };
media.addEventListener("change", () => {
  const now = media.tracks;
  for (const kind of ["audio", "video"]) {
    if (now[kind] !== sent[kind]) call?.setTrack(kind, now[kind]);
  }
  sent = { ...now };
  call?.setMediaState(media.state);
  call?.setMusic(media.music);
});

const here = () => location.pathname + location.search + location.hash;

/** Keeps the diagnostic parameters, so that they survive a reload. */
function addressOf(code) {
  const [path, fragment] = codePath(code).split("#");
  return `${path}${location.search}${fragment ? `#${fragment}` : ""}`;
}

function codeOfAddress() {
  return location.pathname.startsWith("/r/") ? parseCode(location.pathname + location.hash) : null;
}

/** After a reload in the middle of a call the person wants to be back in it, not in the lobby. */
function isReloadOfCall(room) {
  const [navigation] = performance.getEntriesByType("navigation");
  return navigation?.type === "reload" && load("sessionStorage", SEAT_KEY)?.room === room;
}

exposeDebug(media, () => call);
const code = codeOfAddress();
// A secret that somebody typed into the path does not stay where the server would see it again.
if (code) history.replaceState(null, "", addressOf(code));
lobby.show(code);
const opened = media.open();
const isAutomatic = parameters.get("auto") === "1" && media.isSynthetic;
if (code && (isAutomatic || isReloadOfCall(code.room))) {
  // With the devices at once, if they are quick; a question to the person must not keep the call.
  await Promise.race([opened, new Promise((resolve) => setTimeout(resolve, 1500))]);
  if (!call) lobby.enter(code);
}
