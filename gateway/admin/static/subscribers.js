// Every subscriber: is it well, how far behind, how fast; pause, resume, replay.

import { post } from "./api.js";
import { spark } from "./charts.js";
import { empty, h, say, toast } from "./dom.js";
import { ago, count, moment, rate, seconds, share, short } from "./format.js";
import { replayDialog } from "./replay.js";
import { isHealthy, kindOf, wordOf } from "./states.js";
import { refresh, series, times } from "./store.js";
import { addButton, isPermitted, manageButtons } from "./subscriberform.js";
import { exact } from "./when.js";

export function subscriberList() {
  const cards = new Map();
  const list = h("ul.cards");
  const nothing = empty("No subscribers", ["Add one here, or under ", h("code", "subscribers:"), " in the configuration; no restart is needed."],
    "Until then events are stored and can be replayed.");
  return {
    element: h("div", h("p.adding", addButton()), list, nothing),
    update({ subscribers }) {
      nothing.hidden = subscribers.length > 0;
      const names = new Set(subscribers.map((one) => one.name));
      for (const [name, card] of cards) if (!names.has(name)) { card.element.remove(); cards.delete(name); }
      for (const one of subscribers) {
        if (!cards.has(one.name)) {
          cards.set(one.name, card(one));
          list.append(cards.get(one.name).element);
        }
        cards.get(one.name).update(one);
      }
    },
  };
}

function measure(title, chart = null) {
  const value = h("b");
  return { element: h("div", h("dt", title), h("dd", value, chart?.element)), value };
}

function card(first) {
  const badge = h("span.badge");
  const lagChart = spark(`${first.name}: records behind`, short, "tint3");
  const rateChart = spark(`${first.name}: delivered per second`, rate, "good");
  const lag = measure("Behind", lagChart);
  const why = h("p.why");
  const delivered = measure("Per second", rateChart);
  const success = measure("Success");
  const p50 = measure("p50");
  const p99 = measure("p99");
  const flight = measure("In flight");
  const error = h("p.last");
  const letters = h("a", { href: `#/dead-letters?subscriber=${encodeURIComponent(first.name)}` });
  const toggle = h("button", { type: "button" });
  const again = h("button", { type: "button", onclick: () => replayDialog({ subscriber: first.name }) }, "Replay …");
  let latest = first;
  toggle.addEventListener("click", async () => {
    const verb = ["paused", "stopped"].includes(latest.state) ? "resume" : "pause";
    toggle.disabled = true;
    try {
      await post(`/api/subscribers/${encodeURIComponent(first.name)}/${verb}`);
      toast(`${first.name} is ${verb === "pause" ? "paused: its events wait in the log" : "resumed"}.`, "good");
      await refresh();
    } catch (problem) {
      toast(problem.message, "bad");
    } finally {
      toggle.disabled = false;
    }
  });
  const element = h("li.card", { "data-name": first.name },
    h("header", h("h3", first.name), badge, h("span.target", { title: first.target }, first.kind === "webhook" ? first.target : `${first.kind} ${first.target}`)),
    h("dl", [lag, delivered, success, p50, p99, flight].map((one) => one.element)), why,
    h("footer", error, h("span.actions", letters, manageButtons(first), again, toggle)));
  return {
    element,
    update(one) {
      latest = one;
      say(badge, wordOf(one));
      badge.className = `badge ${kindOf(one)}`;
      badge.title = one.reason;
      element.dataset.state = kindOf(one);
      const unknown = one.lag_unknown;
      // What was known last is shown as that: greyed, with the time of it in the line below.
      say(lag.value, unknown ? (unknown.last === null ? "unknown" : `was ${short(unknown.last)}`) : short(one.lag));
      lag.value.classList.toggle("before", Boolean(unknown));
      why.hidden = isHealthy(one) || one.kind === "stream";
      say(why, why.hidden ? "" : `${one.reason}${one.since ? ` Since ${moment(one.since)}.` : ""}`);
      why.title = exact(one.since);
      lagChart.set(times(), series(`subscriber:${one.name}:lag`));
      say(delivered.value, rate(one.rate));
      rateChart.set(times(), series(`subscriber:${one.name}:delivered`));
      say(success.value, share(one.success_share));
      success.value.className = one.success_share !== null && one.success_share < 0.99 ? "bad" : "";
      say(p50.value, seconds(one.p50));
      say(p99.value, seconds(one.p99));
      say(flight.value, one.in_flight === null ? "–" : `${one.in_flight} / ${one.concurrency}`);
      say(error, one.last_error ? `Last error ${ago(one.last_error.at)}: ${one.last_error.sentence}` : "No error seen");
      error.title = exact(one.last_error?.at);
      error.classList.toggle("none", !one.last_error);
      letters.hidden = !one.dead_letters;
      say(letters, one.dead_letters ? `${count(one.dead_letters)} given up` : "");
      const isHeld = ["paused", "stopped"].includes(one.state);
      say(toggle, isHeld ? "Resume" : "Pause");
      toggle.setAttribute("aria-label", `${isHeld ? "Resume" : "Pause"} ${one.name}`);
      again.setAttribute("aria-label", `Replay … to ${one.name}`);
      toggle.hidden = !one.is_here || one.kind === "stream" || !isPermitted("operate");
      again.hidden = one.kind === "stream" || !isPermitted("operate");
    },
  };
}
