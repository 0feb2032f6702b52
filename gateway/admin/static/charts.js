// Small charts. uPlot draws on a canvas; colours come from the style sheet, again when the theme changes.

import { h, say } from "./dom.js";
import { moment, NONE, time } from "./format.js";

const weekday = new Intl.DateTimeFormat("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit", hour12: false });
const DAYS = 2 * 86400;

const probe = h("i.unseen");
document.body.append(probe);
const charts = new Set();

function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

function faded(name) {
  return colour(name).replace("rgb(", "rgba(").replace(")", ", 0.12)");
}

/** At least half a minute, so that the first points are not stretched over the whole width. */
function span(plot) {
  // From the data: for a single point uPlot itself would show a whole day.
  const at = plot.data?.[0] ?? [];
  const last = at.at(-1) ?? Date.now() / 1000;
  return [Math.min(at[0] ?? last, last - 30), last];
}

/** A point between two gaps has no line: without a dot it would not be seen. */
function alone(plot, row) {
  const values = plot.data[row];
  const is = (at) => values[at] !== null && values[at] !== undefined;
  return values.map((_, at) => at).filter((at) => is(at) && !is(at - 1) && !is(at + 1));
}

const dots = { show: false, filter: alone, size: 3 };

/** Draw again in the colours of now. */
export function repaint() {
  for (const chart of charts) chart.rebuild();
}

class Chart {
  constructor(element, options, data) {
    this.element = element;
    this.options = options;
    this.data = data;
    this.plot = null;
    this.between = null;
    charts.add(this);
  }

  rebuild() {
    if (!this.element.isConnected) return void charts.delete(this);
    this.plot?.destroy();
    this.plot = new uPlot(this.options(this.element.clientWidth), this.data, this.element);
  }

  set(data, between = this.between) {
    this.data = data;
    this.between = between;
    if (this.plot && this.plot.width !== this.element.clientWidth && this.element.clientWidth) {
      this.plot.setSize({ width: this.element.clientWidth, height: this.plot.height });
    }
    if (this.plot) this.plot.setData(data);
    else if (this.element.isConnected && this.element.clientWidth) this.rebuild();
  }
}

/** A line without axes, for a row of a table. */
export function spark(label, format, tint = "accent") {
  const element = h("div.spark", { role: "img", "aria-label": label });
  const chart = new Chart(element, (width) => ({
    width, height: 24, pxAlign: 0,
    cursor: { show: false }, legend: { show: false },
    axes: [{ show: false }, { show: false }],
    scales: { x: { range: span }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    series: [{}, { stroke: colour(tint), fill: faded(tint), width: 1.25, points: { show: false }, spanGaps: false }],
    padding: [2, 0, 1, 0],
  }), [[], []]);
  return {
    element,
    set(times, values) {
      chart.set([times, values]);
      const known = values.filter((value) => value !== null);
      element.setAttribute("aria-label", `${label}: now ${format(known.at(-1) ?? null)}, highest ${format(known.length ? Math.max(...known) : null)}`);
    },
  };
}

const onAxis = (tick, length) =>
  length > DAYS ? weekday.format(new Date(tick * 1000)) : time(tick).slice(0, length < 300 ? 8 : 5);

/** A chart with axes and a line of values below, which follow the pointer. */
export function lines(title, unit, format, names, tints) {
  const canvas = h("div.canvas");
  const values = names.map(() => h("b", NONE));
  const labels = names.map((name) => h("span", name));
  const when = h("span.when", "");
  const keys = h("div.keys", names.map((_, at) => h("span.key", { "data-tint": tints[at] }, labels[at], " ", values[at])), when);
  const element = h("figure.chart", h("figcaption", title, " ", h("small", unit)), canvas, keys);
  const show = (plot, at) => {
    const data = plot ? plot.data : chart.data;
    const index = at ?? (data[0].length ? data[0].length - 1 : null);
    values.forEach((value, row) => say(value, index === null ? NONE : format(data[row + 1]?.[index] ?? null)));
    say(when, at === null || at === undefined ? "" : moment(data[0][at]));
  };
  const chart = new Chart(canvas, (width) => ({
    width, height: 148,
    legend: { show: false },
    cursor: { y: false, points: { size: 5 }, drag: { x: false, y: false } },
    hooks: { setCursor: [(plot) => show(plot, plot.cursor.idx ?? undefined)] },
    scales: { x: { range: (plot) => chart.between ?? span(plot) }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { stroke: colour("dim"), grid: { show: false }, ticks: { show: false }, size: 22, space: 80, font: "11px system-ui",
        values: (plot, ticks) => ticks.map((tick) => onAxis(tick, plot.scales.x.max - plot.scales.x.min)) },
      { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, size: 54, space: 34, font: "11px system-ui",
        values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [{}, ...names.map((_, at) => ({ stroke: colour(tints[at]), width: 1.5, points: dots, fill: at === 0 ? faded(tints[at]) : undefined }))],
    padding: [6, 8, 0, 0],
  }), [[], ...names.map(() => [])]);
  return {
    element,
    set(times, columns, names = null, between = null) {
      if (names) labels.forEach((label, at) => {
        say(label, names[at] ?? "");
        label.parentElement.hidden = names[at] === undefined;
      });
      chart.set([times, ...columns], between);
      element.lastElementChild.dataset.points = times.length;
      show(null, chart.plot?.cursor.idx ?? undefined);
    },
  };
}

addEventListener("resize", () => {
  for (const chart of charts) if (chart.plot) chart.set(chart.data);
});
