// The test pattern of `?camera=test-pattern`: colour bars, something that moves, the time in
// figures, and the time-code strip (timecode.js). For diagnosis, demonstrations and tests.

import { every } from "./ticker.js";
import { writeTimeCode } from "./timecode.js";

const WIDTH = 1280;
const HEIGHT = 720;
const FPS = 30;
const BARS = ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0"];

/** A live video track, 1280x720 at 30 frames a second; `stop()` it as any other. */
export function createTestPatternTrack() {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext("2d", { alpha: false });
  draw(context);
  const [track] = canvas.captureStream(FPS).getVideoTracks();
  const stopTicking = every(1000 / FPS, () => {
    if (track.readyState === "ended") stopTicking();
    else draw(context);
  });
  return track;
}

function draw(context) {
  const now = Date.now();
  BARS.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect((i * WIDTH) / BARS.length, 0, WIDTH / BARS.length + 1, HEIGHT);
  });
  context.fillStyle = "#101418";
  context.fillRect(0, HEIGHT * 0.72, WIDTH, HEIGHT * 0.28);

  const angle = (now % 4000) * ((2 * Math.PI) / 4000);
  context.fillStyle = "#fff";
  context.beginPath();
  context.arc(WIDTH / 2 + Math.cos(angle) * 420, HEIGHT * 0.42, 56, 0, 2 * Math.PI);
  context.fill();

  context.font = "48px monospace";
  context.textAlign = "center";
  context.fillText(new Date(now).toISOString().slice(11, 23), WIDTH / 2, HEIGHT * 0.88);
  writeTimeCode(context, WIDTH, now);
}
