// Elements without markup: every text stays a text, whatever a sender wrote.

/**
 * Make an element: h("div.card#id", {title: "…", onclick: f, disabled: true}, "text", child, [more]).
 * Attributes that are null, undefined or false are left out.
 */
export function h(selector, ...rest) {
  const [name, ...marks] = selector.split(/(?=[.#])/);
  const element = document.createElement(name);
  for (const mark of marks) mark[0] === "." ? element.classList.add(mark.slice(1)) : (element.id = mark.slice(1));
  const hasProperties = rest[0] !== null && typeof rest[0] === "object" && !Array.isArray(rest[0]) && !(rest[0] instanceof Node);
  const properties = hasProperties ? rest.shift() : {};
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...rest.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Exchange an element's children. */
export const fill = (element, ...children) =>
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));

/** Change a text only when it differs: a screen reader and the layout notice every change. */
export function say(element, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** A drawing made of one path. */
export function icon(path) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  drawing.append(line);
  return drawing;
}

/** A message that goes by itself. */
export function toast(text, kind = "") {
  const note = h("p.toast", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 12000 : 6000);
}

/** The note in an empty list. */
export const empty = (title, ...hints) => h("div.empty", h("p.title", title), hints.map((hint) => h("p", hint)));

/** Grey bars where something will be. */
export const loading = (lines = 4) =>
  h("div.loading", { role: "status", "aria-label": "Loading" }, Array.from({ length: lines }, () => h("i")));

/** What went wrong, and a way on. */
export const failed = (error, again) =>
  h("div.empty.bad", { role: "alert" }, h("p.title", "That did not work"), h("p", error.message),
    again && h("p", h("button", { type: "button", onclick: again }, "Try again")));
