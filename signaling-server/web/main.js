// The page of Visavis: joins a room and holds a call with the one other person in it. This module
// wires the views to the devices and the call.
//
// Address: `/` or `/r/CODE`. For diagnosis, demonstrations and tests:
//   ?camera=test-pattern   sends a test pattern with the time-code strip (timecode.js)
//   ?camera=grainy-test-pattern   the same under the grain of a camera's sensor
//   ?microphone=tone       sends a 440 Hz tone
//   ?microphone=beep       a short 1 kHz tone whenever these patterns flash, once a second
//   ?camera=none, ?microphone=none   as if there was no such device
//   ?auto=1                joins the room of `/r/CODE` without a click, with none but these sources:
//                          a link must not show a person's camera to whoever made it
// and `window.visavis`, see debug.js.

import { Call } from "./call.js";
import { CallView } from "./call-view.js";
import { exposeDebug } from "./debug.js";
import { connectDevices } from "./device-view.js";
import { Lobby } from "./lobby.js";
import { Media } from "./media.js";
import { parseRoomCode, randomSession } from "./protocol.js";
import { SelfView } from "./self-view.js";
import { announce, byId, load, save, setText, showView } from "./ui.js";
import { endWords, spokenDuration } from "./words.js";

/** Where a reloaded page finds its seat again: `{room, displayName, resumeToken}`. */
const SEAT_KEY = "visavis.seat";

const parameters = new URLSearchParams(location.search);
const media = new Media({
  camera: parameters.get("camera"),
  microphone: parameters.get("microphone"),
});
const callView = new CallView(media);
const lobby = new Lobby(media, join);
new SelfView(media);
connectDevices(media);

/** The present or last call. */
let call = null;
let lastJoin = null;

function join({ room, displayName }) {
  lastJoin = { room, displayName };
  const seat = load("sessionStorage", SEAT_KEY);
  const resumeToken = seat?.room === room ? seat.resumeToken : undefined;
  const url = new URL("/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  call = new Call({
    url: url.href,
    join: { room, displayName, resumeToken, session: randomSession() },
    tracks: media.tracks,
    mediaState: media.state,
  });
  call.addEventListener("seat", ({ detail }) => {
    save("sessionStorage", SEAT_KEY, { room, displayName, resumeToken: detail.resumeToken });
  });
  const current = call;
  call.addEventListener("change", () => {
    if (current === call && current.phase === "ended") onEnded(current);
  });
  setAddress(`/r/${room}`);
  callView.show(call, room);
  call.start();
}

function onEnded({ endReason, endDetail, durationMs }) {
  save("sessionStorage", SEAT_KEY, null);
  const { title, text } = endWords(endReason);
  setText(byId("ended-title"), title);
  setText(byId("ended-text"), text);
  setText(byId("ended-duration"), `It lasted ${spokenDuration(durationMs)}.`);
  byId("ended-duration").hidden = durationMs === 0;
  setText(byId("ended-detail"), endDetail ?? "");
  byId("ended-detail").hidden = !endDetail;
  setText(byId("call-again"), durationMs > 0 ? "Call again" : "Try again");
  document.title = "Visavis";
  showView("ended", byId("ended-title"));
  announce(`${title}. ${text}`);
}

byId("call-again").addEventListener("click", () => join(lastJoin));
byId("back").addEventListener("click", () => {
  setAddress("/");
  lobby.show(null);
});
addEventListener("popstate", () => {
  if (call && call.phase !== "ended") call.leave();
  lobby.show(roomOfAddress());
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
});

/** Keeps the diagnostic parameters, so that they survive a reload. */
function setAddress(path) {
  if (location.pathname !== path) history.pushState(null, "", path + location.search);
}

function roomOfAddress() {
  return location.pathname.startsWith("/r/") ? parseRoomCode(location.pathname) : null;
}

/** After a reload in the middle of a call the person wants to be back in it, not in the lobby. */
function isReloadOfCall(room) {
  const [navigation] = performance.getEntriesByType("navigation");
  return navigation?.type === "reload" && load("sessionStorage", SEAT_KEY)?.room === room;
}

exposeDebug(media, () => call);
const room = roomOfAddress();
lobby.show(room);
const opened = media.open();
const isAutomatic = parameters.get("auto") === "1" && media.isSynthetic;
if (room && (isAutomatic || isReloadOfCall(room))) {
  // With the devices at once, if they are quick; a question to the person must not keep the call.
  await Promise.race([opened, new Promise((resolve) => setTimeout(resolve, 1500))]);
  if (!call) lobby.enter(room);
}
