// The lobby: own picture, name, room code, and the two ways into a room.

import { formatCode, formatTyped, parseCode, randomCode } from "./protocol.js";
import { byId, load, save, setText, showPill, showView } from "./ui.js";
import { problemShort } from "./words.js";

const NAME_KEY = "visavis.name";
const RECENT_KEY = "visavis.recent";
const RECENT_ROOMS = 3;
const SERVER_CHECK_MS = 15000;

/** Calls `onJoin({code, displayName})`. */
export class Lobby {
  #media;
  #onJoin;
  #code = byId("code");
  #name = byId("name");

  constructor(media, onJoin) {
    this.#media = media;
    this.#onJoin = onJoin;
    this.#name.value = load("localStorage", NAME_KEY) ?? "";
    this.#code.addEventListener("input", (event) => this.#format(event));
    byId("join-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#join();
    });
    byId("new-room").addEventListener("click", () => this.enter(randomCode()));
    media.addEventListener("change", () => this.#showPreview());
    this.#showPreview();
    setInterval(() => this.#checkServer(), SERVER_CHECK_MS);
    this.#checkServer();
  }

  /** `code`: that of the address, or null. */
  show(code) {
    if (code) {
      this.#code.value = formatCode(code);
      setText(byId("lobby-lead"), "You are invited to a call. Check your camera and microphone, then join.");
    }
    this.#problem("");
    this.#showHalf();
    this.#showRecent();
    // On a touch screen a focused field would open the keyboard over everything.
    const first = code ? byId("join") : this.#code;
    showView("lobby", matchMedia("(pointer: coarse)").matches ? byId("lobby-title") : first);
  }

  get displayName() {
    return this.#name.value.trim() || undefined;
  }

  /** Into that room, with the name that stands in the field. */
  enter(code) {
    save("localStorage", NAME_KEY, this.#name.value.trim());
    const others = (load("localStorage", RECENT_KEY) ?? []).filter(
      (other) => parseCode(String(other))?.room !== code.room,
    );
    save("localStorage", RECENT_KEY, [formatCode(code), ...others].slice(0, RECENT_ROOMS));
    this.#onJoin({ code, displayName: this.displayName });
  }

  #join() {
    const code = parseCode(this.#code.value);
    if (code) {
      this.#problem("");
      this.enter(code);
      return;
    }
    this.#problem(
      this.#code.value.trim() === ""
        ? "Enter the code that you were given, or press New room."
        : "A code is twelve letters, such as abc-def-ghj-kmn.",
    );
    this.#code.focus();
  }

  /** Groups the letters while they are typed and keeps the caret behind the same letter. */
  #format(event) {
    if (event.isComposing) return;
    const input = this.#code;
    const before = formatTyped(input.value.slice(0, input.selectionStart)).length;
    const text = formatTyped(input.value);
    if (text !== input.value) {
      input.value = text;
      input.setSelectionRange(before, before);
    }
    this.#problem("");
    this.#showHalf();
  }

  /** With the first half alone a call has no proof. */
  #showHalf() {
    const code = parseCode(this.#code.value);
    byId("code-half").hidden = !code || code.secret !== null;
  }

  #problem(text) {
    setText(byId("code-problem"), text);
    if (text) this.#code.setAttribute("aria-invalid", "true");
    else this.#code.removeAttribute("aria-invalid");
  }

  #showRecent() {
    const codes = (load("localStorage", RECENT_KEY) ?? []).map((c) => parseCode(String(c))).filter(Boolean);
    byId("recent").hidden = codes.length === 0;
    byId("recent-rooms").replaceChildren(
      ...codes.map((code) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "link";
        button.textContent = formatCode(code);
        button.setAttribute("aria-label", `Join ${formatCode(code)}`);
        button.addEventListener("click", () => this.enter(code));
        return button;
      }),
    );
  }

  #showPreview() {
    const { camera } = this.#media;
    const video = byId("preview");
    if ((video.srcObject?.getVideoTracks()[0] ?? null) !== camera.track) {
      video.srcObject = camera.track && new MediaStream([camera.track]);
    }
    const { width, height, frameRate } = camera.track?.getSettings() ?? {};
    const rate = frameRate ? ` · ${Math.round(frameRate)} fps` : "";
    showPill(byId("preview-format"), width ? `${width}×${height}${rate}` : null);
    setText(byId("preview-empty"), camera.track ? "" : emptyWords(camera));
  }

  async #checkServer() {
    if (document.hidden || document.body.dataset.view !== "lobby") return;
    const isUp = await fetch("/healthz", { cache: "no-store" }).then(
      (response) => response.ok,
      () => false,
    );
    byId("server").querySelector(".dot").dataset.level = isUp ? "good" : "poor";
    setText(
      byId("server-text"),
      isUp ? `Server ${location.host} is ready` : `Server ${location.host} cannot be reached`,
    );
  }
}

function emptyWords({ on, problem }) {
  if (problem) return problemShort("camera", problem);
  return on ? "Starting the camera…" : "Camera is off";
}
