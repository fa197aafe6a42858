// `window.visavis`: what the page knows, for engineers at the console, and for tests. Read-only.

import { LevelMeter, SILENCE_DBFS } from "./audio.js";
import { EMOJI } from "./proof.js";
import { TimeCodeReader, timeCodeAge } from "./timecode.js";
import { byId } from "./ui.js";

export function exposeDebug(media, currentCall) {
  const reader = new TimeCodeReader();
  let meter = null;

  function remoteMeter() {
    const track = currentCall()?.remoteStream?.getAudioTracks()[0];
    if (meter?.track !== track) {
      meter?.close();
      meter = track ? new LevelMeter(track) : null;
    }
    return meter;
  }

  window.visavis = Object.freeze({
    /** Everything about the call and the devices, as plain data. */
    state: () => describe(media, currentCall()),
    /** Time code in the remote picture shown now: Unix ms modulo 2^32, or null. */
    readTimeCode: () => reader.read(byId("remote")),
    /** RMS of the remote sound, dBFS; -100 for silence. */
    remoteLevel: () => remoteMeter()?.levelDbfs() ?? SILENCE_DBFS,
    /** Loudest frequency of the remote sound in Hz, or null. */
    remoteTone: () => remoteMeter()?.toneHz() ?? null,
    /** Reads the time code of every frame shown for so long: `{frames, latencyMs: {p50, p95, max}}`. */
    watchTimeCode: (seconds = 10) => watch(reader, currentCall, seconds),
  });
}

function describe(media, call) {
  const device = ({ track, problem }) => ({ label: track?.label ?? null, problem });
  const common = {
    view: document.body.dataset.view,
    media: { ...media.state, devices: { camera: device(media.camera), microphone: device(media.microphone) } },
  };
  if (!call || common.view === "lobby") return { phase: "lobby", ...common };
  const { phase, endReason, endDetail, polite, peer, remoteMedia, states, stats } = call;
  const { authentication, clockOffsetMs, peerConnections, iceRestarts, durationMs, connectedAt } = call;
  return {
    phase,
    endReason,
    endDetail,
    polite,
    peer: peer && { ...peer },
    isPeerGone: call.isPeerGone,
    isLocked: call.isLocked,
    authentication: authentication && {
      ...authentication,
      emoji: authentication.emoji?.map((number) => EMOJI[number][1]) ?? null,
    },
    knocks: call.knocks.map((knock) => ({ ...knock })),
    remoteMedia,
    states,
    stats,
    clockOffsetMs,
    peerConnections,
    iceRestarts,
    connectedForMs: phase === "ended" ? durationMs : connectedAt && performance.now() - connectedAt,
    ...common,
  };
}

function watch(reader, currentCall, seconds) {
  const video = byId("remote");
  const latencies = [];
  let frames = 0;
  const end = performance.now() + seconds * 1000;
  return new Promise((resolve) => {
    const onFrame = () => {
      frames += 1;
      const code = reader.read(video);
      // In the sender's clock, where the data channel has measured it.
      const now = Date.now() + (currentCall()?.clockOffsetMs ?? 0);
      if (code !== null) latencies.push(timeCodeAge(code, now));
      if (performance.now() < end) video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
    setTimeout(() => {
      latencies.sort((a, b) => a - b);
      const at = (q) => latencies[Math.min(latencies.length - 1, Math.floor(q * latencies.length))] ?? null;
      resolve({ frames, read: latencies.length, latencyMs: { p50: at(0.5), p95: at(0.95), max: at(1) } });
    }, seconds * 1000);
  });
}
