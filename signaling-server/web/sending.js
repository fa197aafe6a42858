// What the browser's senders are told during a call: limits, the codec of video, the bitrate of music.

import { CodecChoice, isLarge } from "./codecs.js";
import { musicBps } from "./sound.js";

/** For cameras up to 1280x720, and beyond. */
const MAX_VIDEO_BPS = 2_500_000;
const MAX_LARGE_VIDEO_BPS = 4_500_000;
const MAX_VIDEO_FPS = 30;

/** Of one peer connection. */
export class Sending {
  #choice = new CodecChoice();
  /** What the sender of sound is limited to; null: nothing but descriptions. */
  #musicBps = null;

  limitVideo(sender) {
    const parameters = sender?.getParameters();
    if (!parameters?.encodings?.length) return;
    const isLargeSource = isLarge(pixelsOf(sender.track));
    parameters.encodings[0].maxBitrate = isLargeSource ? MAX_LARGE_VIDEO_BPS : MAX_VIDEO_BPS;
    parameters.encodings[0].maxFramerate = MAX_VIDEO_FPS;
    parameters.degradationPreference = "maintain-framerate";
    sender.setParameters(parameters).catch((e) => console.debug("visavis: video limits:", e));
  }

  /** After each measurement: `stats` and those before, of stats.js. */
  follow({ audio, video }, stats, before, isMusic) {
    this.#limitMusic(audio, isMusic ? stats.availableOutgoingBps : null);
    if (before?.videoSent && stats.availableOutgoingBps !== null) this.#chooseCodec(video, stats, before);
  }

  /** Where the browser lets a page choose, and tells it what the path takes. */
  #chooseCodec(sender, { videoSent: sent, availableOutgoingBps }, before) {
    const pixels = pixelsOf(sender?.track);
    const frames = sent?.framesEncoded - before.videoSent.framesEncoded;
    if (!sent?.codec || !pixels || !(frames > 0)) return;
    const parameters = sender.getParameters();
    if (!parameters.encodings?.length) return;
    const bps = Math.min(availableOutgoingBps, parameters.encodings[0].maxBitrate ?? Infinity);
    const codec = this.#choice.plan(performance.now(), {
      usable: parameters.codecs,
      current: `video/${sent.codec}`,
      bps,
      pixels,
      frameRate: sent.framesPerSecond,
      encodeMs: ((sent.totalEncodeTime - before.videoSent.totalEncodeTime) * 1000) / frames,
      isCpuLimited: sent.qualityLimitationReason === "cpu",
    });
    if (!codec) return;
    parameters.encodings[0].codec = codec;
    console.info(`visavis: sends ${codec.mimeType} instead of ${sent.codec}, at ${Math.round(bps / 1000)} kbps`);
    sender.setParameters(parameters).catch((e) => console.debug("visavis: codec:", e));
  }

  /**
   * The encoder keeps its rate whatever the network takes: music gets a quarter of that at most, once it is known to be
   * little. Chromium assumes 300 kbps at first and hardly more while little is sent, so that says nothing.
   */
  #limitMusic(sender, available) {
    if (this.#musicBps === null && available >= CHROMIUM_START_BPS) return;
    const wanted = available ? musicBps(available) : null;
    if (!sender || wanted === this.#musicBps) return;
    const parameters = sender.getParameters();
    if (!parameters.encodings?.length) return;
    this.#musicBps = wanted;
    if (wanted) parameters.encodings[0].maxBitrate = wanted;
    else delete parameters.encodings[0].maxBitrate;
    sender.setParameters(parameters).catch((e) => console.debug("visavis: music limit:", e));
  }
}

/** libwebrtc's `kDefaultStartBitrateBps` (transport/bitrate_settings.h). */
const CHROMIUM_START_BPS = 300_000;

function pixelsOf(track) {
  const { width = 0, height = 0 } = track?.getSettings() ?? {};
  return width * height;
}
