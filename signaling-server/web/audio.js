// Sound levels and the diagnostic tone, by Web Audio. One context serves the whole page; browsers
// start it only after a gesture, so everything here also works while it is suspended (and reads
// silence).

export const SILENCE_DBFS = -100;
const FFT_SIZE = 8192;
/** Below this a spectrum's peak is noise, not a tone. */
const TONE_FLOOR_DBFS = -60;
const TONE_HZ = 440;
const TONE_GAIN = 0.25;

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
  const oscillator = new OscillatorNode(context(), { frequency: TONE_HZ });
  const gain = new GainNode(context(), { gain: TONE_GAIN });
  const destination = new MediaStreamAudioDestinationNode(context());
  oscillator.connect(gain).connect(destination);
  oscillator.start();
  return destination.stream.getAudioTracks()[0];
}
