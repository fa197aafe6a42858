// The test pattern of `?camera=test-pattern`: colour bars, something that moves, the time in
// figures, and the time-code strip (timecode.js). For diagnosis, demonstrations and tests.

import { every } from "./ticker.js";
import { writeTimeCode } from "./timecode.js";

const WIDTH = 1280;
const HEIGHT = 720;
const FPS = 30;
const GRAIN_TILE = 512;
const BARS = ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0"];

/**
 * A live video track, 1280x720 at 30 frames a second; `stop()` it as any other. `grainy`: under the
 * grain of a camera's sensor, for flat colours leave the encoder without work.
 */
export function createTestPatternTrack(grainy = false) {
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  const context = canvas.getContext("2d", { alpha: false });
  const grain = grainy ? createGrain() : null;
  draw(context, grain);
  const [track] = canvas.captureStream(FPS).getVideoTracks();
  const stopTicking = every(1000 / FPS, () => {
    if (track.readyState === "ended") stopTicking();
    else draw(context, grain);
  });
  return track;
}

/** A tile of luma noise, standard deviation 4 of 255, to lay over the picture at any offset. */
function createGrain() {
  const tile = document.createElement("canvas");
  tile.width = tile.height = GRAIN_TILE;
  const context = tile.getContext("2d");
  const image = context.createImageData(GRAIN_TILE, GRAIN_TILE);
  for (let i = 0; i < image.data.length; i += 4) {
    // The sum of four uniform numbers is nearly normal; theirs has a deviation of 0.58.
    const noise = (4 / 0.58) * (Math.random() + Math.random() + Math.random() + Math.random() - 2);
    // Lighter or darker by blending with white or black.
    image.data.fill(noise > 0 ? 255 : 0, i, i + 3);
    image.data[i + 3] = 2 * Math.abs(noise);
  }
  context.putImageData(image, 0, 0);
  return tile;
}

function draw(context, grain) {
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
  if (grain) {
    const offset = () => -Math.floor(Math.random() * GRAIN_TILE);
    const left = offset();
    for (let y = offset(); y < HEIGHT; y += GRAIN_TILE) {
      for (let x = left; x < WIDTH; x += GRAIN_TILE) context.drawImage(grain, x, y);
    }
  }
  writeTimeCode(context, WIDTH, now);
}
