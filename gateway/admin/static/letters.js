// Dead letters: what was given up, why, and delivering it again.

import { get } from "./api.js";
import { empty, failed, fill, h, loading, say } from "./dom.js";
import { count, moment, timeMs, type } from "./format.js";
import { replayDialog } from "./replay.js";

export function lettersView(element, { query, signal }) {
  const list = h("div.list", loading());
  const subscriber = h("select", { "aria-label": "Subscriber", onchange: go });
  const reason = h("select", { "aria-label": "Reason", onchange: go });
  const chosen = new Set();
  const again = h("button", { type: "button", onclick: replayChosen });
  const all = h("button", { type: "button", onclick: replayAll }, "Replay all …");
  element.append(h("form.filters", { onsubmit: (event) => event.preventDefault(), "aria-label": "Filters" }, subscriber, reason, h("span.gap"), again, all), list);

  function go() {
    const wanted = new URLSearchParams();
    if (subscriber.value) wanted.set("subscriber", subscriber.value);
    if (reason.value) wanted.set("reason", reason.value);
    location.hash = `#/dead-letters${wanted.size ? `?${wanted}` : ""}`;
  }
  function replayChosen() {
    const [name] = [...chosen][0].split("/");
    const ids = [...chosen].map((key) => key.split("/")[1]);
    replayDialog({ subscriber: name, title: `Deliver ${count(ids.length)} again to ${name}`, fixed: { ids, from_dlq: true } });
  }
  function replayAll() {
    replayDialog({ subscriber: subscriber.value, title: `Deliver dead letters of ${subscriber.value} again`,
      fixed: { from_dlq: true, ...(reason.value && { reasons: [reason.value] }) } });
  }
  function showChosen() {
    say(again, chosen.size ? `Replay ${count(chosen.size)} …` : "Replay …");
    again.disabled = chosen.size === 0;
    all.hidden = !subscriber.value;
  }

  async function load() {
    try {
      const found = await get("/api/dead-letters", { subscriber: query.get("subscriber"), reason: query.get("reason"), limit: 200 }, signal);
      const { subscribers } = await get("/api/subscribers", {}, signal);
      fill(subscriber, h("option", { value: "" }, "All subscribers"), subscribers.map(({ name }) => h("option", { value: name }, option(name, found.counts[name]))));
      const reasons = new Set(Object.values(found.counts).flatMap((counts) => Object.keys(counts)));
      if (query.get("reason")) reasons.add(query.get("reason"));
      fill(reason, h("option", { value: "" }, "All reasons"), [...reasons].map((name) => h("option", { value: name }, REASONS[name] ?? name)));
      subscriber.value = query.get("subscriber") ?? "";
      reason.value = query.get("reason") ?? "";
      showChosen();
      show(found);
    } catch (problem) {
      if (problem.name !== "AbortError") fill(list, failed(problem, load));
    }
  }

  function show(found) {
    if (!found.letters.length) {
      return fill(list, empty("Nothing was given up", "An event comes here when its last attempt failed, with the reason and what was answered."));
    }
    const total = Object.values(found.counts).flatMap(Object.values).reduce((sum, one) => sum + one, 0);
    fill(list, h("p.note", total > found.letters.length ? `The newest ${count(found.letters.length)} of ${count(total)}.` : `${count(total)} ${total === 1 ? "event" : "events"}.`),
      h("ul.letters", found.letters.map((letter) => row(letter, chosen, showChosen))));
  }
  showChosen();
  load();
}

const REASONS = { attempts: "no attempt left", age: "too old" };
const option = (name, counts) => {
  const total = Object.values(counts ?? {}).reduce((sum, one) => sum + one, 0);
  return total ? `${name} (${count(total)})` : name;
};

function row(letter, chosen, onchange) {
  const key = `${letter.subscriber}/${letter.id}`;
  const box = h("input", { type: "checkbox", "aria-label": `Choose ${letter.subject ?? letter.key} of ${letter.subscriber}` });
  box.addEventListener("change", () => {
    // One replay goes to one subscriber: choosing of another begins anew.
    if (box.checked && [...chosen].some((other) => !other.startsWith(`${letter.subscriber}/`))) {
      chosen.clear();
      for (const other of box.closest("ul").querySelectorAll("input:checked")) other.checked = other === box;
    }
    box.checked ? chosen.add(key) : chosen.delete(key);
    onchange();
  });
  return h("li.letter", { "data-id": letter.id }, box,
    h("details", h("summary",
      h("time", moment(letter.given_up_at)), h("span.who", letter.subscriber), h("span.type", type(letter.type)),
      h("span.subject", letter.key), h("span.badge.bad", REASONS[letter.reason] ?? letter.reason),
      h("span.note", `${count(letter.attempts)} ${letter.attempts === 1 ? "attempt" : "attempts"}, last ${letter.last_status}`)),
    h("div.inside",
      letter.last_detail && h("p", letter.last_detail),
      letter.last_response && h("pre.small", { tabindex: "0", role: "group", "aria-label": "The last answer" }, letter.last_response),
      h("ol.timeline", letter.steps.map((step) => h("li.bad", h("time", timeMs(step.at)), h("div", h("b", step.result), h("p", `${count(step.duration_ms)} ms`))))),
      h("p", h("a", { href: `#/event/${letter.id}` }, "The event's whole story")))));
}
