// The time code of the test pattern. The picture's top strip holds 32 square blocks, each 1/40 of
// the width, from the left edge; block b (0 = leftmost) is white (luma 185 to 235) if bit b of the
// sender's Unix time in milliseconds, modulo 2^32, is set, black (luma 16) if not. The strip's right
// end, six blocks wide, flashes: it is white in the first tenth of each second of that time. The
// native peers write and read the same strip.

const BLOCKS = 32;
const BLOCKS_PER_WIDTH = 40;
/** Between these lumas (full range) a block is neither black nor white: there is no strip. */
const SURELY_BLACK = 80;
const SURELY_WHITE = 175;

/** Neighbouring blocks have their own white: real-time encoders may take two that change places for no change. */
const WHITES = [255, 243, 226, 203, 249, 238, 220, 197];

/** Where the flash begins; it goes on to the right edge. */
const FLASH_BLOCK = 34;
/** From flash to flash, and how long one is. */
const BEAT_MS = 1000;
export const FLASH_MS = 100;

/** How long it is until the next flash begins, ms; nearly `BEAT_MS` right after the last one did. */
export function untilFlash(unixMs) {
  return BEAT_MS - ((unixMs % 2 ** 32) % BEAT_MS);
}

/** Draws the strip for `unixMs` on top of a 2D canvas of that width. */
export function writeTimeCode(context, width, unixMs) {
  const bits = Math.floor(unixMs) % 2 ** 32 >>> 0;
  const side = width / BLOCKS_PER_WIDTH;
  for (let b = 0; b < BLOCKS; b++) {
    // Full-range RGB 255 and 0 become limited-range luma 235 and 16 in the encoder.
    const white = WHITES[b % WHITES.length];
    context.fillStyle = (bits >>> b) & 1 ? `rgb(${white} ${white} ${white})` : "#000";
    context.fillRect(Math.round(b * side), 0, Math.ceil(side), Math.ceil(side));
  }
  context.fillStyle = bits % BEAT_MS < FLASH_MS ? "#fff" : "#000";
  context.fillRect(Math.round(FLASH_BLOCK * side), 0, width, Math.ceil(side));
}

/** Reads strips from a video element; keeps one small canvas for all reads. */
export class TimeCodeReader {
  #canvas = document.createElement("canvas");
  #context;

  constructor() {
    this.#canvas.width = BLOCKS * 4;
    this.#canvas.height = 4;
    this.#context = this.#canvas.getContext("2d", { willReadFrequently: true });
  }

  /** The time code of the picture shown now (ms modulo 2^32), or null if there is no strip. */
  read(video) {
    const width = video.videoWidth;
    if (!width || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return null;
    const side = width / BLOCKS_PER_WIDTH;
    this.#context.drawImage(video, 0, 0, side * BLOCKS, side, 0, 0, BLOCKS * 4, 4);
    const { data } = this.#context.getImageData(0, 0, BLOCKS * 4, 4);
    let bits = 0;
    for (let b = 0; b < BLOCKS; b++) {
      const luma = blockLuma(data, b);
      if (luma > SURELY_BLACK && luma < SURELY_WHITE) return null;
      if (luma >= SURELY_WHITE) bits |= 1 << b;
    }
    // All black or all white is no time of this century's strip but an even picture.
    return bits === 0 || bits === -1 ? null : bits >>> 0;
  }
}

/** Age in ms of a time code read at `nowMs`, over the wrap of 2^32. */
export function timeCodeAge(code, nowMs) {
  return ((Math.floor(nowMs) % 2 ** 32) - code) | 0;
}

/** Mean of the four pixels in the middle of block `b` of the 4x4-pixel blocks. */
function blockLuma(data, b) {
  let sum = 0;
  for (const y of [1, 2]) {
    for (const x of [b * 4 + 1, b * 4 + 2]) {
      const i = (y * BLOCKS * 4 + x) * 4;
      sum += 0.2126 * data[i] + 0.7152 * data[i + 1] + 0.0722 * data[i + 2];
    }
  }
  return sum / 4;
}
