// Events: the newest that are stored, those that were looked for, or all as they come.

import { follow, get } from "./api.js";
import { empty, failed, fill, h, loading, say } from "./dom.js";
import { addressOf, conditions, filterBar, LIVE_FILTERS } from "./eventfilters.js";
import { eventRow } from "./eventrow.js";
import { count, moment } from "./format.js";
import { overview } from "./store.js";

const KEPT = 200;
const PAGE = 50;
/** Answers that found nothing yet, one after the other, before the user is asked whether to continue. */
const ROUNDS = 10;
const NEWS_MS = 5000;

export function eventsView(element, { query, signal }) {
  document.getElementById("find").value = query.get("q") ?? "";
  const filters = filterBar(query, signal);
  const list = h("div.list");
  element.append(filters, list);
  if (query.has("live")) live(list, filters, query, signal);
  else stored(list, query, signal);
}

// -- live ----------------------------------------------------------------------------------------------------------

function live(list, filters, query, signal) {
  const rows = h("ol.events", { role: "log", "aria-live": "off", "aria-label": "Events as they come" });
  const state = h("span.live", { role: "status" }, "connecting");
  const hold = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const clear = h("button", { type: "button", onclick: () => { fill(rows); waiting.length = 0; missed = 0; show(); } }, "Clear");
  const nothing = empty("Waiting for events", ["They show here as they are stored. ", h("a", { href: "#/events" }, "Stored events"), " are in the list."]);
  const waiting = [];
  let isHeld = false;
  let missed = 0;
  filters.append(state, hold, clear);
  fill(list, rows, nothing);

  function show() {
    nothing.hidden = rows.childElementCount > 0;
    const news = waiting.length + missed;
    say(hold, isHeld ? `Continue${news ? ` (${count(news)} new)` : ""}` : "Pause");
  }
  function add(event) {
    rows.prepend(eventRow(event, { isLive: true }));
    while (rows.childElementCount > KEPT) rows.lastElementChild.remove();
  }
  hold.addEventListener("click", () => {
    isHeld = !isHeld;
    hold.setAttribute("aria-pressed", String(isHeld));
    if (!isHeld) {
      if (missed) say(state, `live · ${count(missed)} passed over while it was paused`);
      waiting.splice(0).forEach(add);
      missed = 0;
    }
    show();
  });
  const wanted = Object.fromEntries(LIVE_FILTERS.map((name) => [name, query.get(name)]));
  follow("/api/events", { brief: "1", ...wanted }, signal, {
    onevent(name, data) {
      if (name === "passed-over") {
        if (isHeld) missed += data.count;
        else say(state, `live · ${count(data.count)} passed over, too many to show`);
      } else if (isHeld) {
        waiting.push(data);
        if (waiting.length > KEPT) { waiting.shift(); missed += 1; }
      } else add(data);
      show();
    },
    onstate(what) {
      state.dataset.state = what;
      say(state, what === "open" ? "live" : "connection lost, trying again …");
    },
  });
  show();
}

// -- stored --------------------------------------------------------------------------------------------------------

async function stored(list, query, signal) {
  const asked = Object.fromEntries(query);
  const wanted = conditions(query);
  const rows = h("ol.events", { "aria-label": wanted.q ? "Events found" : "Stored events" });
  const note = h("p.note", { role: "status" });
  const cursor = { before: asked.before ?? "", after: asked.after ?? "" };
  const to = (more) => addressOf({ ...asked, before: "", after: "", ...more });
  let page = null;
  let look = cursor;

  async function load() {
    fill(list, loading());
    try {
      for (let round = 0; round < ROUNDS; round += 1) {
        page = await get("/api/search", { ...wanted, ...look, limit: PAGE }, signal);
        if (page.events.length || page.looked_to === null || page.next === null) break;
        look = cursor.after ? { after: page.newer ?? "" } : { before: page.next };
        fill(list, h("p.note", { role: "status" }, `Nothing yet; looked at everything back to ${moment(page.looked_to)} …`), loading());
      }
      show();
    } catch (problem) {
      if (problem.name !== "AbortError") fill(list, failed(problem, load));
    }
  }

  function show() {
    rows.replaceChildren(...page.events.map((event) => eventRow(event)));
    say(note, [sentence(page, wanted, cursor), page.lag > 1000 && `The newest ${count(page.lag)} are not searched yet.`].filter(Boolean).join(" "));
    const links = pager(page, cursor, to);
    if (page.events.length) fill(list, note, exact(wanted), rows, links);
    else if (page.looked_to !== null) fill(list, empty("Nothing yet", `Looked at everything back to ${moment(page.looked_to)}.`), pager(page, cursor, to, "Look further back"));
    else fill(list, nothing(wanted, cursor), links);
  }

  await load();
  if (!signal.aborted && page && page.newer === null && !wanted.until) watchForNews(list, wanted, page, signal);
}

function sentence({ events, next, looked_to: lookedTo }, { q }, cursor) {
  const number = `${count(events.length)}${next !== null && events.length === PAGE ? "+" : ""} ${events.length === 1 ? "event" : "events"}`;
  const where = q ? "" : cursor.before || cursor.after ? ", newest first" : ", the newest first";
  return `${number}${where}.${lookedTo === null ? "" : ` Looked at everything back to ${moment(lookedTo)}.`}`;
}

/** A search compares whole ids; most who do not find theirs have only its beginning. */
const exact = ({ q, key_prefix: prefix }) => (q && !prefix ? h("p.note", "Whole ids and phone numbers are compared. ", prefixLink(q)) : null);

const prefixLink = (q) => h("a", { href: addressOf({ key_prefix: q }) }, `Keys that begin with “${q}”`);

function nothing({ q }, cursor) {
  const kept = overview()?.journal;
  const holds = kept && `The journal holds ${count(kept.records)} events.`;
  if (q) {
    return empty(`Nothing is found for “${q}”`,
      "The search is exact: an event id, message, call, task or order id as a whole, without regard to case; a phone number with or without country code.",
      prefixLink(q), holds);
  }
  if (cursor.after) return empty("No newer event is like that");
  return kept?.records === 0
    ? empty("No event is stored yet", ["They show here once the platform sends callbacks, or try: ", h("code", "gateway send sms-dr --count 10")])
    : empty("No stored event is like that", holds);
}

function pager({ next, newer }, cursor, to, title = "Older ›") {
  const isFirst = !cursor.before && !cursor.after;
  return h("nav.pager", { "aria-label": "Pages" },
    !isFirst && h("a.button", { href: to({}) }, "« Newest"),
    newer !== null && h("a.button", { href: to({ after: newer }) }, "‹ Newer"),
    next !== null && h("a.button", { href: to({ before: next }) }, title));
}

/** Say that there are newer events; they are shown when that is asked for, so that no line moves under the pointer. */
function watchForNews(list, wanted, page, signal) {
  const offsets = page.events.map((event) => event.offset);
  let after = offsets.length ? Math.max(...offsets) : "";
  const button = h("button.news", { type: "button", onclick: () => document.dispatchEvent(new CustomEvent("show-again")) });
  const look = async () => {
    if (document.hidden) return;
    try {
      const found = await get("/api/search", { ...wanted, after, limit: 100 }, signal);
      if (signal.aborted || !found.events.length) return;
      say(button, `${count(found.events.length)}${found.newer === null ? "" : "+"} newer ${found.events.length === 1 ? "event" : "events"}: show`);
      if (!button.isConnected) list.prepend(button);
    } catch {
      // The banner says what is wrong.
    }
  };
  const timer = setInterval(look, NEWS_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
