// Own camera, microphone and loudspeaker: opening, choosing, switching on and off, and the problem
// to be told when there is none. Each device works without the other.
//
// Off means off: the camera is stopped and its light goes out. Muting only silences the
// microphone's track, so that speaking again is instant.

import { createBeepTrack, createStereoToneTrack, createToneTrack } from "./audio.js";
import { createTestPatternTrack } from "./test-pattern.js";

const VIDEO = {
  // The browser scales down what line, processor and encoder do not take.
  width: { ideal: 1920 },
  height: { ideal: 1080 },
  frameRate: { ideal: 30, max: 30 },
};
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
/** Sound for its own sake: as it is, with both channels. */
const MUSIC = {
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  channelCount: { ideal: 2 },
};
/** Sources that need no device. */
const SYNTHETIC = ["test-pattern", "grainy-test-pattern", "tone", "stereo-tone", "beep", "none"];
const CHOICES_KEY = "visavis.devices";

/** `problem` codes; words.js has the sentences. */
const PROBLEMS = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

/** Event: "change", after anything below is another one. */
export class Media extends EventTarget {
  camera = { on: true, track: null, deviceId: "", problem: null };
  microphone = { on: true, track: null, deviceId: "", problem: null };
  speaker = { deviceId: "" };
  /** Whether sound is sent as music. */
  music = false;
  /** `MediaDeviceInfo` lists by kind; labels are empty until a device was allowed. */
  devices = { videoinput: [], audioinput: [], audiooutput: [] };

  #synthetic;

  /** `synthetic`: `{camera: "test-pattern" | "grainy-test-pattern" | "none", microphone: "tone" | "stereo-tone" | "beep" | "none",
   * music: true}` or absent. */
  constructor(synthetic = {}) {
    super();
    this.#synthetic = synthetic;
    Object.assign(this.camera, { deviceId: loadChoice("camera") });
    Object.assign(this.microphone, { deviceId: loadChoice("microphone") });
    this.speaker.deviceId = loadChoice("speaker");
    this.music = synthetic.music || loadChoice("music") === true;
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#onDeviceChange());
  }

  /** Whether it never asks for a real camera or microphone. */
  get isSynthetic() {
    const { camera, microphone } = this.#synthetic;
    return [camera, microphone].every((source) => SYNTHETIC.includes(source));
  }

  /** Opens both; resolves when each has either a track or a problem. */
  async open() {
    const both = [this.camera, this.microphone];
    if (this.#synthetic.camera || this.#synthetic.microphone || !navigator.mediaDevices) {
      await Promise.all(both.map((device) => this.#open(device)));
    } else {
      await this.#openTogether();
    }
    await this.#listDevices();
  }

  /** One question to the person for both devices; each by itself where that fails. */
  async #openTogether() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        video: this.#constraints(this.camera),
        audio: this.#constraints(this.microphone),
      });
      this.#use(this.camera, stream.getVideoTracks()[0]);
      this.#use(this.microphone, stream.getAudioTracks()[0]);
    } catch (error) {
      if (error.name === "NotAllowedError" && !(await isOneOnlyDenied())) {
        this.#fail(this.camera, error);
        this.#fail(this.microphone, error);
        return;
      }
      await this.#open(this.camera);
      await this.#open(this.microphone);
    }
  }

  /** Switches the camera; resolves when it is so, or has a problem. */
  async setCameraOn(on) {
    this.camera.on = on;
    if (on) {
      await this.#open(this.camera);
      await this.#listDevices();
    } else {
      this.#release(this.camera);
      this.#changed();
    }
  }

  setMicrophoneOn(on) {
    this.microphone.on = on;
    if (this.microphone.track) this.microphone.track.enabled = on;
    this.#changed();
  }

  /** Resolves when the microphone is open as it has to be, or has a problem. */
  async setMusic(on) {
    this.music = on;
    saveChoice("music", on);
    await this.#open(this.microphone);
  }

  async chooseCamera(deviceId) {
    this.#choose(this.camera, "camera", deviceId);
    if (this.camera.on) await this.#open(this.camera);
    else this.#changed();
  }

  async chooseMicrophone(deviceId) {
    this.#choose(this.microphone, "microphone", deviceId);
    await this.#open(this.microphone);
  }

  chooseSpeaker(deviceId) {
    this.#choose(this.speaker, "speaker", deviceId);
    this.#changed();
  }

  /** What the other side is told. */
  get state() {
    return {
      camera: this.camera.track !== null,
      microphone: this.microphone.track !== null && this.microphone.on,
    };
  }

  get tracks() {
    return { audio: this.microphone.track, video: this.camera.track };
  }

  #choose(device, name, deviceId) {
    device.deviceId = deviceId;
    saveChoice(name, deviceId);
  }

  #constraints(device) {
    const base = device === this.camera ? VIDEO : this.music ? MUSIC : AUDIO;
    // `ideal`, for the device of last time may not be plugged in today.
    return device.deviceId ? { ...base, deviceId: { ideal: device.deviceId } } : base;
  }

  async #open(device) {
    // Some cameras cannot be opened twice, so the old track goes before the new one comes.
    this.#release(device);
    const kind = device === this.camera ? "camera" : "microphone";
    try {
      this.#use(device, this.#synthesize(kind) ?? (await this.#capture(device)));
    } catch (error) {
      this.#fail(device, error);
    }
  }

  #synthesize(kind) {
    switch (this.#synthetic[kind]) {
      case "test-pattern":
        return createTestPatternTrack();
      case "grainy-test-pattern":
        return createTestPatternTrack(true);
      case "tone":
        return createToneTrack();
      case "stereo-tone":
        return createStereoToneTrack();
      case "beep":
        return createBeepTrack();
      case "none":
        throw new DOMException("switched off by the address", "NotFoundError");
    }
  }

  async #capture(device) {
    if (!navigator.mediaDevices) throw new DOMException("no secure context", "insecure");
    const kind = device === this.camera ? "video" : "audio";
    const stream = await navigator.mediaDevices.getUserMedia({ [kind]: this.#constraints(device) });
    return stream.getTracks()[0];
  }

  #use(device, track) {
    device.problem = null;
    if (device === this.microphone) {
      track.enabled = device.on;
      track.contentHint = this.music ? "music" : "";
    } else if (device.on) {
      track.contentHint = "motion";
    } else {
      // Switched off while the browser was asking.
      track.stop();
      this.#changed();
      return;
    }
    device.track = track;
    track.onended = () => {
      if (device.track !== track) return;
      device.track = null;
      device.problem = "unplugged";
      this.#changed();
    };
    this.#changed();
  }

  #fail(device, error) {
    console.info("visavis: no", device === this.camera ? "camera:" : "microphone:", error.name);
    device.problem = error.name === "insecure" ? "insecure" : (PROBLEMS[error.name] ?? "failed");
    this.#changed();
  }

  #release(device) {
    const { track } = device;
    device.track = null;
    track?.stop();
  }

  async #listDevices() {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    for (const kind of Object.keys(this.devices)) {
      this.devices[kind] = all.filter((d) => d.kind === kind);
    }
    this.#changed();
  }

  /** A device that was missing may have been plugged in. */
  async #onDeviceChange() {
    await this.#listDevices();
    const isCurable = ({ problem }) => ["missing", "unplugged"].includes(problem);
    if (this.camera.on && isCurable(this.camera) && this.devices.videoinput.length > 0) {
      await this.#open(this.camera);
    }
    if (isCurable(this.microphone) && this.devices.audioinput.length > 0) {
      await this.#open(this.microphone);
    }
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}

/** Whether the person denied exactly one of the two; then the other one is worth a try. */
async function isOneOnlyDenied() {
  try {
    const states = await Promise.all(
      ["camera", "microphone"].map((name) => navigator.permissions.query({ name })),
    );
    return states.filter(({ state }) => state === "denied").length === 1;
  } catch {
    return false; // Firefox knows neither name; it asks for both in one dialogue anyway.
  }
}

function saveChoice(name, choice) {
  try {
    const choices = JSON.parse(localStorage.getItem(CHOICES_KEY) ?? "{}");
    localStorage.setItem(CHOICES_KEY, JSON.stringify({ ...choices, [name]: choice }));
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}

function loadChoice(name) {
  try {
    return JSON.parse(localStorage.getItem(CHOICES_KEY) ?? "{}")[name] ?? "";
  } catch {
    return "";
  }
}
