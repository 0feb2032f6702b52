// An event as a line of a list.

import { h } from "./dom.js";
import { type } from "./format.js";
import { when } from "./when.js";

const SHOWN = 4;

export function eventRow(event, { isLive = false } = {}) {
  const fields = Object.entries(event.fields).slice(0, SHOWN);
  return h("li.event", { "data-topic": event.topic },
    h("a", { href: `#/event/${event.id}` },
      when(event.stored_at, { ms: isLive }),
      h("span.type", { class: event.topic === "callbacks.rejected" ? "type bad" : "type" }, type(event.type)),
      h("span.subject", { title: event.subject ?? "" }, event.subject ?? event.id),
      h("span.fields", event.account && h("span", h("i", "account"), event.account),
        fields.map(([name, value]) => h("span", h("i", name), value)))));
}
