// A QR code of a link (ISO/IEC 18004): byte mode, error correction level M, versions 1 to 10, which
// is up to 213 bytes. Mask 0 is always used: readers accept any, and choosing the best one matters
// for worn print rather than for a screen.

const MAX_VERSION = 10;
/** Level M, by version: error-correction codewords a block, and blocks. */
const EC_CODEWORDS = [0, 10, 16, 26, 18, 24, 16, 18, 22, 22, 26];
const BLOCKS = [0, 1, 1, 1, 2, 2, 4, 4, 4, 5, 5];
/** Format bits for level M and mask 0, with their BCH code and mask applied (table C.1). */
const FORMAT_BITS = 0b101010000010010;
const QUIET_ZONE = 4;

/** Draws `text` into an `<svg>`; hides it if the text is too long. */
export function drawQrCode(svg, text) {
  const modules = encode(new TextEncoder().encode(text));
  svg.toggleAttribute("hidden", modules === null);
  if (!modules) return;
  const size = modules.length + 2 * QUIET_ZONE;
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const squares = modules.flatMap((row, y) =>
    row.map((dark, x) => (dark ? `M${x + QUIET_ZONE} ${y + QUIET_ZONE}h1v1h-1z` : "")),
  );
  path.setAttribute("d", squares.join(""));
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("shape-rendering", "crispEdges");
  svg.replaceChildren(path);
}

/** The modules row by row, true for dark, or null if `bytes` are too many. */
export function encode(bytes) {
  for (let version = 1; version <= MAX_VERSION; version++) {
    const data = dataCodewords(bytes, version);
    if (data) return place(interleave(data, version), version);
  }
  return null;
}

/** Codewords of a version in all (§7.1). */
function rawCodewords(version) {
  let modules = (16 * version + 128) * version + 64;
  if (version >= 2) {
    const centres = alignmentCentres(version).length;
    modules -= (25 * centres - 10) * centres - 55;
    if (version >= 7) modules -= 36;
  }
  return Math.floor(modules / 8);
}

/** Mode, length, data, terminator and padding (§7.4), or null if they do not fit. */
function dataCodewords(bytes, version) {
  const capacity = rawCodewords(version) - EC_CODEWORDS[version] * BLOCKS[version];
  const lengthBits = version < 10 ? 8 : 16;
  const bits = [];
  const push = (value, count) => {
    for (let i = count - 1; i >= 0; i--) bits.push((value >>> i) & 1);
  };
  push(0b0100, 4);
  push(bytes.length, lengthBits);
  for (const byte of bytes) push(byte, 8);
  if (bits.length > capacity * 8) return null;
  push(0, Math.min(4, capacity * 8 - bits.length));
  push(0, (8 - (bits.length % 8)) % 8);
  const codewords = [];
  for (let i = 0; i < bits.length; i += 8) {
    codewords.push(bits.slice(i, i + 8).reduce((value, bit) => value * 2 + bit, 0));
  }
  for (let pad = 0xec; codewords.length < capacity; pad ^= 0xec ^ 0x11) codewords.push(pad);
  return codewords;
}

/** Splits into blocks, adds error correction, and interleaves (§7.5, §7.6). */
function interleave(data, version) {
  const count = BLOCKS[version];
  const ecLength = EC_CODEWORDS[version];
  const short = Math.floor(data.length / count);
  const shortBlocks = count - (data.length % count);
  const divisor = reedSolomonDivisor(ecLength);
  const blocks = [];
  for (let i = 0, at = 0; i < count; i++) {
    const length = short + (i < shortBlocks ? 0 : 1);
    blocks.push(data.slice(at, (at += length)));
  }
  const corrections = blocks.map((block) => reedSolomonRemainder(block, divisor));
  const columns = (rows, length) =>
    Array.from({ length }, (_, i) => rows.map((row) => row[i])).flat();
  return [...columns(blocks, short + 1), ...columns(corrections, ecLength)].filter(
    (codeword) => codeword !== undefined,
  );
}

/** Product in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1. */
function multiply(a, b) {
  let product = 0;
  for (let i = 7; i >= 0; i--) {
    product = (product << 1) ^ ((product >>> 7) * 0x11d);
    product ^= ((b >>> i) & 1) * a;
  }
  return product;
}

function reedSolomonDivisor(degree) {
  const divisor = new Array(degree).fill(0);
  divisor[degree - 1] = 1;
  let root = 1;
  for (let i = 0; i < degree; i++) {
    for (let j = 0; j < degree; j++) {
      divisor[j] = multiply(divisor[j], root) ^ (divisor[j + 1] ?? 0);
    }
    root = multiply(root, 2);
  }
  return divisor;
}

function reedSolomonRemainder(data, divisor) {
  const remainder = new Array(divisor.length).fill(0);
  for (const byte of data) {
    const factor = byte ^ remainder.shift();
    remainder.push(0);
    divisor.forEach((coefficient, i) => (remainder[i] ^= multiply(coefficient, factor)));
  }
  return remainder;
}

function alignmentCentres(version) {
  if (version === 1) return [];
  const size = version * 4 + 17;
  const count = Math.floor(version / 7) + 2;
  const step = Math.ceil((size - 13) / (count * 2 - 2)) * 2;
  const centres = Array.from({ length: count - 1 }, (_, i) => size - 7 - i * step);
  return [6, ...centres.reverse()];
}

/** Function patterns, then the codewords in the zigzag of §7.7.3, masked by (x + y) mod 2. */
function place(codewords, version) {
  const size = version * 4 + 17;
  const modules = Array.from({ length: size }, () => new Array(size).fill(undefined));
  const set = (x, y, dark) => {
    if (x >= 0 && y >= 0 && x < size && y < size) modules[y][x] = Boolean(dark);
  };
  const rings = (cx, cy, radius, isDark) => {
    for (let dy = -radius; dy <= radius; dy++) {
      for (let dx = -radius; dx <= radius; dx++) {
        set(cx + dx, cy + dy, isDark(Math.max(Math.abs(dx), Math.abs(dy))));
      }
    }
  };
  for (let i = 0; i < size; i++) {
    set(6, i, i % 2 === 0);
    set(i, 6, i % 2 === 0);
  }
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) {
    rings(x, y, 4, (ring) => ring !== 2 && ring !== 4);
  }
  const centres = alignmentCentres(version);
  const last = centres.length - 1;
  centres.forEach((x, i) =>
    centres.forEach((y, j) => {
      const isFinder = (i === 0 && (j === 0 || j === last)) || (i === last && j === 0);
      if (!isFinder) rings(x, y, 2, (ring) => ring !== 1);
    }),
  );
  placeFormat(set, size);
  if (version >= 7) placeVersion(set, size, version);

  let bit = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step++) {
      const isUpward = ((right + 1) & 2) === 0;
      const y = isUpward ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (modules[y][x] !== undefined) continue;
        const value = ((codewords[bit >>> 3] ?? 0) >>> (7 - (bit & 7))) & 1;
        bit += 1;
        modules[y][x] = (value ^ ((x + y + 1) & 1)) === 1;
      }
    }
  }
  return modules;
}

/** Both copies of the format information and the one dark module (§7.9). */
function placeFormat(set, size) {
  const bit = (i) => (FORMAT_BITS >>> i) & 1;
  for (let i = 0; i <= 5; i++) set(8, i, bit(i));
  set(8, 7, bit(6));
  set(8, 8, bit(7));
  set(7, 8, bit(8));
  for (let i = 9; i < 15; i++) set(14 - i, 8, bit(i));
  for (let i = 0; i < 8; i++) set(size - 1 - i, 8, bit(i));
  for (let i = 8; i < 15; i++) set(8, size - 15 + i, bit(i));
  set(8, size - 8, 1);
}

/** Both copies of the version information, with its BCH code (§7.10). */
function placeVersion(set, size, version) {
  let remainder = version;
  for (let i = 0; i < 12; i++) remainder = (remainder << 1) ^ ((remainder >>> 11) * 0x1f25);
  const bits = (version << 12) | remainder;
  for (let i = 0; i < 18; i++) {
    const [a, b] = [size - 11 + (i % 3), Math.floor(i / 3)];
    set(a, b, (bits >>> i) & 1);
    set(b, a, (bits >>> i) & 1);
  }
}
