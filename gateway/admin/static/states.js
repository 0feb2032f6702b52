// The states of a subscriber: the same words as in commands, API and metric (gateway/admin/subscriber_states.py).

const KINDS = { stopped: "bad", down: "bad", degraded: "warn", unknown: "", paused: "warn", healthy: "good", stream: "" };

/** In the order of lists: what needs a person comes first. */
export const ORDER = Object.keys(KINDS);

/** The word; a stream has no state, as its clients fetch its events. */
export const wordOf = (one) => one.state ?? (one.kind === "stream" ? "stream" : "unknown");

/** The class of its colour. */
export const kindOf = (one) => KINDS[wordOf(one)] ?? "";

/** Whether events are delivered to it, as far as that can be known. */
export const isHealthy = (one) => one.state === "healthy";
