// In which state a subscriber is: one word for list, tile and filter.

import { moment, short } from "./format.js";

/** From bad to good: the order of lists. */
export const STATES = ["stopped", "down", "degraded", "unknown", "paused", "healthy"];

export const KINDS = { stopped: "bad", down: "bad", degraded: "warn", unknown: "", paused: "warn", healthy: "good" };

const OF_BREAKER = {
  stopped: ["stopped", "It answered that it wants no more events; resume it when it is ready"],
  open: ["down", "Most attempts failed: its events wait in the log, one at a time probes"],
  half_open: ["degraded", "One event is tried to see whether it is back"],
  paused: ["paused", "A person paused it; its events wait in the log"],
};

/** What it got last was given up: that nothing comes any more makes it no better. */
const gaveUp = (one) => one.dead_letters > 0 && one.last_error !== null && one.last_error.at > (one.delivered_at ?? 0);

/** State of a subscriber of the overview, and why, as a sentence. */
export function stateOf(one) {
  const known = OF_BREAKER[one.state];
  if (known) return { state: known[0], reason: one.stopped || known[1] };
  if (one.state !== "closed") {
    return one.kind === "stream"
      ? { state: "healthy", reason: "Clients fetch its events from this port" }
      : { state: "unknown", reason: "Another process delivers to it, and has not said how it is" };
  }
  if (gaveUp(one)) return { state: "degraded", reason: "Events were given up, and nothing was delivered since" };
  if (one.success_share !== null && one.success_share < 0.95) {
    return { state: "degraded", reason: "Events are delivered, and many attempts of the last minute failed" };
  }
  if (one.lag_unknown) return { state: "unknown", reason: lagSentence(one.lag_unknown) };
  return { state: "healthy", reason: "Events are delivered as they come" };
}

export const lagSentence = ({ reason, since, last }) =>
  `Its lag is ${since === null ? "not known" : `unknown since ${moment(since)}; it was ${short(last)}`}: ${reason}.`;
