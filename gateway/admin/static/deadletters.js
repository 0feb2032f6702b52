// Dead letters: what was given up, why; delivering it again, or closing it with a note.

import { get, post } from "./api.js";
import { empty, failed, fill, h, loading, say, toast } from "./dom.js";
import { count, moment, timeMs, type } from "./format.js";
import { replayDialog } from "./replay.js";
import { refresh } from "./store.js";

const STATES = [["open", "Open"], ["delivered", "Delivered by a replay"], ["resolved", "Resolved"], ["all", "All"]];
const REASONS = { attempts: "no attempt left", age: "too old" };
const NOTHING = {
  open: ["No dead letter is open", "An event comes here when its last attempt failed, with the reason and what was answered."],
  delivered: ["None was delivered by a replay", "A dead letter is closed when a replay has delivered its event."],
  resolved: ["None was resolved", "A dead letter whose event needs no delivery any more is closed with a note."],
  all: ["Nothing was given up", "An event comes here when its last attempt failed, with the reason and what was answered."],
};

export function deadLettersView(element, { query, signal }) {
  const list = h("div.list", loading());
  const subscriber = h("select", { "aria-label": "Subscriber", onchange: go });
  const reason = h("select", { "aria-label": "Reason", onchange: go });
  const state = h("select", { "aria-label": "State", onchange: go }, STATES.map(([value, text]) => h("option", { value }, text)));
  const chosen = new Set();
  const again = h("button", { type: "button", onclick: () => deliver({ ids: ids() }, ids().length) });
  const all = h("button", { type: "button", onclick: () => deliver(restOf()) });
  const close = h("button", { type: "button", onclick: () => resolve({ ids: ids() }, ids().length) });
  const closeAll = h("button", { type: "button", onclick: () => resolve({ ...restOf(), all: true }, total()) });
  let counts = {};
  state.value = query.get("state") ?? "open";
  element.append(h("form.filters", { onsubmit: (event) => event.preventDefault(), "aria-label": "Filters" },
    subscriber, reason, state, h("span.gap"), again, all, close, closeAll), list);

  const name = () => (chosen.size ? [...chosen][0].split("/")[0] : subscriber.value);
  const ids = () => [...chosen].map((key) => key.slice(key.indexOf("/") + 1));
  const restOf = () => ({ ...(reason.value && { reasons: [reason.value] }) });
  const total = () => Object.entries(counts[subscriber.value] ?? {})
    .reduce((sum, [why, one]) => sum + (!reason.value || why === reason.value ? one : 0), 0);

  function go() {
    const wanted = new URLSearchParams();
    if (subscriber.value) wanted.set("subscriber", subscriber.value);
    if (reason.value) wanted.set("reason", reason.value);
    if (state.value !== "open") wanted.set("state", state.value);
    location.hash = `#/dead-letters${wanted.size ? `?${wanted}` : ""}`;
  }
  function deliver(which, events = null) {
    const title = events === null ? `Deliver open dead letters of ${name()} again` : `Deliver ${count(events)} again to ${name()}`;
    replayDialog({ subscriber: name(), title, fixed: { ...which, from_dlq: true, ...(events !== null && { state: state.value }) },
      ondone: () => [0, 1000, 3000].forEach((wait) => setTimeout(load, wait)) });
  }
  function resolve(which, events) {
    resolveDialog({ subscriber: name(), which, events, ondone: load });
  }
  function showChosen() {
    const isOpen = state.value === "open";
    say(again, chosen.size ? `Replay ${count(chosen.size)} …` : "Replay …");
    say(close, chosen.size ? `Resolve ${count(chosen.size)} …` : "Resolve …");
    say(all, "Replay all open …");
    say(closeAll, "Resolve all open …");
    again.disabled = close.disabled = chosen.size === 0;
    close.hidden = !isOpen;
    all.hidden = closeAll.hidden = !isOpen || !subscriber.value || total() === 0;
  }

  async function load() {
    try {
      const wanted = { subscriber: query.get("subscriber"), reason: query.get("reason"), state: state.value, limit: 200 };
      const found = await get("/api/dead-letters", wanted, signal);
      const { subscribers } = await get("/api/subscribers", {}, signal);
      counts = found.counts;
      chosen.clear();
      fill(subscriber, h("option", { value: "" }, "All subscribers"), subscribers.map((one) => h("option", { value: one.name }, option(one.name, counts[one.name]))));
      const reasons = new Set(Object.values(counts).flatMap((one) => Object.keys(one)));
      if (query.get("reason")) reasons.add(query.get("reason"));
      fill(reason, h("option", { value: "" }, "All reasons"), [...reasons].map((why) => h("option", { value: why }, REASONS[why] ?? why)));
      subscriber.value = query.get("subscriber") ?? "";
      reason.value = query.get("reason") ?? "";
      showChosen();
      show(found);
    } catch (problem) {
      if (problem.name !== "AbortError") fill(list, failed(problem, load));
    }
  }

  function show(found) {
    if (!found.letters.length) return fill(list, empty(...NOTHING[found.state]));
    const sum = Object.values(found.counts).flatMap((one) => Object.entries(one))
      .reduce((before, [why, one]) => before + (!reason.value || why === reason.value ? one : 0), 0);
    fill(list, h("p.note", sum > found.letters.length ? `The newest ${count(found.letters.length)} of ${count(sum)}.` : `${count(sum)} ${sum === 1 ? "event" : "events"}.`),
      h("ul.letters", found.letters.map((letter) => row(letter, chosen, showChosen))));
  }
  showChosen();
  load();
}

const option = (name, counts) => {
  const total = Object.values(counts ?? {}).reduce((sum, one) => sum + one, 0);
  return total ? `${name} (${count(total)})` : name;
};

/** Close dead letters with a note; `which` selects them. */
function resolveDialog({ subscriber, which, events, ondone }) {
  const note = h("input", { id: "note", type: "text", maxlength: 1000, required: true, placeholder: "sent by hand, ticket 4711" });
  const answer = h("p.error", { role: "alert" });
  const go = h("button.main", {}, `Resolve ${count(events)}`);
  const send = async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      const { resolved } = await post("/api/dead-letters/resolve", { subscriber, ...which, note: note.value });
      toast(`${count(resolved)} ${resolved === 1 ? "dead letter" : "dead letters"} of ${subscriber} resolved.`, "good");
      dialog.close();
      ondone();
      refresh();
    } catch (problem) {
      say(answer, problem.message);
      go.disabled = false;
    }
  };
  const dialog = h("dialog", { "aria-labelledby": "resolve-title", onclose: () => dialog.remove() },
    h("form", { onsubmit: send },
      h("h2", { id: "resolve-title" }, `Resolve ${count(events)} ${events === 1 ? "dead letter" : "dead letters"} of ${subscriber}`),
      h("p", "Nothing is delivered. They leave the list of open ones, and the note is kept with each."),
      h("div.fields", h("label", { for: "note" }, "Note"), note), answer,
      h("div.buttons", h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go)));
  document.body.append(dialog);
  dialog.showModal();
}

const CLOSED = {
  delivered: (closed) => (closed.replay ? `by replay ${closed.replay}` : "by a replay"),
  resolved: (closed) => `by ${closed.by}: ${closed.note}`,
};

function row(letter, chosen, onchange) {
  const key = `${letter.subscriber}/${letter.id}`;
  const box = h("input", { type: "checkbox", "aria-label": `Choose ${letter.key} of ${letter.subscriber}` });
  box.addEventListener("change", () => {
    // One replay goes to one subscriber: choosing an event of another one starts a new choice.
    if (box.checked && [...chosen].some((other) => !other.startsWith(`${letter.subscriber}/`))) {
      chosen.clear();
      for (const other of box.closest("ul").querySelectorAll("input:checked")) other.checked = other === box;
    }
    box.checked ? chosen.add(key) : chosen.delete(key);
    onchange();
  });
  const inside = h("div.inside");
  const details = h("details", h("summary",
    h("time", moment(letter.given_up_at)), h("span.who", letter.subscriber), h("span.type", type(letter.type)),
    h("span.subject", letter.key), h("span.badge.bad", REASONS[letter.reason] ?? letter.reason),
    letter.closed && h("span.badge.good", letter.state),
    h("span.note", `${count(letter.attempts)} ${letter.attempts === 1 ? "attempt" : "attempts"}, last ${letter.last_status}`)), inside);
  // Most of two hundred rows are never opened.
  details.addEventListener("toggle", () => inside.childElementCount || fill(inside, story(letter)), { once: true });
  return h("li.letter", { "data-id": letter.id, "data-state": letter.state }, box, details);
}

const story = (letter) => [
  letter.closed && h("p", `${letter.state} ${moment(letter.closed.at)} ${CLOSED[letter.state](letter.closed)}`),
  letter.replay && h("p", `Given up by replay ${letter.replay}`),
  letter.last_detail && h("p", letter.last_detail),
  letter.last_response && h("pre.small", { tabindex: "0", role: "group", "aria-label": "The last answer" }, letter.last_response),
  h("ol.timeline", letter.steps.map((step) => h("li.bad", h("time", timeMs(step.at)), h("div", h("b", step.result), h("p", `${count(step.duration_ms)} ms`))))),
  h("p", h("a", { href: `#/event/${letter.id}` }, "The event's whole story")),
];
