// Small things that every view needs: elements, icons, the live region, copying, storage.

/** The element with that id; a missing one is a fault of the page itself. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element #${id}`);
  return element;
}

export function setIcon(button, name) {
  setAttribute(button.querySelector("use"), "href", `/icons.svg#${name}`);
}

/** Writes only what differs, so that screen readers and layout are left in peace. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Shows a badge with a text, or hides it where the text is null. */
export function showPill(element, text) {
  element.hidden = text === null;
  if (text !== null) setText(element.querySelector("span:not(.dot, .spinner)") ?? element, text);
}

let announced = "";

/** Says it to screen readers, once. */
export function announce(text) {
  if (text === announced || !text) return;
  announced = text;
  byId("announcer").textContent = text;
}

/** Shows one of the views and moves the focus to where the eye goes. */
export function showView(name, focus) {
  document.body.dataset.view = name;
  for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== name;
  (focus ?? byId(name)).focus({ preventScroll: true });
}

/** Copies; where the browser forbids it, a dialogue offers the text to be copied by hand. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // No clipboard without a secure context; the old way still works there.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (!copied) window.prompt("Copy this:", text);
    return copied;
  }
}

/** JSON in a `Storage`, or null; storage may be forbidden or full, and nothing depends on it. */
export function load(storage, key) {
  try {
    return JSON.parse(window[storage].getItem(key));
  } catch {
    return null;
  }
}

export function save(storage, key, value) {
  try {
    if (value === null) window[storage].removeItem(key);
    else window[storage].setItem(key, JSON.stringify(value));
  } catch {
    // See `load`.
  }
}
