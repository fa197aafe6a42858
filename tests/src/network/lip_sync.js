// Measures in a page when flashes are seen and beeps are heard; two functions.
//
// Sound: MediaStreamTrackProcessor has each block as it is handed out to be played, which WebAudio's
// own buffers would only delay. Its timestamps are of a clock with another origin: the block that
// reached us quickest tells how far off that is.
"use strict";

/** Calls `onBeep(when)` in ms of `performance.now()`, whenever sound begins after silence. */
async function listenForBeeps(track, onBeep) {
  const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
  let origin = Infinity;
  let quiet = 0;
  for (;;) {
    const { value: block, done } = await reader.read();
    if (done) return;
    origin = Math.min(origin, performance.now() - block.timestamp / 1000);
    const at = block.timestamp / 1000 + origin;
    const samples = new Float32Array(block.numberOfFrames);
    block.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    samples.forEach((sample, n) => {
      // As in the headless peer: 12 dB below the beep's peaks, after 0.3 s of silence.
      if (Math.abs(sample) < 0.06) quiet += 1;
      else {
        if (quiet > 0.3 * block.sampleRate) onBeep(at + (n * 1000) / block.sampleRate);
        quiet = 0;
      }
    });
    block.close();
  }
}

/** Returns a function that takes a picture and says, when a flash begins, how old it was when the
 * picture was drawn (ms, from the time code); otherwise null. */
function flashDetector() {
  const canvas = new OffscreenCanvas(160, 4);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let wasWhite = false;
  return (picture, width) => {
    context.drawImage(picture, 0, 0, width, width / 40, 0, 0, 160, 4);
    const { data } = context.getImageData(0, 0, 160, 4);
    const luma = (block) => data[(160 * 2 + block * 4 + 2) * 4 + 1];
    const white = [34, 35, 36, 37, 38, 39].every((block) => luma(block) > 175);
    const begins = white && !wasWhite;
    wasWhite = white;
    if (!begins) return null;
    let code = 0;
    for (let b = 0; b < 32; b++) if (luma(b) > 127) code |= 1 << b;
    const age = (code >>> 0) % 1000;
    return age < 100 ? age : null;
  };
}

/** Collects `[Unix ms, how much later the beep came than the flash, ms]`. */
function pairs() {
  const list = [];
  let flash = null;
  let beep = null;
  const pair = () => {
    if (flash === null || beep === null || Math.abs(beep - flash) >= 500) return;
    list.push([performance.timeOrigin + performance.now(), beep - flash]);
    flash = beep = null;
  };
  const onFlash = (at) => ((flash = at), pair());
  const onBeep = (at) => ((beep = at), pair());
  return { list, onFlash, onBeep };
}

/** What the page receives: pictures when they are expected to be displayed. */
window.watchReceived = () => {
  const { list, onFlash, onBeep } = pairs();
  const video = document.getElementById("remote");
  const flash = flashDetector();
  const onFrame = (_, { expectedDisplayTime, width }) => {
    const age = flash(video, width);
    if (age !== null) onFlash(expectedDisplayTime - age);
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);
  const wait = setInterval(() => {
    const track = video.srcObject?.getAudioTracks()[0];
    if (!track) return;
    clearInterval(wait);
    listenForBeeps(track, onBeep);
  }, 50);
  window.benchReceived = list;
  return true;
};

/** What the page sends, as its own WebRTC stack gets it. */
window.watchSent = () => {
  const { list, onFlash, onBeep } = pairs();
  const tracks = benchConnections.flatMap((c) => c.getSenders()).map((s) => s.track?.clone());
  listenForBeeps(tracks.find((t) => t?.kind === "audio"), onBeep);
  const look = async (track) => {
    const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
    const flash = flashDetector();
    let origin = Infinity;
    for (;;) {
      const { value: picture, done } = await reader.read();
      if (done) return;
      origin = Math.min(origin, performance.now() - picture.timestamp / 1000);
      const age = flash(picture, picture.displayWidth);
      if (age !== null) onFlash(picture.timestamp / 1000 + origin - age);
      picture.close();
    }
  };
  look(tracks.find((t) => t?.kind === "video"));
  window.benchSent = list;
  return true;
};
