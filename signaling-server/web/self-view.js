// The own picture in a call: mirrored, and draggable into any corner.

import { byId, setText } from "./ui.js";
import { problemShort } from "./words.js";

export class SelfView {
  #element = byId("self");
  #video = byId("self-video");

  constructor(media) {
    const show = () => {
      const { track, problem } = media.camera;
      if ((this.#video.srcObject?.getVideoTracks()[0] ?? null) !== track) {
        this.#video.srcObject = track && new MediaStream([track]);
      }
      const empty = problem ? problemShort("camera", problem) : "Camera is off";
      setText(byId("self-empty"), track ? "" : empty);
    };
    media.addEventListener("change", show);
    show();
    this.#makeDraggable();
  }

  #makeDraggable() {
    const element = this.#element;
    let start = null;
    element.addEventListener("pointerdown", (event) => {
      const phase = byId("call").dataset.phase;
      if (event.button !== 0 || (phase !== "connected" && phase !== "reconnecting")) return;
      start = { x: event.clientX, y: event.clientY };
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (!start) return;
      element.classList.add("dragging");
      const [x, y] = [event.clientX - start.x, event.clientY - start.y];
      element.style.transform = `translate(${x}px, ${y}px)`;
    });
    const drop = () => {
      if (!start) return;
      start = null;
      const box = element.getBoundingClientRect();
      const vertical = box.top + box.height / 2 < innerHeight / 2 ? "top" : "bottom";
      const horizontal = box.left + box.width / 2 < innerWidth / 2 ? "left" : "right";
      element.dataset.corner = `${vertical}-${horizontal}`;
      element.style.transform = "";
      element.classList.remove("dragging");
    };
    element.addEventListener("pointerup", drop);
    element.addEventListener("pointercancel", drop);
  }
}
