// Replays: what each has stored, delivered and given up; cancel, resume.

import { get, post } from "./api.js";
import { empty, failed, fill, h, loading, say, toast } from "./dom.js";
import { count, moment } from "./format.js";

const STATES = { running: "warn", done: "good", failed: "bad", cancelled: "", interrupted: "bad" };
const LOOK_MS = 2000;

export function replaysView(element, { signal }) {
  const list = h("div.list", loading());
  const body = h("tbody");
  const table = h("div.scroll", { tabindex: "0", role: "group", "aria-label": "Replays" }, h("table",
    h("thead", h("tr", h("th", "Replay"), h("th", "Subscriber"), h("th", "State"), h("th", "Started"), h("th", "Which"),
      ["Stored", "Delivered", "Given up", "Waiting"].map((name) => h("th.number", { scope: "col" }, name)), h("th", h("span.unseen", "Actions")))), body));
  const rows = new Map();
  element.append(list);
  let timer = 0;
  let awaited = "";
  signal.addEventListener("abort", () => clearTimeout(timer));

  async function load() {
    clearTimeout(timer);
    try {
      show((await get("/api/replays", {}, signal)).replays);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      fill(list, failed(problem, load));
    }
    if (!signal.aborted) timer = setTimeout(load, LOOK_MS);
  }

  async function act(one, verb) {
    try {
      const found = await post(`/api/replays/${one.number}/${verb}`);
      if (verb === "resume") awaited = found.name;
      toast(verb === "cancel" ? `${one.name} is cancelled.` : `${one.name} continues as ${found.name}.`, "good");
    } catch (problem) {
      toast(problem.message, "bad");
    }
    load();
  }

  /** A new replay is inserted above the others, but not while the pointer is over one, unless this page started it. */
  function show(replays) {
    if (!replays.length) return fill(list, empty("No replays", "A replay delivers events again: from a subscriber's card, an event's story, or the dead letters."));
    if (!table.isConnected) fill(list, table);
    const isAsked = replays.some((one) => one.name === awaited);
    const isHeld = !isAsked && body.matches(":hover");
    for (const one of [...replays].reverse()) {
      if (!rows.has(one.name)) rows.set(one.name, row(one, act));
      const { element, update } = rows.get(one.name);
      update(one);
      if (!isHeld && element.parentNode !== body) body.prepend(element);
    }
    const names = new Set(replays.map((one) => one.name));
    for (const [name, one] of rows) if (!names.has(name)) { one.element.remove(); rows.delete(name); }
    if (isAsked) awaited = "";
  }
  load();
}

function row({ name, number, subscriber, started_at: startedAt, selection, resumes }, act) {
  const badge = h("span.badge");
  const counts = ["stored", "delivered", "given_up", "waiting"].map((key) => [key, h("td.number")]);
  const button = (verb, word) => h("button", { type: "button", "aria-label": `${word} ${name}`, onclick: () => act({ name, number }, verb) }, word);
  const cancel = button("cancel", "Cancel");
  const resume = button("resume", "Resume");
  return {
    element: h("tr", { "data-name": name }, h("th", { scope: "row" }, name), h("td", subscriber), h("td", badge),
      h("td", moment(startedAt)), h("td", which({ selection, resumes })), counts.map(([, cell]) => cell), h("td", cancel, resume)),
    update(one) {
      badge.className = `badge ${STATES[one.state]}`;
      badge.title = one.error || "";
      say(badge, one.state === "done" && one.waiting ? "delivering" : one.state);
      for (const [key, cell] of counts) say(cell, count(one[key]));
      cancel.hidden = !(one.state === "running" || (one.state === "done" && one.waiting > 0));
      resume.hidden = !["cancelled", "interrupted", "failed"].includes(one.state);
    },
  };
}

function which({ selection, resumes }) {
  const parts = [selection.is_from_dlq ? "dead letters" : selection.ids.length ? `${count(selection.ids.length)} by id` : ""];
  if (selection.since) parts.push(`${moment(selection.since)} to ${moment(selection.until)}`);
  parts.push(...selection.types, ...selection.reasons, selection.is_failed_only ? "not delivered ones" : "", resumes ? `continues ${resumes}` : "");
  return parts.filter(Boolean).join(", ");
}
