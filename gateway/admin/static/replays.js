// Replays: what each has stored, delivered and given up; cancel, resume.

import { get, post } from "./api.js";
import { empty, failed, fill, h, loading, toast } from "./dom.js";
import { count, moment } from "./format.js";

const STATES = { running: "warn", done: "good", failed: "bad", cancelled: "", interrupted: "bad" };
const LOOK_MS = 2000;

export function replaysView(element, { signal }) {
  const list = h("div.list", loading());
  element.append(list);
  let timer = 0;
  let shown = "";
  signal.addEventListener("abort", () => clearTimeout(timer));

  async function load() {
    clearTimeout(timer);
    try {
      const { replays } = await get("/api/replays", {}, signal);
      const text = JSON.stringify(replays);
      if (text !== shown) show(replays);
      shown = text;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      shown = "";
      fill(list, failed(problem, load));
    }
    if (!signal.aborted) timer = setTimeout(load, LOOK_MS);
  }

  async function act(one, verb) {
    try {
      const found = await post(`/api/replays/${one.number}/${verb}`);
      toast(verb === "cancel" ? `${one.name} is cancelled.` : `${one.name} continues as ${found.name}.`, "good");
    } catch (problem) {
      toast(problem.message, "bad");
    }
    load();
  }

  function show(replays) {
    if (!replays.length) return fill(list, empty("No replays", "A replay delivers events again: from a subscriber's card, an event's story, or the dead letters."));
    fill(list, h("div.scroll", { tabindex: "0", role: "group", "aria-label": "Replays" }, h("table",
      h("thead", h("tr", h("th", "Replay"), h("th", "Subscriber"), h("th", "State"), h("th", "Started"), h("th", "Which"),
        ["Stored", "Delivered", "Given up", "Waiting"].map((name) => h("th.number", { scope: "col" }, name)), h("th", h("span.unseen", "Actions")))),
      h("tbody", replays.map(row)))));
  }

  function row(one) {
    const isOpen = one.state === "running" || (one.state === "done" && one.waiting > 0);
    const isBroken = ["cancelled", "interrupted", "failed"].includes(one.state);
    const button = (verb, word) => h("button", { type: "button", "aria-label": `${word} ${one.name}`, onclick: () => act(one, verb) }, word);
    return h("tr", { "data-name": one.name },
      h("th", { scope: "row" }, one.name), h("td", one.subscriber),
      h("td", h("span.badge", { class: `badge ${STATES[one.state]}`, title: one.error || null }, one.state === "done" && one.waiting ? "delivering" : one.state)),
      h("td", moment(one.started_at)), h("td", which(one)),
      [one.stored, one.delivered, one.given_up, one.waiting].map((value) => h("td.number", count(value))),
      h("td", isOpen && button("cancel", "Cancel"), isBroken && button("resume", "Resume")));
  }
  load();
}

function which({ selection, resumes }) {
  const parts = [selection.is_from_dlq ? "dead letters" : selection.ids.length ? `${count(selection.ids.length)} by id` : ""];
  if (selection.since) parts.push(`${moment(selection.since)} to ${moment(selection.until)}`);
  parts.push(...selection.types, ...selection.reasons, selection.is_failed_only ? "not delivered ones" : "", resumes ? `continues ${resumes}` : "");
  return parts.filter(Boolean).join(", ");
}
