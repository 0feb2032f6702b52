// The first look: is it well, how much comes in, how fast is it answered, does it go out.

import { lines, spark } from "./charts.js";
import { empty, failed, fill, h, loading, say } from "./dom.js";
import { bytes, count, duration, moment, rate, seconds, short } from "./format.js";
import { timeline } from "./history.js";
import { refresh, series, times, watch } from "./store.js";
import { isHealthy, kindOf } from "./states.js";
import { subscriberList } from "./subscribers.js";
import { exact } from "./when.js";

const TINTS = ["accent", "tint2", "tint3", "tint4", "tint5"];
const HIDDEN = "nothing came yet";

export function overviewView(element, { signal }) {
  const body = h("div", loading(8));
  element.append(body);
  let parts = null;
  const end = watch(({ latest, problem }) => {
    if (!latest) {
      if (problem && problem.status !== 401) fill(body, failed(problem, refresh));
      return;
    }
    if (!parts) {
      parts = build(latest, signal);
      fill(body, parts.elements);
    }
    parts.update(latest);
  });
  signal.addEventListener("abort", end, { once: true });
}

function build(first, signal) {
  const tiles = tileRow(first);
  const charts = () => [traffic, deliveries].forEach((part) => part && part.update());
  const shown = timeline(signal, charts);
  const traffic = first.intake && trafficCharts(shown);
  const deliveries = deliveryCharts(shown);
  const subscribers = subscriberList();
  const callbacks = first.intake && callbackTable();
  const topics = first.intake && topicTable(first.mode === "kafka");
  const processes = first.processes.length > 0 && processTable();
  const section = (title, ...inner) => h("section", h("h2", title), ...inner);
  return {
    elements: [
      tiles.element,
      shown.element,
      traffic && h("div.pair", traffic.element),
      section("Subscribers", subscribers.element, h("div.pair.triple", deliveries.element)),
      callbacks && h("div.columns", section("Callbacks", callbacks.element), section("Topics", topics.element)),
      processes && section("Processes", processes.element),
    ],
    update(now) {
      shown.ask();
      for (const part of [tiles, traffic, subscribers, deliveries, callbacks, topics, processes]) part && part.update(now);
    },
  };
}

// -- tiles ---------------------------------------------------------------------------------------------------------

function tile(title) {
  const value = h("b.value", "–");
  const note = h("span.note");
  const extra = h("div.extra");
  return { element: h("div.tile", h("h2", title), value, note, extra), value, note, extra };
}

function tileRow(first) {
  const intake = first.intake && { ...tile("Callbacks"), chart: spark("Callbacks per second", rate) };
  const answer = first.intake && { ...tile("Answer time, p99"), chart: spark("Answer time, p99", seconds, "tint2") };
  const journal = first.journal && { ...tile("Journal"), bar: h("progress", { max: 1, "aria-label": "Journal used" }) };
  const kafka = first.mode === "kafka" && tile("Kafka");
  const backlog = { ...tile("Subscribers"), chart: spark("Records behind, all subscribers", short, "tint3") };
  intake?.extra.append(intake.chart.element);
  answer?.extra.append(answer.chart.element);
  journal?.extra.append(journal.bar);
  backlog.extra.append(backlog.chart.element);
  const update = (now) => {
    if (intake) {
      say(intake.value, rate(now.intake.rate));
      const refused = sum(now.intake.callbacks, (one) => notTaken(one.outcomes));
      say(intake.note, `per second${refused ? ` · ${short(refused)} not taken` : ""}`);
      intake.chart.set(times(), series("intake:all:rate"));
      say(answer.value, seconds(now.intake.p99));
      say(answer.note, now.intake.p50 === null ? "nothing in the last minute" : `p50 ${seconds(now.intake.p50)}`);
      answer.chart.set(times(), series("intake:all:p99", null));
    }
    if (journal) updateJournal(journal, now);
    if (kafka) updateKafka(kafka, now);
    updateBacklog(backlog, now);
  };
  return { element: h("div.tiles", [intake, answer, journal, kafka, backlog].filter(Boolean).map((one) => one.element)), update };
}

function updateJournal(tile, { journal, kafka, search, now }) {
  say(tile.value, bytes(journal.used_bytes));
  const age = journal.oldest_at === null ? "no event yet" : `${short(journal.records)} events, oldest ${duration(now - journal.oldest_at)}`;
  const room = `${bytes(Math.max(0, journal.max_bytes - journal.used_bytes))} left`;
  say(tile.note, [kafka ? "" : searchBehind(search), room, age].filter(Boolean).join(" · "));
  tile.note.title = tile.note.textContent;
  tile.bar.value = journal.used_bytes / journal.max_bytes;
  tile.bar.title = `${bytes(journal.used_bytes)} of ${bytes(journal.max_bytes)}`;
  tile.bar.setAttribute("aria-valuetext", tile.bar.title);
  tile.element.dataset.state = journal.failure ? "bad" : "";
  if (journal.failure) say(tile.note, journal.failure);
}

const searchBehind = (search) => (search && search.lag > 5000 ? `search ${short(search.lag)} behind` : "");

function updateKafka(tile, { kafka, search }) {
  const behind = searchBehind(search);
  const reason = kafka.problem;
  say(tile.value, reason ? reason.state.replaceAll("_", " ") : "connected");
  tile.element.dataset.state = reason ? (["unknown_topic", "throttled"].includes(reason.state) ? "warn" : "bad") : "";
  const lag = kafka.lag === null ? "" : `${short(kafka.lag)} to publish`;
  say(tile.note, reason ? `${reason.name}: ${reason.reason}` : [lag, behind].filter(Boolean).join(" · "));
  tile.element.title = reason ? reason.reason : "";
}

function updateBacklog(tile, { subscribers }) {
  const here = subscribers.filter((one) => one.kind !== "stream");
  const ill = here.filter((one) => !isHealthy(one));
  const dark = here.filter((one) => one.lag_unknown);
  const isKnown = here.some((one) => one.state);
  say(tile.value, !here.length ? "–" : !isKnown ? "unknown" : ill.length ? `${here.length - ill.length} of ${here.length} healthy` : "all healthy");
  tile.element.dataset.state = ill.some((one) => kindOf(one) === "bad") ? "bad" : ill.length && isKnown ? "warn" : "";
  const note = behind(here, dark);
  typeof note === "string" ? say(tile.note, note) : fill(tile.note, note);
  tile.element.title = dark.length ? `${dark[0].lag_unknown.reason} (${exact(dark[0].lag_unknown.since)})` : "";
  const columns = here.map((one) => series(`subscriber:${one.name}:lag`));
  const isWhole = (at) => columns.every((column) => column[at] !== null);
  tile.chart.set(times(), times().map((_, at) => (isWhole(at) ? sum(columns, (column) => column[at]) : null)));
}

/** How far all are behind together; where one is not known, nor is the sum. */
function behind(here, dark) {
  if (!here.length) return "none here";
  if (!dark.length) return `${short(sum(here, (one) => one.lag ?? 0))} records behind`;
  const since = Math.min(...dark.map((one) => one.lag_unknown.since ?? Infinity));
  if (since === Infinity) return "lag not known";
  return h("span", `lag unknown since ${moment(since)}, `, h("span.before", `was ${short(sum(here, (one) => one.lag ?? one.lag_unknown?.last ?? 0))}`));
}

const sum = (items, of) => items.reduce((total, item) => total + of(item), 0);
const notTaken = (outcomes) => sum(["rejected", "unauthenticated", "forbidden", "unavailable"], (name) => outcomes[name] ?? 0);

// -- charts --------------------------------------------------------------------------------------------------------

function trafficCharts(shown) {
  const coming = lines("Callbacks", "per second", rate, ["", "", "", "", ""], TINTS);
  const answering = lines("Answer time", "all callbacks", seconds, ["p50", "p99", "commit p99"], ["tint2", "accent", "tint4"]);
  return {
    element: [coming.element, answering.element],
    update() {
      drawBusiest(coming, shown, "callback", "rate", HIDDEN);
      const columns = ["intake:all:p50", "intake:all:p99", "journal:commit:p99"].map((name) => shown.series(name, null));
      answering.set(shown.times(), columns, null, shown.between());
    },
  };
}

function deliveryCharts(shown) {
  const five = ["", "", "", "", ""];
  const failed = lines("Failed attempts", "per second", rate, five, TINTS);
  const behind = lines("Behind", "records", short, five, TINTS);
  const slow = lines("Delivery time", "p99 of the slowest", seconds, five, TINTS);
  return {
    element: [failed.element, behind.element, slow.element],
    update() {
      drawBusiest(failed, shown, "subscriber", "failed", "no attempt failed");
      drawBusiest(behind, shown, "subscriber", "lag", "no subscriber is behind");
      drawBusiest(slow, shown, "subscriber", "p99", "nothing was delivered", null);
    },
  };
}

/** The five that have most of it. */
function drawBusiest(chart, shown, kind, what, ifNone, missing = 0) {
  const names = shown.busiest(kind, what).slice(0, TINTS.length);
  const columns = names.map((name) => shown.series(`${kind}:${name}:${what}`, missing));
  while (columns.length < TINTS.length) columns.push(shown.times().map(() => null));
  chart.set(shown.times(), columns, names.length ? names : [ifNone], shown.between());
}

// -- tables --------------------------------------------------------------------------------------------------------

/** A table whose rows stay while their numbers change. */
function liveTable(caption, heads, makeRow, ifEmpty) {
  const rows = new Map();
  const body = h("tbody");
  const table = h("table", h("caption.unseen", caption), h("thead", h("tr", heads.map(([text, kind]) => h("th", { scope: "col", class: kind }, text)))), body);
  const element = h("div.scroll", { tabindex: "0", role: "region", "aria-label": caption }, table);
  // Figures come with the second reading, some seconds after a start: until then it is unknown whether there are any.
  const waiting = loading(3);
  const nothing = ifEmpty();
  element.append(waiting, nothing);
  return {
    element,
    update(items) {
      waiting.hidden = items.length > 0 || times().length > 0;
      nothing.hidden = items.length > 0 || times().length === 0;
      table.hidden = items.length === 0;
      for (const item of items) {
        if (!rows.has(item.name)) {
          const row = makeRow(item);
          rows.set(item.name, row);
          body.append(row.element);
        }
        rows.get(item.name).update(item);
      }
    },
  };
}

function callbackTable() {
  const heads = [["Callback"], ["Trend", "wide"], ["Rate", "number"], ["p50", "number"], ["p99", "number"], ["Taken", "number"], ["Not taken", "number"]];
  const table = liveTable("Callbacks by name", heads, callbackRow, () =>
    empty("No callback has come yet", ["Point the platform at ", h("code", "/callbacks/<name>"), ", or try:"], h("code", "gateway send sms-dr --count 10")));
  return { element: table.element, update: (now) => table.update(now.intake.callbacks) };
}

function callbackRow({ name }) {
  const chart = spark(`${name} per second`, rate);
  const [now, p50, p99, taken, not] = Array.from({ length: 5 }, () => h("td.number"));
  const element = h("tr", h("th", { scope: "row" }, h("a", { href: `#/events?callback=${encodeURIComponent(name)}` }, name)), h("td.wide", chart.element), now, p50, p99, taken, not);
  return {
    element,
    update(one) {
      chart.set(times(), series(`callback:${name}:rate`));
      say(now, rate(one.rate));
      say(p50, seconds(one.p50));
      say(p99, seconds(one.p99));
      say(taken, count((one.outcomes.accepted ?? 0) + (one.outcomes.repeated ?? 0)));
      taken.title = one.outcomes.repeated ? `${count(one.outcomes.repeated)} of them repeats` : "";
      const lost = notTaken(one.outcomes);
      say(not, lost ? count(lost) : "");
      not.classList.toggle("bad", lost > 0);
      not.title = Object.entries(one.outcomes).filter(([what]) => what !== "accepted" && what !== "repeated").map(([what, times]) => `${what} ${times}`).join(", ");
    },
  };
}

function topicTable(isKafka) {
  const heads = [["Topic"], ["Trend", "wide"], ["Rate", "number"], ["Stored", "number"], ...(isKafka ? [["Published", "number"]] : [])];
  const table = liveTable("Topics", heads, (item) => topicRow(item, isKafka), () => empty("No event is stored yet"));
  return { element: table.element, update: (now) => table.update(now.topics) };
}

function topicRow({ name }, isKafka) {
  const chart = spark(`${name} per second`, rate, "tint2");
  const [now, stored, published] = Array.from({ length: 3 }, () => h("td.number"));
  const problem = h("div.bad");
  const target = name === "callbacks.rejected" ? "#/rejected" : `#/events?topic=${encodeURIComponent(name)}`;
  const element = h("tr", h("th", { scope: "row" }, h("a", { href: target }, name), problem), h("td.wide", chart.element), now, stored, isKafka && published);
  return {
    element,
    update(one) {
      chart.set(times(), series(`topic:${name}:rate`));
      say(now, rate(one.rate));
      say(stored, count(one.stored));
      say(published, count(one.published));
      published.title = one.lag ? `${count(one.lag)} wait in the journal` : "";
      say(problem, one.problem ? `${short(one.lag)} wait: ${one.problem}` : "");
      problem.hidden = !one.problem;
    },
  };
}

function processTable() {
  const heads = [["Process"], ["State"], ["Up for", "number"], ["Started again", "number"], ["Process id", "number"]];
  const table = liveTable("Processes", heads, processRow, () => empty("No process is known"));
  return { element: table.element, update: (now) => table.update(now.processes.map((one) => ({ ...one, now: now.now }))) };
}

function processRow({ name }) {
  const state = h("td");
  const [up, restarts, pid] = Array.from({ length: 3 }, () => h("td.number"));
  return {
    element: h("tr", h("th", { scope: "row" }, name), state, up, restarts, pid),
    update(one) {
      const isUnknown = one.is_ready === null;
      say(state, isUnknown ? "unknown" : one.is_ready ? "ready" : "not ready");
      state.classList.toggle("bad", !one.is_ready);
      state.title = one.problems.join("\n");
      say(up, isUnknown ? "unknown" : duration(one.now - one.started_at));
      say(restarts, count(one.restarts));
      say(pid, isUnknown ? "unknown" : one.pid);
    },
  };
}
