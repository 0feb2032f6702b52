// The overview of the gateway, requested every two seconds while the page is visible.

import { get } from "./api.js";

const STEP_MS = 2000;
// It answers within two seconds, whatever is unavailable behind it: one that takes longer hangs.
const PATIENCE_MS = 5000;
const KEPT = 300;
const GAP_S = 10;

const points = [];
const watchers = new Set();
let latest = null;
let problem = null;
let answeredAt = 0;
let timer = 0;
// Requests are numbered: an answer that comes after that of a later request is old, and would show a state that is over.
let asked = 0;
let shown = 0;

/** Call a function with every answer and every failure; return the function that ends this. */
export function watch(watcher) {
  watchers.add(watcher);
  if (latest || problem) watcher({ latest, problem, answeredAt });
  return () => watchers.delete(watcher);
}

export const overview = () => latest;

/** Ask now, after something was changed. */
export async function refresh() {
  clearTimeout(timer);
  const turn = ++asked;
  try {
    const since = points.length ? points[points.length - 1].at : 0;
    const found = await get("/api/overview", { since }, AbortSignal.timeout(PATIENCE_MS));
    if (turn < shown) return;
    for (const point of found.points) {
      if (points.length && point.at <= points.at(-1).at) continue;
      // Nothing was measured meanwhile: a point without values is drawn as a gap.
      if (points.length && point.at - points.at(-1).at > GAP_S) points.push({ at: points.at(-1).at + 1, values: null });
      points.push(point);
    }
    points.splice(0, Math.max(0, points.length - KEPT));
    latest = found;
    problem = null;
    answeredAt = Date.now();
  } catch (error) {
    if (turn < shown) return;
    problem = error;
  }
  shown = turn;
  for (const watcher of watchers) watcher({ latest, problem, answeredAt });
  const pause = problem && problem.status === 401 ? null : document.hidden ? STEP_MS * 5 : STEP_MS;
  clearTimeout(timer);
  if (pause) timer = setTimeout(refresh, pause);
}

/** Times of the points. */
export const times = () => points.map((point) => point.at);

/** One series; what a point does not have is `missing`, and what was not known then is null. */
export const series = (name, missing = 0) => points.map((point) => (point.values === null ? null : name in point.values ? point.values[name] : missing));

/** Names in the series of a kind, such as callbacks that were called: busiest last minutes first. */
export function busiest(kind, what) {
  const sums = new Map();
  for (const point of points) {
    for (const [name, value] of Object.entries(point.values ?? {})) {
      const [head, ...rest] = name.split(":");
      if (head !== kind || rest.at(-1) !== what) continue;
      const key = rest.slice(0, -1).join(":");
      sums.set(key, (sums.get(key) ?? 0) + value);
    }
  }
  return [...sums].sort((one, other) => other[1] - one[1]).map(([name]) => name);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer) refresh();
});
