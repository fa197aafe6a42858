// Whatever shows or changes the own devices, in the lobby and in a call alike: the pickers with
// the microphone's meter, the microphone and camera buttons, and the problems.

import { LevelMeter } from "./audio.js";
import { byId, setAttribute, setIcon, setText } from "./ui.js";
import { problemWords } from "./words.js";

const METER_INTERVAL_MS = 50;
/** The meter shows from here to 0 dBFS. */
const METER_FLOOR_DBFS = -60;

const KINDS = [
  { kind: "videoinput", name: "camera", label: "Camera", icon: "video-camera" },
  { kind: "audioinput", name: "microphone", label: "Microphone", icon: "microphone" },
  { kind: "audiooutput", name: "speaker", label: "Speaker", icon: "speaker-high" },
];
const CAN_CHOOSE_SPEAKER = "setSinkId" in HTMLMediaElement.prototype;

const LABELS = {
  microphone: { on: "Mute", off: "Unmute", problem: "No mic" },
  camera: { on: "Stop camera", off: "Start camera", problem: "No camera" },
};

/** Wires everything of that sort in the document to `media`. */
export function connectDevices(media) {
  for (const place of document.querySelectorAll("[data-pickers]")) addPickers(place, media);
  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.addEventListener("click", () => toggle(media, button.dataset.toggle));
  }
  const music = [...document.querySelectorAll("[data-music]")];
  for (const box of music) box.addEventListener("change", () => media.setMusic(box.checked));
  const problems = ["device-problems", "call-problems"].map(byId);
  const update = () => {
    for (const button of document.querySelectorAll("[data-toggle]")) showToggle(button, media);
    for (const place of problems) showProblems(place, media);
    for (const box of music) box.checked = media.music;
  };
  media.addEventListener("change", update);
  update();
  startMeter(media);
}

/** Switches `microphone` or `camera`, or tries a device with a problem again. */
export function toggle(media, name) {
  const device = media[name];
  if (name === "camera") return media.setCameraOn(!device.track);
  if (!device.track) return media.chooseMicrophone(device.deviceId);
  media.setMicrophoneOn(!device.on);
}

function addPickers(place, media) {
  const template = byId("picker-template").content.firstElementChild;
  for (const { kind, name, label, icon } of KINDS) {
    const picker = template.cloneNode(true);
    const select = picker.querySelector("select");
    setAttribute(picker.querySelector("use"), "href", `/icons.svg#${icon}`);
    picker.querySelector(".visually-hidden").textContent = label;
    picker.querySelector(".meter").hidden = name !== "microphone";
    select.addEventListener("change", () => {
      if (name === "camera") media.chooseCamera(select.value);
      else if (name === "microphone") media.chooseMicrophone(select.value);
      else media.chooseSpeaker(select.value);
    });
    const update = () => showChoices(picker, select, media, { kind, name, label });
    media.addEventListener("change", update);
    update();
    place.append(picker);
  }
}

function showChoices(picker, select, media, { kind, name, label }) {
  const devices = media.devices[kind].filter((d) => d.label);
  picker.hidden = name === "speaker" && (!CAN_CHOOSE_SPEAKER || devices.length === 0);
  const inUse = media[name].track?.getSettings().deviceId ?? media[name].deviceId;
  const options = devices.map((d) => ({ value: d.deviceId, text: d.label }));
  if (options.length === 0) {
    const text = media[name].track ? media[name].track.label || label : `No ${name}`;
    options.push({ value: "", text });
  }
  const now = JSON.stringify(options);
  if (select.dataset.options !== now) {
    select.dataset.options = now;
    select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
  }
  select.disabled = devices.length === 0;
  select.value = options.some(({ value }) => value === inUse) ? inUse : options[0].value;
}

/** The label says what a press does; the icon and its colour say what is. */
function showToggle(button, media) {
  const name = button.dataset.toggle;
  const off = !media.state[name];
  const hasProblem = media[name].problem !== null;
  const icon = name === "camera" ? "video-camera" : "microphone";
  setIcon(button, off ? `${icon}-slash` : icon);
  button.classList.toggle("is-off", off);
  const inCall = button.closest("#call") !== null;
  const words = LABELS[name][hasProblem ? "problem" : off ? "off" : "on"];
  const label = button.querySelector(".round-label");
  if (label.dataset.words === words) return;
  label.dataset.words = words;
  label.replaceChildren(words);
  button.title = hasProblem ? `Try the ${name} again` : "";
  if (inCall) {
    const key = document.createElement("kbd");
    key.textContent = name === "camera" ? "V" : "M";
    label.append(key);
  }
}

function showProblems(place, media) {
  const { camera, microphone } = media;
  const rows =
    camera.problem === microphone.problem
      ? [{ name: "camera and microphone", problem: camera.problem }]
      : [
          { name: "camera", problem: camera.problem },
          { name: "microphone", problem: microphone.problem },
        ];
  const now = JSON.stringify(rows);
  if (place.dataset.rows === now) return;
  place.dataset.rows = now;
  const shown = rows.filter(({ problem }) => problem !== null);
  place.replaceChildren(...shown.map((row) => problemRow(row, media)));
}

function problemRow({ name, problem }, media) {
  const row = document.createElement("div");
  row.className = "problem";
  const icon = byId("picker-template").content.querySelector(".icon").cloneNode(true);
  icon.querySelector("use").setAttribute("href", "/icons.svg#warning");
  const sentence = document.createElement("p");
  setText(sentence, problemWords(name, problem));
  row.append(icon, sentence);
  if (problem !== "insecure") {
    const again = document.createElement("button");
    again.type = "button";
    again.className = "button small";
    again.textContent = "Try again";
    again.setAttribute("aria-label", `Try again: ${name}`);
    again.addEventListener("click", () => (media[name] ? toggle(media, name) : media.open()));
    row.append(again);
  }
  return row;
}

/** Moves all meters by the microphone's level, while a page with a meter is looked at. */
function startMeter(media) {
  let meter = null;
  const bars = [...document.querySelectorAll(".meter-bar")];
  setInterval(() => {
    const { track } = media.microphone;
    if (meter?.track !== track) {
      meter?.close();
      meter = track && new LevelMeter(track);
    }
    const seen = bars.filter((bar) => bar.offsetParent !== null);
    if (seen.length === 0 || document.hidden) return;
    const level = meter && media.microphone.on ? meter.levelDbfs() : METER_FLOOR_DBFS;
    const filled = Math.max(0, 1 - level / METER_FLOOR_DBFS);
    for (const bar of seen) bar.style.transform = `scaleX(${filled.toFixed(3)})`;
  }, METER_INTERVAL_MS);
}
