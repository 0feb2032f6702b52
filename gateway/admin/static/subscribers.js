// Every subscriber, the sick ones first: how far behind, how fast; found by name, sorted; pause, resume, replay.

import { post } from "./api.js";
import { spark } from "./charts.js";
import { empty, fill, h, say, toast } from "./dom.js";
import { ago, count, moment, rate, seconds, share, short } from "./format.js";
import { replayDialog } from "./replay.js";
import { kindOf, ORDER, wordOf } from "./states.js";
import { refresh, series, times } from "./store.js";
import { addButton, isPermitted, manageButtons } from "./subscriberform.js";
import { exact } from "./when.js";

/** Rows shown at first: more push what is below out of sight. */
const SHOWN = 12;
/** Below this there is nothing to look for. */
const FEW = 6;

const byNumber = (of) => (one, other) => (of(other) ?? -1) - (of(one) ?? -1);
const SORTS = {
  state: ["State", (one, other) => ORDER.indexOf(one.word) - ORDER.indexOf(other.word)],
  name: ["Name", () => 0],
  behind: ["Behind", byNumber((one) => one.lag)],
  rate: ["Per second", byNumber((one) => one.rate)],
  success: ["Success", (one, other) => (one.success_share ?? 2) - (other.success_share ?? 2)],
  p99: ["p99", byNumber((one) => one.p99)],
  dead: ["Given up", byNumber((one) => one.dead_letters)],
  error: ["Last error", byNumber((one) => one.last_error?.at)],
};
const HEADS = [["name", "Subscriber"], ["state"], ["behind", "", "number"], ["rate", "", "number"], ["success", "", "number"], ["p99", "", "number"], ["dead", "", "number"], ["error"]];

export function subscriberList() {
  const rows = new Map();
  const body = h("tbody");
  let latest = [];
  let isAll = false;
  let chosen = "";
  const order = h("select", { "aria-label": "Sort by", onchange: () => draw(true) },
    Object.entries(SORTS).map(([key, [title]]) => h("option", { value: key }, title)));
  const text = h("input", { type: "search", placeholder: "Name, topic or address", "aria-label": "Filter subscribers", spellcheck: "false", oninput: () => draw(true) });
  const states = h("span.states", { role: "group", "aria-label": "Filter by state" });
  const bar = h("div.filters.slim", text, states, h("span.gap"), h("label.sort", "Sort by ", order));
  const heads = HEADS.map(([key, title, kind]) =>
    h("th", { scope: "col", class: kind, "data-sort": key }, h("button.head", { type: "button", onclick: () => { order.value = key; draw(true); } }, title || SORTS[key][0])));
  const table = h("table.subscribers", h("caption.unseen", "Subscribers"), h("thead", h("tr", heads, h("th", { scope: "col" }, h("span.unseen", "Actions")))), body);
  const more = h("button.more", { type: "button", onclick: () => { isAll = !isAll; draw(true); } });
  const nothing = empty("No subscribers", ["Add one here, or under ", h("code", "subscribers:"), " in the configuration; no restart is needed."],
    "Until then events are stored and can be replayed.");
  const none = h("p.note.none", { role: "status" });
  const box = h("div.scroll", table, none, more);

  function wanted() {
    const asked = text.value.trim().toLowerCase();
    const [, compare] = SORTS[order.value];
    return latest
      .filter((one) => !chosen || one.word === chosen)
      .filter((one) => !asked || [one.name, one.target, ...one.topics].some((value) => value.toLowerCase().includes(asked)))
      .sort((one, other) => compare(one, other) || one.name.localeCompare(other.name));
  }

  /** Rows change places and heights only while the pointer is not over one, unless that was asked for. */
  function draw(isAsked = false) {
    const found = wanted();
    const shown = isAll ? found : found.slice(0, SHOWN);
    const isHeld = !isAsked && (body.matches(":hover") || body.contains(document.activeElement));
    for (const one of shown) if (!rows.has(one.name)) rows.set(one.name, row(one));
    const present = [...body.children].map((element) => element.dataset.name);
    const names = shown.map((one) => one.name);
    if (!isHeld && names.join("\n") !== present.join("\n")) fill(body, names.map((name) => rows.get(name).element));
    const isPointedAt = body.matches(":hover");
    for (const one of latest) if (rows.get(one.name)?.element.isConnected) rows.get(one.name).update(one, isPointedAt);
    for (const head of heads) head.setAttribute("aria-sort", head.dataset.sort === order.value ? "descending" : "none");
    more.hidden = found.length <= SHOWN;
    say(more, isAll ? "Show fewer" : `Show all ${count(found.length)}`);
    none.hidden = found.length > 0;
    say(none, "No subscriber is like that.");
    table.hidden = found.length === 0;
  }

  function drawStates() {
    const numbers = new Map(ORDER.map((state) => [state, latest.filter((one) => one.word === state).length]));
    const present = ORDER.filter((state) => numbers.get(state) || state === chosen);
    const key = present.map((state) => `${state} ${numbers.get(state)}`).join() + chosen;
    if (states.dataset.key === key) return;
    const isFocused = states.contains(document.activeElement) ? document.activeElement.dataset.state : null;
    states.dataset.key = key;
    fill(states, present.map((state) => h("button.badge", {
      type: "button", class: `badge ${kindOf({ state })}`, "data-state": state, "aria-pressed": String(state === chosen),
      onclick: () => { chosen = chosen === state ? "" : state; drawStates(); draw(true); },
    }, `${numbers.get(state)} ${state}`)));
    if (isFocused) states.querySelector(`[data-state="${isFocused}"]`)?.focus();
  }

  return {
    element: h("div", h("p.adding", addButton()), bar, box, nothing),
    update({ subscribers }) {
      const isOther = latest.length !== subscribers.length;
      latest = subscribers.map((one) => ({ ...one, word: wordOf(one) }));
      nothing.hidden = latest.length > 0;
      box.hidden = latest.length === 0;
      bar.hidden = latest.length < FEW;
      const names = new Set(latest.map((one) => one.name));
      for (const [name, one] of rows) if (!names.has(name)) { one.element.remove(); rows.delete(name); }
      drawStates();
      // One that was just added is shown, wherever the pointer is.
      draw(isOther);
    },
  };
}

function cell(kind, label, ...inner) {
  const value = h("span.value");
  return { element: h("td", { class: kind, "data-label": label }, ...inner, value), value };
}

function row(first) {
  const { name } = first;
  const badge = h("span.badge");
  const lagChart = spark(`${name}: records behind`, short, "tint3");
  const rateChart = spark(`${name}: delivered per second`, rate, "good");
  const lag = cell("number", "Behind", lagChart.element);
  const delivered = cell("number", "Per second", rateChart.element);
  const success = cell("number", "Success");
  const p99 = cell("number", "p99");
  const dead = h("a", { href: `#/dead-letters?subscriber=${encodeURIComponent(name)}` });
  const error = h("td.last", { "data-label": "Last error" });
  const toggle = h("button", { type: "button" });
  const again = h("button", { type: "button", onclick: () => replayDialog({ subscriber: name }) }, "Replay …");
  let latest = first;
  toggle.addEventListener("click", async () => {
    const verb = ["paused", "stopped"].includes(latest.state) ? "resume" : "pause";
    toggle.disabled = true;
    try {
      await post(`/api/subscribers/${encodeURIComponent(name)}/${verb}`);
      toast(`${name} is ${verb === "pause" ? "paused: its events wait in the log" : "resumed"}.`, "good");
      await refresh();
    } catch (problem) {
      toast(problem.message, "bad");
    } finally {
      toggle.disabled = false;
    }
  });
  const target = first.kind === "webhook" ? first.target : `${first.kind} ${first.target}`;
  const isPlain = (one) => one.word === "healthy" || one.kind === "stream";
  const was = h("p.was", { hidden: isPlain(first) });
  const element = h("tr", { "data-name": name },
    h("th", { scope: "row" }, h("span.name", name), h("span.target", { title: target }, target)),
    h("td.state", badge, was), lag.element, delivered.element, success.element, p99.element,
    h("td.number", { "data-label": "Given up" }, dead), error, h("td.do", h("span.actions", manageButtons(first), again, toggle)));
  return {
    element,
    update(one, isPointedAt) {
      latest = one;
      say(badge, one.word);
      badge.className = `badge ${kindOf(one)}`;
      badge.title = one.reason;
      element.dataset.state = kindOf(one);
      // This line moves the rows below: it appears and disappears only while the pointer is elsewhere.
      if (!isPointedAt) was.hidden = isPlain(one);
      say(was, isPlain(one) ? "" : `${one.reason}${one.since ? ` Since ${moment(one.since)}.` : ""}`);
      was.title = `${one.reason} ${exact(one.since)}`;
      const unknown = one.lag_unknown;
      // What was known last is shown as that: greyed, with the time of it in the line below.
      say(lag.value, unknown ? (unknown.last === null ? "unknown" : `was ${short(unknown.last)}`) : short(one.lag));
      lag.value.classList.toggle("before", Boolean(unknown));
      lagChart.set(times(), series(`subscriber:${name}:lag`));
      say(delivered.value, rate(one.rate));
      rateChart.set(times(), series(`subscriber:${name}:delivered`));
      say(success.value, share(one.success_share));
      success.value.classList.toggle("bad", one.success_share !== null && one.success_share < 0.99);
      say(p99.value, seconds(one.p99));
      p99.element.title = one.p50 === null ? "" : `p50 ${seconds(one.p50)} · ${one.in_flight === null ? "" : `${one.in_flight} of ${one.concurrency} in flight`}`;
      dead.hidden = !one.dead_letters;
      say(dead, one.dead_letters ? count(one.dead_letters) : "");
      dead.setAttribute("aria-label", `${count(one.dead_letters)} given up for ${name}`);
      say(error, one.last_error ? `${ago(one.last_error.at)}: ${one.last_error.sentence}` : "none seen");
      error.title = one.last_error ? `${exact(one.last_error.at)}: ${one.last_error.sentence}` : "";
      error.classList.toggle("none", !one.last_error);
      const isHeld = ["paused", "stopped"].includes(one.state);
      say(toggle, isHeld ? "Resume" : "Pause");
      toggle.setAttribute("aria-label", `${isHeld ? "Resume" : "Pause"} ${name}`);
      again.setAttribute("aria-label", `Replay … to ${name}`);
      toggle.hidden = !one.is_here || one.kind === "stream" || !isPermitted("operate");
      again.hidden = one.kind === "stream" || !isPermitted("operate");
    },
  };
}
