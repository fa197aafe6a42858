// The lobby: own picture, name, room code, and the two ways into a room.

import { formatRoomCode, parseRoomCode, randomRoomCode } from "./protocol.js";
import { byId, load, save, setText, showPill, showView } from "./ui.js";
import { problemShort } from "./words.js";

const NAME_KEY = "visavis.name";
const RECENT_KEY = "visavis.recent";
const RECENT_ROOMS = 3;
const SERVER_CHECK_MS = 15000;

/** Calls `onJoin({room, displayName})`. */
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
    byId("new-room").addEventListener("click", () => this.enter(randomRoomCode()));
    media.addEventListener("change", () => this.#showPreview());
    this.#showPreview();
    setInterval(() => this.#checkServer(), SERVER_CHECK_MS);
    this.#checkServer();
  }

  /** `room`: the code of the address, or null. */
  show(room) {
    if (room) {
      this.#code.value = room;
      setText(byId("lobby-lead"), "You are invited to a call. Check your camera and microphone, then join.");
    }
    this.#problem("");
    this.#showRecent();
    // On a touch screen a focused field would open the keyboard over everything.
    const first = room ? byId("join") : this.#code;
    showView("lobby", matchMedia("(pointer: coarse)").matches ? byId("lobby-title") : first);
  }

  get displayName() {
    return this.#name.value.trim() || undefined;
  }

  /** Into that room, with the name that stands in the field. */
  enter(room) {
    save("localStorage", NAME_KEY, this.#name.value.trim());
    const recent = (load("localStorage", RECENT_KEY) ?? []).filter((code) => code !== room);
    save("localStorage", RECENT_KEY, [room, ...recent].slice(0, RECENT_ROOMS));
    this.#onJoin({ room, displayName: this.displayName });
  }

  #join() {
    const room = parseRoomCode(this.#code.value);
    if (room) {
      this.#problem("");
      this.enter(room);
      return;
    }
    this.#problem(
      this.#code.value.trim() === ""
        ? "Enter the room code that you were given, or press New room."
        : "A room code is ten letters, such as abc-defg-hij.",
    );
    this.#code.focus();
  }

  /** Groups the letters while they are typed and keeps the caret behind the same letter. */
  #format(event) {
    if (event.isComposing) return;
    const input = this.#code;
    const before = formatRoomCode(input.value.slice(0, input.selectionStart)).length;
    const text = formatRoomCode(input.value);
    if (text !== input.value) {
      input.value = text;
      input.setSelectionRange(before, before);
    }
    this.#problem("");
  }

  #problem(text) {
    setText(byId("code-problem"), text);
    if (text) this.#code.setAttribute("aria-invalid", "true");
    else this.#code.removeAttribute("aria-invalid");
  }

  #showRecent() {
    const rooms = (load("localStorage", RECENT_KEY) ?? []).filter((r) => parseRoomCode(String(r)));
    byId("recent").hidden = rooms.length === 0;
    byId("recent-rooms").replaceChildren(
      ...rooms.map((room) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "link";
        button.textContent = room;
        button.setAttribute("aria-label", `Join ${room}`);
        button.addEventListener("click", () => this.enter(room));
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
