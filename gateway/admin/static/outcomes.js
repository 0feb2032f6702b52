// What became of an event with its subscribers: words and colours of list, filter and story.

export const OUTCOMES = {
  delivered: ["delivered", "good"],
  retrying: ["trying again", "warn"],
  parked: ["waits for retry", "warn"],
  dead_lettered: ["given up", "bad"],
  resolved: ["given up, resolved", ""],
  lost: ["given up, not kept", "bad"],
  stopped: ["stopped", "bad"],
  skipped: ["filtered out", ""],
  waiting: ["waiting", "warn"],
  fetched: ["fetched by its clients", ""],
  unknown: ["not known", ""],
};
