// An event as a line of a list.

import { h } from "./dom.js";
import { type } from "./format.js";
import { OUTCOMES } from "./outcomes.js";
import { when } from "./when.js";

const SHOWN = 4;

export function eventRow(event, { isLive = false } = {}) {
  const fields = Object.entries(event.fields).slice(0, SHOWN);
  return h("li.event", { "data-topic": event.topic, class: isLive ? "event fresh" : "event" },
    h("a", { href: `#/event/${event.id}` },
      when(event.stored_at, { ms: isLive }),
      h("span.type", { class: event.topic === "callbacks.rejected" ? "type bad" : "type" }, type(event.type)),
      !isLive && outcome(event),
      h("span.subject", { title: event.subject ?? "" }, event.subject ?? event.id),
      h("span.fields", event.account && h("span", h("i", "account"), event.account),
        fields.map(([name, value]) => h("span", h("i", name), value)))));
}

/** The worst of its outcomes; the others are in the title. */
function outcome({ outcome: worst, outcomes }) {
  if (!worst) return h("span.outcome", h("span.badge", { title: outcomes ? "No subscriber has its topic" : "The attempts cannot be read now" }, outcomes ? "no subscriber" : "not known"));
  const [word, kind] = OUTCOMES[worst];
  const all = Object.entries(outcomes).map(([name, count]) => `${count} ${OUTCOMES[name][0]}`).join(", ");
  const others = Object.values(outcomes).reduce((sum, count) => sum + count, 0) - outcomes[worst];
  return h("span.outcome", h("span.badge", { class: `badge ${kind}`, title: all }, word), others > 0 && outcomes[worst] > 0 && h("small", ` ${outcomes[worst]} of ${others + outcomes[worst]}`));
}
