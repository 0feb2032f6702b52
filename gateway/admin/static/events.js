// Events: as they come, or those that were looked for.

import { follow, get } from "./api.js";
import { empty, failed, fill, h, loading, say } from "./dom.js";
import { eventRow } from "./eventrow.js";
import { count } from "./format.js";
import { overview, watch } from "./store.js";

const KEPT = 200;

export function eventsView(element, { query, signal }) {
  const asked = query.get("q") ?? "";
  document.getElementById("find").value = asked;
  const filters = filterBar(query, signal);
  const list = h("div.list");
  element.append(filters, list);
  if (asked || query.get("past")) results(list, query, signal);
  else live(list, filters, query, signal);
}

/** Topic, callback and type; a change is a new address, so that it can be kept and sent to others. */
function filterBar(query, signal) {
  const go = () => {
    const wanted = new URLSearchParams();
    for (const field of [past, topic, callback, type]) {
      const value = field.value.trim();
      if (value) wanted.set(field.name, value);
    }
    if (query.get("q")) wanted.set("q", query.get("q"));
    location.hash = `#/events${wanted.size ? `?${wanted}` : ""}`;
  };
  const choice = (name, label) => h("select", { name, "aria-label": label, onchange: go }, h("option", { value: "" }, label));
  const past = h("select", { name: "past", "aria-label": "Which events", onchange: go }, h("option", { value: "" }, "Live"), h("option", { value: "1" }, "Stored"));
  const topic = choice("topic", "All topics");
  const callback = choice("callback", "All callbacks");
  const type = h("input", { name: "type", type: "text", placeholder: "Any type", "aria-label": "Type", spellcheck: "false", onchange: go, value: query.get("type") ?? "" });
  past.value = query.get("past") ?? "";
  const offer = (select, names) => {
    const known = new Set([...select.options].map((option) => option.value));
    for (const name of names) if (!known.has(name)) select.append(h("option", { value: name }, name));
    select.value = query.get(select.name) ?? "";
  };
  offer(topic, [query.get("topic")].filter(Boolean));
  offer(callback, [query.get("callback")].filter(Boolean));
  const end = watch(({ latest }) => {
    if (!latest || topic === document.activeElement || callback === document.activeElement) return;
    offer(topic, latest.topics.map((one) => one.name));
    offer(callback, latest.intake?.configured ?? []);
  });
  signal.addEventListener("abort", end, { once: true });
  if (query.get("q")) past.hidden = true;
  return h("form.filters", { onsubmit: (event) => { event.preventDefault(); go(); }, "aria-label": "Filters" }, past, topic, callback, type, h("span.gap"));
}

// -- live ----------------------------------------------------------------------------------------------------------

function live(list, filters, query, signal) {
  const rows = h("ol.events", { role: "log", "aria-live": "off", "aria-label": "Events as they come" });
  const state = h("span.live", { role: "status" }, "connecting");
  const hold = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const clear = h("button", { type: "button", onclick: () => { fill(rows); waiting.length = 0; show(); } }, "Clear");
  const nothing = empty("Waiting for events", "They show here as they are stored. Search above finds those that were.");
  const waiting = [];
  let isHeld = false;
  let missed = 0;
  filters.append(state, hold, clear);
  fill(list, rows, nothing);

  function show() {
    nothing.hidden = rows.childElementCount > 0;
    say(hold, isHeld ? `Go on${waiting.length ? ` (${count(waiting.length + missed)} new)` : ""}` : "Pause");
  }
  function add(event) {
    rows.prepend(eventRow(event, { isLive: true }));
    while (rows.childElementCount > KEPT) rows.lastElementChild.remove();
  }
  hold.addEventListener("click", () => {
    isHeld = !isHeld;
    hold.setAttribute("aria-pressed", String(isHeld));
    if (!isHeld) {
      waiting.splice(0).forEach(add);
      missed = 0;
    }
    show();
  });
  follow("/api/events", { brief: "1", ...Object.fromEntries(query) }, signal, {
    onevent(name, data) {
      if (name === "passed-over") return say(state, `live · ${count(data.count)} passed over, too many to show`);
      if (isHeld) {
        waiting.push(data);
        if (waiting.length > KEPT) { waiting.shift(); missed += 1; }
      } else add(data);
      show();
    },
    onstate(what) {
      state.dataset.state = what;
      say(state, what === "open" ? "live" : "connection lost, trying again …");
    },
  });
  show();
}

// -- search --------------------------------------------------------------------------------------------------------

async function results(list, query, signal) {
  const rows = h("ol.events", { "aria-label": "Events found" });
  const more = h("button", { type: "button", hidden: true }, "Older …");
  const note = h("p.note", { role: "status" });
  const wanted = Object.fromEntries(["q", "topic", "callback", "type"].map((name) => [name, query.get(name) ?? ""]));
  let before = "";
  let total = 0;

  async function page() {
    more.disabled = true;
    try {
      const found = await get("/api/search", { ...wanted, before, limit: 50 }, signal);
      rows.append(...found.events.map((event) => eventRow(event)));
      total += found.events.length;
      before = found.next ?? "";
      more.hidden = found.next === null;
      more.disabled = false;
      const kept = overview()?.journal;
      const behind = found.lag > 1000 ? ` The newest ${count(found.lag)} are not searched yet.` : "";
      say(note, total ? `${count(total)}${before ? "+" : ""} ${total === 1 ? "event" : "events"}.${behind}` : behind);
      if (total) fill(list, note, rows, more);
      else if (before) fill(list, h("p.note", "Nothing among the newest ones."), more);
      else fill(list, empty(wanted.q ? `Nothing is found for “${wanted.q}”` : "No such event is stored",
        "By event id, message, call, task or order id without regard to case; by phone number with or without country code.",
        kept && `The journal holds ${count(kept.records)} events.${behind}`));
    } catch (problem) {
      if (problem.name !== "AbortError") fill(list, failed(problem, page));
    }
  }
  more.addEventListener("click", page);
  fill(list, loading());
  await page();
}
