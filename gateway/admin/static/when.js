// A time for people: local, with its date where that is not today, and with the zone where one points at it.

import { h } from "./dom.js";
import { moment, NONE, timeMs } from "./format.js";

const full = new Intl.DateTimeFormat("en-CA", { dateStyle: "short", timeStyle: "long", hour12: false });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Unix seconds, or text as events have it. */
const at = (value) => new Date(typeof value === "number" ? value * 1000 : value);

/** The whole time with its zone, for titles. */
export const exact = (value) => (value ? `${full.format(at(value))} (${zone})` : "");

/** An element; date and clock may be broken into two lines, and nothing else. */
export function when(value, { ms = false } = {}) {
  if (!value) return h("time", NONE);
  const [date, clock] = [...moment(value).split(" ").slice(0, -1), moment(value).split(" ").at(-1)];
  const isToday = clock === undefined;
  return h("time", { datetime: at(value).toISOString(), title: exact(value) },
    !isToday && h("span.date", date), !isToday && " ", h("span.clock", ms ? timeMs(value) : isToday ? date : clock));
}
