// Numbers and times for people. Digits are aligned in columns; units are always shown.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" });

export const NONE = "–";

export const count = (value) => (value === null || value === undefined ? NONE : whole.format(value));

/** 12.3k */
export function short(value) {
  if (value === null || value === undefined) return NONE;
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= size) return `${(value / (size === 1e4 ? 1e3 : size)).toFixed(1)}${letter}`;
  }
  return whole.format(value);
}

/** Per second. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  return value < 10 ? value.toFixed(1) : short(Math.round(value));
}

export function seconds(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.01) return `${(value * 1e3).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1e3)} ms`;
  return value < 10 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`;
}

export function duration(value) {
  if (value === null || value === undefined) return NONE;
  for (const [size, unit, smaller, small] of [[86400, "d", 3600, "h"], [3600, "h", 60, "m"], [60, "m", 1, "s"]]) {
    if (value >= size) {
      const rest = Math.floor((value % size) / smaller);
      return `${Math.floor(value / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
    }
  }
  return `${Math.max(0, Math.round(value))} s`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${(value / size).toFixed(value / size < 10 ? 1 : 0)} ${unit}`;
  }
  return `${value} B`;
}

/** 99.95 is not 100: a share is never rounded up to all. */
export function share(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 1) return "100%";
  return `${(Math.floor(value * 1000) / 10).toFixed(1)}%`;
}

const at = (value) => (typeof value === "number" ? new Date(value * 1000) : new Date(value));

export const time = (value) => (value ? clock.format(at(value)) : NONE);

export function timeMs(value) {
  if (!value) return NONE;
  const moment = at(value);
  return `${clock.format(moment)}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
}

export function moment(value) {
  if (!value) return NONE;
  const then = at(value);
  return day.format(then) === day.format(new Date()) ? clock.format(then) : `${day.format(then)} ${clock.format(then)}`;
}

export const ago = (value, now = Date.now() / 1000) =>
  !value ? NONE : now - value < 2 ? "just now" : `${duration(now - value)} ago`;

/** nxcloud.sms.dr → sms.dr */
export const type = (name) => (name || "").replace(/^nxcloud\./, "");
