// Which codecs a page asks for and sends with. Pure, but for the functions that are given a transceiver or a sender.

/** Chromium would begin with 300 kbps: a stamp-sized picture that grows slowly. */
const START_VIDEO_KBPS = 1000;

/**
 * The codecs in the order of docs/protocol.md. Whoever reads it sends with the first one that it has: constrained-baseline H.264
 * with packetization-mode 1 (RFC 7742 §6.2) takes the least time, VP9 and AV1 look best on narrow lines.
 */
export function preferVideoCodecs(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities?.("video")?.codecs;
  if (!codecs || !transceiver.setCodecPreferences) return;
  const rank = ({ mimeType, sdpFmtpLine = "" }) => {
    const place = VIDEO_CODECS.indexOf(mimeType.toLowerCase());
    if (place === -1) return VIDEO_CODECS.length;
    // Profiles beyond those that everybody decodes come last.
    if (mimeType.toLowerCase() === "video/h264") {
      if (!sdpFmtpLine.includes("packetization-mode=1")) return VIDEO_CODECS.length;
      return /profile-level-id=42[ec]0/i.test(sdpFmtpLine) ? place : place + 0.5;
    }
    const isOtherProfile = /profile(-id)?=[1-9]/.test(sdpFmtpLine);
    return isOtherProfile ? VIDEO_CODECS.length : place;
  };
  transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
}

const VIDEO_CODECS = ["video/h264", "video/vp9", "video/av1", "video/vp8"];

/**
 * Sound with copies of earlier packets (RFC 2198) first: who reads that in a description of ours sends it
 * if it can, and at 10 % loss is understood where it would not be.
 */
export function preferRed(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities?.("audio")?.codecs;
  if (!codecs || !transceiver.setCodecPreferences) return;
  const rank = ({ mimeType }) => (mimeType.toLowerCase() === "audio/red" ? 0 : 1);
  transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
}

/**
 * A first offer of ours that leaves the roles of DTLS open, as if the native peer had chosen to be the client: its server asks
 * for a cookie first, which costs a round trip, and the browser's does not.
 */
export function asDtlsServer(description) {
  const { type, sdp } = description;
  if (type !== "offer" || !/^a=x-visavis-dtls:/m.test(sdp)) return description;
  return { type, sdp: sdp.replace(/^a=setup:actpass/gm, "a=setup:active") };
}

/**
 * The same description as if the other side had asked Chromium's sender to start there
 * (`x-google-start-bitrate`, libwebrtc's media_constants.cc). Other browsers ignore it.
 */
export function withStartBitrate({ type, sdp }) {
  const sections = sdp.split(/^(?=m=)/m).map((section) => {
    if (!section.startsWith("m=video")) return section;
    const start = `x-google-start-bitrate=${START_VIDEO_KBPS}`;
    const withParameters = section.replace(/^(a=fmtp:\d+ (?!apt=)[^\r\n]*)/gm, (line) => {
      return line.includes("x-google-") ? line : `${line};${start}`;
    });
    // VP8 has no parameters of its own.
    return withParameters.replace(/^(a=rtpmap:(\d+) VP8\/90000)(\r?\n)/gim, (line, map, type, end) => {
      return section.includes(`a=fmtp:${type} `) ? line : `${map}${end}a=fmtp:${type} ${start}${end}`;
    });
  });
  return { type, sdp: sections.join("") };
}

/**
 * The codec that a page sends with: H.264 at first, for its first picture is there soonest and it takes the least work; a
 * codec that looks better where the bitrate is too small for H.264 and encoding takes little enough of a frame's time.
 * The rules and figures of the app (docs/decisions/0018-video-codecs.md).
 */
export class CodecChoice {
  #since = 0;
  #wanted = null;
  #wantedSince = 0;
  /** Codecs that took too long: until when they are not tried, ms. */
  #blocked = new Map();

  /**
   * What to send with from `now` (ms) on, if that is another one; null if not. `usable`: the codecs of `RTCRtpSendParameters`;
   * `current`: the `mimeType` in use; `bps`: what video may take of the path; `pixels`: of the source's frames; `encodeMs`: mean time to
   * encode a frame; `isCpuLimited`: the browser says that it does not keep up.
   */
  plan(now, { usable, current, ...conditions }) {
    const names = usable.map(({ mimeType }) => mimeType.toLowerCase());
    const inUse = current.toLowerCase();
    const load = (conditions.encodeMs * conditions.frameRate) / 1000;
    const isSlow = conditions.isCpuLimited || load > OVERLOAD;
    const codecs = BY_QUALITY.filter((codec) => names.includes(codec));
    const wanted = isSlow
      ? (codecs.find((codec) => COST[codec] < COST[inUse]) ?? inUse)
      : this.#wantedAt(now, codecs, inUse, load, conditions);
    if (wanted !== this.#wanted) {
      this.#wanted = wanted;
      this.#wantedSince = now;
    }
    if (wanted === inUse || now - Math.max(this.#wantedSince, this.#since) < CHOICE_PATIENCE_MS) return null;
    if (isSlow) this.#blocked.set(inUse, now + BLOCKED_MS);
    this.#since = now;
    return usable[names.indexOf(wanted)];
  }

  #wantedAt(now, codecs, inUse, load, { bps, pixels }) {
    const enough = pixels * (isLarge(pixels) ? H264_ENOUGH_LARGE_BITS : H264_ENOUGH_BITS);
    if (codecs.includes("video/h264")) {
      if (bps > (enough * 9) / 8) return "video/h264";
      if (bps > enough) return inUse;
    }
    const fits = (codec) => {
      const isBlocked = now < (this.#blocked.get(codec) ?? 0);
      return codec === inUse || (!isBlocked && (load * COST[codec]) / COST[inUse] < AFFORDABLE);
    };
    return codecs.find(fits) ?? inUse;
  }
}

/** The best at equal bitrates first. */
const BY_QUALITY = ["video/av1", "video/vp9", "video/h264", "video/vp8"];
/** Time to encode a frame beside that of H.264. */
const COST = { "video/h264": 1, "video/vp8": 1.1, "video/vp9": 1.3, "video/av1": 1.6 };
/** Bits a second for each pixel from which another codec adds little to H.264: 2.2 Mbps at 1280x720, 3.9 at 1920x1080. */
const H264_ENOUGH_BITS = 2.39;
const H264_ENOUGH_LARGE_BITS = 1.88;

/** Whether frames are larger than the 1280x720 of an ordinary call, with a margin for other shapes. */
export const isLarge = (pixels) => pixels > (1280 * 720 * 5) / 4;
const CHOICE_PATIENCE_MS = 3000;
const BLOCKED_MS = 60_000;
/** Share of a frame's time that encoding may take, and that it may be expected to take before it is tried. */
const OVERLOAD = 0.7;
const AFFORDABLE = 0.5;
