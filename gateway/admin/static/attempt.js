// One attempt as a step of a story: what was sent, what was answered.

import { h } from "./dom.js";
import { count } from "./format.js";
import { jsonView } from "./payload.js";
import { when } from "./when.js";

const KINDS = { delivered: "good", retried: "warn", parked: "warn", dead_lettered: "bad", lost: "bad", stopped: "bad", abandoned: "warn", cancelled: "warn", withdrawn: "" };

export const step = (kind, at, title, ...more) =>
  h("li", { class: kind }, at ? when(at, { ms: true }) : h("time"), h("div", h("b", title), more.length > 0 && h("p", ...more)));

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".");

export function attemptStep(one, event, hasTransform = false) {
  const line = step(KINDS[one.outcome] ?? "", one.at, `${one.result}`, one.outcome === "withdrawn" ? `replay ${one.replay} · not attempted, it was cancelled`
    : `${one.replay ? `replay ${one.replay} · ` : ""}attempt ${one.number} · ${count(one.duration_ms)} ms · ${one.outcome.replace("_", "-")}`,
    one.outcome !== "withdrawn" && one.sentence && h("span.why", sentence(one.sentence)));
  if (!one.request && !one.answer) return line;
  // Made when it is opened: a story may have hundreds.
  const inside = h("details.exchange", h("summary", "Request and answer"));
  inside.addEventListener("toggle", () => {
    if (inside.childElementCount === 1) inside.append(request(one, event, hasTransform), answer(one));
  });
  line.lastElementChild.append(inside);
  return line;
}

function request({ request: sent }, event, hasTransform) {
  if (!sent) return h("p.note", "No request was made.");
  const body = h("details", h("summary", "Body"));
  body.addEventListener("toggle", () => {
    if (body.childElementCount === 1) body.append(...[hasTransform && h("p.note", "The transform of the subscriber kept or removed fields of this."), jsonView(event)].filter(Boolean));
  });
  return h("section", h("h5", "Request"), headers(sent.line, sent.headers), body);
}

function answer({ answer: kept, result }) {
  const title = h("h5", "Answer");
  if (!kept) return h("section", title, h("p.note", `${result}. Headers and body are not kept: they are of failures, of the success after one, of replays, and of one other success a minute, as far as there is room.`));
  if (!kept.headers) return h("section", title, h("p.note", `None: ${kept.detail || result}.`));
  return h("section", title, headers(kept.detail || result, kept.headers),
    kept.body ? h("pre.small", { tabindex: "0", role: "group", "aria-label": "Body of the answer" }, kept.body) : h("p.note", "It has no body."),
    kept.is_cut && h("p.note", "The remaining part is not kept."));
}

const headers = (line, rows) =>
  h("div.form", h("div.line", line), h("dl", rows.map(([name, value]) => h("div", h("dt", name), h("dd", value)))));
