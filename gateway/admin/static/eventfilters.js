// The filters above the events. A change is a new address, so that it can be kept and sent to others.

import { h } from "./dom.js";
import { OUTCOMES } from "./outcomes.js";
import { watch } from "./store.js";

const TIMES = { "": "Any time", 900: "Last 15 minutes", 3600: "Last hour", 86400: "Last day", 604800: "Last week", between: "Between …" };

/** Names of the filters, as the interface has them. */
export const FILTERS = ["topic", "callback", "type", "key_prefix", "subscriber", "outcome"];
/** Of these, those that are known of an event when it comes. */
export const LIVE_FILTERS = ["topic", "callback", "type", "key_prefix"];

/** The address of a selection; everything that is empty is left out. */
export function addressOf(values) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return `#/events${query.size ? `?${query}` : ""}`;
}

/** What the interface is asked for. */
export function conditions(query) {
  const found = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const last = Number(query.get("last"));
  return {
    ...found,
    q: query.get("q") ?? "",
    since: last ? Date.now() / 1000 - last : query.get("since") ?? "",
    until: query.get("until") ?? "",
  };
}

export function filterBar(query, signal) {
  const isLive = query.has("live");
  const go = (more = {}) => {
    const values = { q: query.get("q"), live: isLive ? "1" : "" };
    for (const field of fields) values[field.name] = field.value.trim();
    if (range.value === "between") Object.assign(values, { since: seconds(from.value), until: seconds(to.value) });
    else values.last = range.value;
    location.hash = addressOf({ ...values, ...more });
  };
  const change = () => go();
  const choice = (name, label) => h("select", { name, "aria-label": label, onchange: change }, h("option", { value: "" }, label));
  const entry = (name, label) => h("input", { name, type: "text", placeholder: label, "aria-label": label, spellcheck: "false", autocomplete: "off", onchange: change, value: query.get(name) ?? "" });
  const mode = (live, title) => h("button", { type: "button", "aria-pressed": String(isLive === live), onclick: () => go({ live: live ? "1" : "" }) }, title);
  const topic = choice("topic", "All topics");
  const callback = choice("callback", "All callbacks");
  const subscriber = choice("subscriber", "All subscribers");
  const outcome = choice("outcome", "Any outcome");
  outcome.append(...Object.entries(OUTCOMES).map(([name, [word]]) => h("option", { value: name }, word)));
  const type = entry("type", "Any type");
  const key = entry("key_prefix", "Key begins with");
  const fields = isLive ? [topic, callback, type, key] : [topic, callback, type, key, subscriber, outcome];
  const range = h("select", { "aria-label": "Time", onchange: () => (range.value === "between" ? span(true) : change()) },
    Object.entries(TIMES).sort(([one], [other]) => order(one) - order(other)).map(([value, title]) => h("option", { value }, title)));
  const from = h("input", { type: "datetime-local", "aria-label": "From", step: "1", onchange: change, value: local(query.get("since")) });
  const to = h("input", { type: "datetime-local", "aria-label": "To", step: "1", onchange: change, value: local(query.get("until")) });
  const span = (isShown) => [from, to].forEach((field) => (field.hidden = !isShown));
  range.value = query.has("since") || query.has("until") ? "between" : query.get("last") ?? "";
  span(range.value === "between");
  offerNames({ topic, callback, subscriber, outcome }, query, signal);
  const used = [...FILTERS, "last", "since", "until"].filter((name) => query.get(name)).length;
  const inner = h("div.fieldset", !isLive && [range, from, to], fields,
    used > 0 && h("button.plain", { type: "button", onclick: () => (location.hash = addressOf({ q: query.get("q"), live: isLive ? "1" : "" })) }, "Clear filters"));
  const folded = h("details.fold", { open: !matchMedia("(max-width: 720px)").matches }, h("summary", used ? `Filters (${used})` : "Filters"), inner);
  return h("form.filters", { onsubmit: (event) => { event.preventDefault(); go(); }, "aria-label": "Filters" },
    h("div.modes", { role: "group", "aria-label": "Which events" }, mode(false, "Stored"), mode(true, "Live")), folded, h("span.gap"));
}

const order = (value) => (value === "" ? -1 : value === "between" ? Infinity : Number(value));

/** Names come with the overview, which is asked for all the time. */
function offerNames(selects, query, signal) {
  const offer = (select, names) => {
    const known = new Set([...select.options].map((option) => option.value));
    for (const name of names) if (!known.has(name)) select.append(h("option", { value: name }, name));
    select.value = query.get(select.name) ?? "";
  };
  for (const select of Object.values(selects)) offer(select, [query.get(select.name)].filter(Boolean));
  const end = watch(({ latest }) => {
    if (!latest || Object.values(selects).includes(document.activeElement)) return;
    offer(selects.topic, latest.topics.map((one) => one.name));
    offer(selects.callback, latest.intake?.configured ?? []);
    offer(selects.subscriber, latest.subscribers.map((one) => one.name));
  });
  signal.addEventListener("abort", end, { once: true });
}

const seconds = (text) => (text ? new Date(text).getTime() / 1000 : "");

/** A time as the field has it: of this place, without a zone. */
function local(value) {
  if (!value) return "";
  const then = new Date(Number(value) * 1000);
  return new Date(then.getTime() - then.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}
