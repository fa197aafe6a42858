// Sound levels, the diagnostic tone and the beep, by Web Audio. One context serves the whole page;
// browsers start it only after a gesture, so everything here also works while it is suspended (and
// reads silence).

import { every } from "./ticker.js";
import { FLASH_MS, untilFlash } from "./timecode.js";

export const SILENCE_DBFS = -100;
const FFT_SIZE = 8192;
/** Below this a spectrum's peak is noise, not a tone. */
const TONE_FLOOR_DBFS = -60;
const TONE_HZ = 440;
const TONE_GAIN = 0.25;
const BEEP_HZ = 1000;
/** A beep is put into the audio context's schedule so long before it is due. */
const BEEP_AHEAD_MS = 100;

let sharedContext = null;

function context() {
  if (!sharedContext) {
    sharedContext = new AudioContext();
    const resume = () => sharedContext.resume();
    addEventListener("pointerdown", resume);
    addEventListener("keydown", resume);
  }
  return sharedContext;
}

/** Reads the level of one audio track; it does not play it. */
export class LevelMeter {
  #source;
  #analyser;

  constructor(track) {
    this.track = track;
    this.#source = context().createMediaStreamSource(new MediaStream([track]));
    this.#analyser = new AnalyserNode(context(), { fftSize: FFT_SIZE, smoothingTimeConstant: 0 });
    this.#source.connect(this.#analyser);
  }

  /** RMS of the last 43 ms, dBFS, -100 for silence. */
  levelDbfs() {
    const samples = new Float32Array(2048);
    this.#analyser.getFloatTimeDomainData(samples);
    const mean = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
    return Math.max(SILENCE_DBFS, 10 * Math.log10(mean + 1e-10));
  }

  /** The loudest frequency of the last 170 ms in Hz, or null if there is nothing to hear. */
  toneHz() {
    const spectrum = new Float32Array(this.#analyser.frequencyBinCount);
    this.#analyser.getFloatFrequencyData(spectrum);
    let peak = 1;
    for (let i = 2; i < spectrum.length - 1; i++) if (spectrum[i] > spectrum[peak]) peak = i;
    const [left, top, right] = spectrum.subarray(peak - 1, peak + 2);
    if (!(top > TONE_FLOOR_DBFS)) return null;
    // A parabola through the three highest bins finds the frequency between them.
    const shift = (left - right) / (2 * (left - 2 * top + right));
    const binHz = context().sampleRate / FFT_SIZE;
    return (peak + (Number.isFinite(shift) ? shift : 0)) * binHz;
  }

  close() {
    this.#source.disconnect();
  }
}

/** The 440 Hz tone of `?microphone=tone`. */
export function createToneTrack() {
  return createOscillatorTrack(TONE_HZ, TONE_GAIN).track;
}

/** The tones of `?microphone=stereo-tone`: 440 Hz on the left, 880 Hz on the right. */
export function createStereoToneTrack() {
  const merger = new ChannelMergerNode(context(), { numberOfInputs: 2 });
  const amplifier = new GainNode(context(), { gain: TONE_GAIN });
  const destination = new MediaStreamAudioDestinationNode(context(), { channelCount: 2 });
  for (const [channel, frequency] of [TONE_HZ, 2 * TONE_HZ].entries()) {
    const oscillator = new OscillatorNode(context(), { frequency });
    oscillator.connect(merger, 0, channel);
    oscillator.start();
  }
  merger.connect(amplifier).connect(destination);
  return destination.stream.getAudioTracks()[0];
}

/** The beep of `?microphone=beep`: 1 kHz whenever synthetic pictures flash (timecode.js). */
export function createBeepTrack() {
  const { track, gain } = createOscillatorTrack(BEEP_HZ, 0);
  let aheadS = -Infinity;
  let scheduledMs = 0;
  const stopTicking = every(10, () => {
    if (track.readyState === "ended") return stopTicking();
    const nowMs = performance.timeOrigin + performance.now();
    // The context's clock moves a block at a time: furthest ahead, it was right.
    aheadS = Math.max(aheadS, context().currentTime - nowMs / 1000);
    const waitMs = untilFlash(nowMs);
    if (waitMs > BEEP_AHEAD_MS || nowMs < scheduledMs) return;
    scheduledMs = nowMs + waitMs;
    const at = Math.max(0, scheduledMs / 1000 + aheadS);
    gain.setValueAtTime(TONE_GAIN, at).setValueAtTime(0, at + FLASH_MS / 1000);
    aheadS = -Infinity;
  });
  return track;
}

function createOscillatorTrack(frequency, level) {
  const oscillator = new OscillatorNode(context(), { frequency });
  const amplifier = new GainNode(context(), { gain: level });
  const destination = new MediaStreamAudioDestinationNode(context());
  oscillator.connect(amplifier).connect(destination);
  oscillator.start();
  return { track: destination.stream.getAudioTracks()[0], gain: amplifier.gain };
}
