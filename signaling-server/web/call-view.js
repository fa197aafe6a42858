// The view of a call from joining to its end: remote picture, states in words, controls and keys.

import { LevelMeter } from "./audio.js";
import { toggle } from "./device-view.js";
import { EMOJI } from "./proof.js";
import { codePath, formatCode } from "./protocol.js";
import { drawQrCode } from "./qr.js";
import { announce, byId, copyText, setAttribute, setText, showPill, showView } from "./ui.js";
import { durationWords, knockWords, phaseWords, problemShort, proofWords, qualityWords } from "./words.js";

/** Without a movement for so long, the controls fade. */
const IDLE_MS = 2500;
const COPIED_MS = 2000;
/** A muted person who is louder than this is probably speaking. */
const TALKING_DBFS = -38;
const TALKING_SHOWN_MS = 3000;
const NO_COMMON_VIDEO = "Sound only: you two have no video format in common.";

export class CallView {
  #media;
  #call = null;
  #code = null;
  #view = byId("call");
  #remote = byId("remote");
  #idleTimer = null;
  #isHoldingToTalk = false;
  #talkMeter = null;
  #talkedAt = -Infinity;
  #wakeLock = null;
  /** Own states as last announced. */
  #said = {};

  constructor(media) {
    this.#media = media;
    media.addEventListener("change", () => this.#onDevices());
    byId("leave").addEventListener("click", () => this.#call?.leave());
    byId("devices").addEventListener("click", () => byId("devices-dialog").showModal());
    byId("give-up").addEventListener("click", () => this.#call?.leave());
    for (const [button, isAdmitted] of [["let-in", true], ["refuse", false]]) {
      byId(button).addEventListener("click", () => this.#answer(isAdmitted));
    }
    byId("lock").addEventListener("click", () => this.#toggleLock());
    byId("encrypted").addEventListener("click", () => this.#toggleProof());
    this.#view.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !byId("proof").hidden) this.#toggleProof();
    });
    byId("tap-to-hear").addEventListener("click", () => this.#play());
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => this.#copy(button));
    }
    this.#connectFullScreen();
    this.#connectKeys();
    for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) {
      this.#view.addEventListener(event, () => this.#wake());
    }
    document.addEventListener("visibilitychange", () => this.#keepAwake());
    setInterval(() => this.#everyHalfSecond(), 500);
  }

  /** Shows `call` until it has ended. */
  show(call, code) {
    this.#call = call;
    this.#code = code;
    this.#said = this.#media.state;
    this.#keepAwake();
    call.addEventListener("change", () => this.#update());
    call.addEventListener("lock", ({ detail }) => {
      announce(detail.locked ? "The room is locked." : "The room is unlocked.");
    });
    call.addEventListener("knock", ({ detail }) => announce(knockWords([detail]).title));
    call.addEventListener("stats", () => this.#showQuality());
    call.addEventListener("stream", () => this.#showStream());
    setText(byId("waiting-code"), formatCode(code));
    drawQrCode(byId("waiting-qr"), this.#link);
    showView("call");
    this.#update();
    this.#showOwnStates();
    this.#wake();
  }

  get #link() {
    return location.origin + codePath(this.#code);
  }

  #onDevices() {
    this.#showOwnStates();
    if (!this.#isCurrent()) return;
    const { microphone, camera } = this.#media.state;
    if (microphone !== this.#said.microphone) {
      announce(microphone ? "Your microphone is on." : "Your microphone is off.");
    }
    if (camera !== this.#said.camera) {
      announce(camera ? "Your camera is on." : "Your camera is off.");
    }
    this.#said = { microphone, camera };
    this.#chooseSpeaker();
  }

  #everyHalfSecond() {
    if (!this.#isCurrent()) return;
    this.#showDuration();
    this.#watchForTalking();
    this.#sayDisplaySize();
  }

  /** The picture keeps its shape within the element; the other side need not send more than is seen. */
  #sayDisplaySize() {
    const { clientWidth, clientHeight, videoWidth, videoHeight } = this.#remote;
    if (!videoWidth || !videoHeight) return;
    const scale = Math.min(clientWidth / videoWidth, clientHeight / videoHeight) * devicePixelRatio;
    if (!(scale > 0)) return;
    this.#call.setDisplaySize({ width: Math.round(videoWidth * scale), height: Math.round(videoHeight * scale) });
  }

  /** Says so to somebody who speaks while muted; listens to a copy of the muted track. */
  #watchForTalking() {
    const { track, on } = this.#media.microphone;
    const isWatched = track !== null && !on && this.#call.phase === "connected";
    if (this.#talkMeter && (!isWatched || this.#talkMeter.of !== track)) {
      this.#talkMeter.meter.close();
      this.#talkMeter.meter.track.stop();
      this.#talkMeter = null;
    }
    if (isWatched && !this.#talkMeter) {
      const copy = track.clone();
      copy.enabled = true;
      this.#talkMeter = { of: track, meter: new LevelMeter(copy) };
    }
    const isTalking = this.#talkMeter !== null && this.#talkMeter.meter.levelDbfs() > TALKING_DBFS;
    if (isTalking) this.#talkedAt = performance.now();
    const isRecent = isWatched && performance.now() - this.#talkedAt < TALKING_SHOWN_MS;
    byId("state-talking").hidden = !isRecent;
  }

  /** A phone must not go to sleep in a call. */
  async #keepAwake() {
    const isWanted = this.#isCurrent() && !document.hidden;
    try {
      if (isWanted && (!this.#wakeLock || this.#wakeLock.released)) {
        this.#wakeLock = await navigator.wakeLock?.request("screen");
      } else if (!isWanted) {
        await this.#wakeLock?.release();
      }
    } catch (error) {
      console.debug("visavis: wake lock:", error.name);
    }
  }

  #isCurrent() {
    return this.#call !== null && this.#call.phase !== "ended";
  }

  // ---- What is seen -----------------------------------------------------------------------------

  #update() {
    const call = this.#call;
    if (call.phase === "ended") {
      this.#remote.srcObject = null;
      byId("tap-to-hear").hidden = true;
      byId("devices-dialog").close();
      if (document.fullscreenElement) document.exitFullscreen();
      this.#keepAwake();
      return;
    }
    const { phase } = call;
    const words = phaseWords(phase, {
      peerGone: call.isPeerGone,
      signalingLink: call.states.signalingLink,
    });
    const hasChanged = this.#view.dataset.phase !== phase;
    this.#view.dataset.phase = phase;
    byId("waiting").hidden = phase !== "waiting";
    setText(byId("waiting-title"), phaseWords("waiting", { signalingLink: call.states.signalingLink }));
    const isNoticed = ["joining", "connecting", "reconnecting"].includes(phase);
    showPill(byId("notice"), isNoticed ? words : null);
    byId("knocking").hidden = phase !== "knocking";
    if (hasChanged && phase === "knocking") byId("knocking-title").focus({ preventScroll: true });
    this.#showKnock();
    if (hasChanged && phase === "waiting") byId("waiting-title").focus({ preventScroll: true });
    if (hasChanged && phase === "connected") this.#view.focus({ preventScroll: true });
    announce(phase === "connected" ? this.#connectedWords() : words);
    document.title = phase === "connected" || phase === "reconnecting" ? "● Visavis" : "Visavis";
    this.#showProof();
    this.#showLock();
    this.#showQuality();
    this.#showDuration();
    this.#showRemoteStates();
    this.#wake();
  }

  /** What is known of who the other person is: a word at the lock, the rest in the card under it. */
  #showProof() {
    const { authentication, peer } = this.#call;
    const inCall = ["connected", "reconnecting"].includes(this.#call.phase) && authentication !== null;
    const [button, card] = [byId("encrypted"), byId("proof")];
    button.hidden = !inCall;
    if (!inCall) {
      card.hidden = true;
      setAttribute(button, "aria-expanded", "false");
      return;
    }
    const { isProven, emoji } = authentication;
    const words = proofWords(authentication, peer);
    button.classList.toggle("unproven", !isProven);
    setAttribute(button.querySelector("use"), "href", `/icons.svg#${isProven ? "lock-key" : "warning"}`);
    setText(button.querySelector("span"), words.short);
    setText(byId("proof-title"), words.title);
    setText(byId("proof-text"), words.text);
    const list = byId("proof-emoji");
    list.hidden = !emoji;
    const shown = (emoji ?? []).map((number) => EMOJI[number]);
    if (list.dataset.emoji === String(emoji)) return;
    list.dataset.emoji = String(emoji);
    list.replaceChildren(
      ...shown.map(([symbol, name]) => {
        const item = document.createElement("li");
        const [picture, caption] = [document.createElement("span"), document.createElement("span")];
        picture.className = "emoji";
        picture.setAttribute("aria-hidden", "true");
        [picture.textContent, caption.textContent] = [symbol, name];
        item.append(picture, caption);
        return item;
      }),
    );
  }

  #toggleProof() {
    const card = byId("proof");
    card.hidden = !card.hidden;
    setAttribute(byId("encrypted"), "aria-expanded", String(!card.hidden));
  }

  /** The first of those who ask to be let in. */
  #showKnock() {
    const { knocks } = this.#call;
    const card = byId("knock");
    const hadFocus = card.contains(document.activeElement);
    card.hidden = knocks.length === 0;
    if (knocks.length === 0) {
      if (hadFocus) this.#view.focus({ preventScroll: true });
      return;
    }
    const { title, text } = knockWords(knocks);
    setText(byId("knock-title"), title);
    setText(byId("knock-text"), text);
  }

  #answer(isAdmitted) {
    const [first] = this.#call?.knocks ?? [];
    if (first) this.#call.admit(first.peerId, isAdmitted);
  }

  #showLock() {
    const { phase, isLocked } = this.#call;
    const isShown = isLocked || ["connected", "reconnecting"].includes(phase);
    byId("locked").hidden = byId("waiting-locked").hidden = !isLocked;
    const button = byId("lock");
    button.hidden = !isShown;
    setAttribute(button, "aria-pressed", String(isLocked));
    setAttribute(button, "title", isLocked ? "Let others in again" : "Let nobody else in");
    button.querySelector(".round-label").firstChild.data = isLocked ? "Unlock" : "Lock";
  }

  #toggleLock() {
    if (this.#isCurrent() && !byId("lock").hidden) this.#call.setLocked(!this.#call.isLocked);
  }

  #connectedWords() {
    const name = this.#call.peer?.displayName ?? "the other side";
    const states = [
      this.#call.remoteMedia?.microphone === false && "They are muted.",
      this.#call.remoteMedia?.camera === false && "Their camera is off.",
      this.#call.lacksVideoCodec && NO_COMMON_VIDEO,
    ].filter(Boolean);
    return [`Connected with ${name}.`, ...states].join(" ");
  }

  #showRemoteStates() {
    const { peer, phase, remoteMedia } = this.#call;
    const inCall = phase === "connected" || phase === "reconnecting";
    const name = peer?.displayName ?? null;
    const isPictureless = inCall && this.#call.lacksVideoCodec;
    const isCameraOff = isPictureless || (phase === "connected" && remoteMedia?.camera === false);
    this.#view.classList.toggle("remote-camera-off", isCameraOff);
    byId("remote-off").hidden = !isCameraOff;
    setText(byId("remote-initial"), [...(name ?? "")].slice(0, 1).join("").toUpperCase());
    byId("remote-nameless").toggleAttribute("hidden", name !== null);
    const off = `${name ? `${name}'s` : "The other side's"} camera is off`;
    setText(byId("remote-off-text"), isPictureless ? NO_COMMON_VIDEO : off);
    showPill(byId("state-peer"), inCall ? name : null);
    const isMuted = inCall && remoteMedia?.microphone === false;
    showPill(byId("state-remote-muted"), isMuted ? `${name ?? "The other side"} is muted` : null);
  }

  #showOwnStates() {
    const { camera, microphone, state } = this.#media;
    const words = (device, name, off) =>
      device.problem ? `${problemShort(name, device.problem)}` : off;
    showPill(
      byId("state-microphone"),
      state.microphone ? null : words(microphone, "microphone", "Your microphone is off"),
    );
    showPill(byId("state-camera"), state.camera ? null : words(camera, "camera", "Your camera is off"));
  }

  #showQuality() {
    const { phase, stats } = this.#call;
    const isShown = phase === "connected" && stats !== null;
    showPill(byId("quality"), isShown ? qualityWords(stats) : null);
    if (isShown) setAttribute(byId("quality").querySelector(".dot"), "data-level", stats.quality ?? "");
  }

  #showDuration() {
    const since = this.#isCurrent() ? this.#call.connectedAt : null;
    const element = byId("duration");
    showPill(element, since === null ? null : durationWords(performance.now() - since));
  }

  #showStream() {
    // Null until it is known who the other person is.
    this.#remote.srcObject = this.#call.remoteStream;
    if (this.#call.remoteStream) this.#play();
    else byId("tap-to-hear").hidden = true;
  }

  async #chooseSpeaker() {
    const { deviceId } = this.#media.speaker;
    if (!this.#remote.setSinkId || this.#remote.sinkId === deviceId) return;
    try {
      await this.#remote.setSinkId(deviceId);
    } catch (error) {
      console.info("visavis: speaker:", error.name);
    }
  }

  async #play() {
    await this.#chooseSpeaker();
    try {
      await this.#remote.play();
      byId("tap-to-hear").hidden = true;
    } catch (error) {
      // AbortError: another stream has taken its place already.
      if (error.name === "NotAllowedError") byId("tap-to-hear").hidden = false;
    }
  }

  // ---- What is done -----------------------------------------------------------------------------

  async #copy(button) {
    const what = button.dataset.copy;
    const isCopied = await copyText(what === "link" ? this.#link : formatCode(this.#code));
    if (!isCopied) return;
    const label = button.querySelector("span");
    const words = what === "link" ? "Copy link" : "Copy code";
    setText(label, "Copied");
    announce(what === "link" ? "Link copied." : "Code copied.");
    setTimeout(() => setText(label, words), COPIED_MS);
  }

  #connectFullScreen() {
    const button = byId("full-screen");
    button.hidden = !document.fullscreenEnabled;
    button.addEventListener("click", () => this.#toggleFullScreen());
    document.addEventListener("fullscreenchange", () => {
      const words = document.fullscreenElement ? "Exit full screen" : "Full screen";
      button.querySelector(".round-label").firstChild.data = words;
    });
  }

  #toggleFullScreen() {
    if (!document.fullscreenEnabled) return;
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen().catch(() => {});
  }

  /** M, V, K, F; hold Space to talk; Ctrl+D and Ctrl+E as in Meet. */
  #connectKeys() {
    addEventListener("keydown", (event) => {
      if (!this.#isCurrent() || byId("devices-dialog").open || event.altKey || event.metaKey) return;
      const key = event.key.toLowerCase();
      if (event.repeat && key !== " ") return;
      const action = event.ctrlKey
        ? { d: () => toggle(this.#media, "microphone"), e: () => toggle(this.#media, "camera") }[key]
        : {
            m: () => toggle(this.#media, "microphone"),
            v: () => toggle(this.#media, "camera"),
            k: () => this.#toggleLock(),
            f: () => this.#toggleFullScreen(),
            " ": () => this.#holdToTalk(event),
          }[key];
      if (!action) return;
      if (key !== " ") event.preventDefault();
      action();
    });
    addEventListener("keyup", (event) => {
      if (event.key === " ") this.#releaseTalk();
    });
    addEventListener("blur", () => this.#releaseTalk());
  }

  #holdToTalk(event) {
    // On a button the space bar presses it.
    if (event.target.closest?.("button, select, input")) return;
    event.preventDefault();
    const { microphone } = this.#media;
    if (!microphone.track || microphone.on) return;
    this.#isHoldingToTalk = true;
    this.#media.setMicrophoneOn(true);
  }

  #releaseTalk() {
    if (!this.#isHoldingToTalk) return;
    this.#isHoldingToTalk = false;
    this.#media.setMicrophoneOn(false);
  }

  #wake() {
    this.#view.classList.remove("idle");
    clearTimeout(this.#idleTimer);
    this.#idleTimer = setTimeout(() => {
      // Never while a control has the keyboard's focus, or before there is a picture to see.
      const isUsed = byId("controls").querySelector(":focus-visible, :hover") !== null;
      const isAsked = this.#call?.knocks.length > 0;
      if (this.#call?.phase === "connected" && !isUsed && !isAsked) this.#view.classList.add("idle");
    }, IDLE_MS);
  }
}
