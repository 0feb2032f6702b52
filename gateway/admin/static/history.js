// Which time the charts show: the last minutes as they come, or an hour, a day, a week from the gateway's own record.

import { get } from "./api.js";
import { h, say } from "./dom.js";
import * as live from "./store.js";

const RANGES = [["live", "10 min"], ["hour", "1 hour"], ["day", "1 day"], ["week", "1 week"]];
const KEY = "range";
/** What the charts draw; a hundred subscribers have ten times as many series. */
const SERIES = "intake:all:*,journal:commit:p99,callback:*:rate,subscriber:*:failed,subscriber:*:lag,subscriber:*:p99";
const PATIENCE_MS = 10000;

/** The charts of one page. */
export function timeline(signal, onchange) {
  let range = RANGES.some(([name]) => name === sessionStorage.getItem(KEY)) ? sessionStorage.getItem(KEY) : "live";
  let found = null;
  let dueAt = 0;
  let isAsking = false;
  const note = h("span.note", { role: "status" });
  const buttons = RANGES.map(([name, title]) => h("button", { type: "button", "data-range": name, onclick: () => choose(name) }, title));
  const press = () => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.range === range)));

  function choose(name) {
    range = name;
    sessionStorage.setItem(KEY, name);
    found = null;
    dueAt = 0;
    press();
    ask();
    onchange();
  }

  /** Ask again when a new point can be there. */
  async function ask() {
    if (range === "live") return say(note, "");
    if (isAsking || Date.now() < dueAt) return;
    isAsking = true;
    const asked = range;
    if (!found) say(note, "loading …");
    try {
      const answer = await get("/api/history", { range: asked, series: SERIES }, AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]));
      if (asked === range) {
        found = answer;
        say(note, answer.times.length ? "" : "nothing is recorded yet");
      }
    } catch (problem) {
      if (!signal.aborted && asked === range) say(note, problem.message);
    }
    isAsking = false;
    if (asked !== range) return ask();
    dueAt = Date.now() + Math.min(found?.step_s ?? 10, 60) * 1000;
    if (!signal.aborted) onchange();
  }

  press();
  return {
    element: h("div.ranges", { role: "group", "aria-label": "Time that the charts show" }, note, buttons),
    ask,
    times: () => (range === "live" ? live.times() : found?.times ?? []),
    /** One series; what a live point does not have is `missing`. */
    series(name, missing = 0) {
      if (range === "live") return live.series(name, missing);
      return found?.series[name] ?? this.times().map(() => null);
    },
    busiest(kind, what) {
      if (range === "live") return live.busiest(kind, what);
      const sums = Object.entries(found?.series ?? {})
        .filter(([name]) => name.startsWith(`${kind}:`) && name.endsWith(`:${what}`))
        .map(([name, values]) => [name.slice(kind.length + 1, -what.length - 1), values.reduce((sum, value) => sum + (value ?? 0), 0)])
        .filter(([, sum]) => sum > 0);
      return sums.sort((one, other) => other[1] - one[1]).map(([name]) => name);
    },
    /** First and last time of the axis; null: as far as the points go. */
    between: () => (range === "live" || !found ? null : [found.since, found.until]),
  };
}
