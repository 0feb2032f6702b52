// Rejected callbacks: authentic, not understood, kept whole. After a fix they are decoded again.

import { get, post } from "./api.js";
import { empty, failed, fill, h, loading, toast } from "./dom.js";
import { count } from "./format.js";
import { bodyView, formView, hasField, jsonView } from "./payload.js";
import { when } from "./when.js";

export function rejectedView(element, { query, signal }) {
  const list = h("div.list", loading());
  const callback = h("select", { "aria-label": "Callback", onchange: () => {
    location.hash = `#/rejected${callback.value ? `?callback=${encodeURIComponent(callback.value)}` : ""}`;
  } });
  const again = h("button", { type: "button", onclick: () => decodeDialog(query.get("callback") ?? "", load) }, "Decode again …");
  element.append(h("form.filters", { onsubmit: (event) => event.preventDefault(), "aria-label": "Filters" }, callback, h("span.gap"), again), list);

  async function load() {
    try {
      const found = await get("/api/rejected", { callback: query.get("callback"), limit: 200 }, signal);
      const names = new Set(Object.keys(found.counts).map((key) => key.split(": ")[0]));
      if (query.get("callback")) names.add(query.get("callback"));
      fill(callback, h("option", { value: "" }, "All callbacks"), [...names].sort().map((name) => h("option", { value: name }, name)));
      callback.value = query.get("callback") ?? "";
      again.hidden = !found.rejected.length;
      show(found);
    } catch (problem) {
      if (problem.name !== "AbortError") fill(list, failed(problem, load));
    }
  }

  function show(found) {
    if (!found.rejected.length) {
      return fill(list, empty("Every callback was understood", "One that is authentic but cannot be read is answered 400 and kept here whole, with the reason."));
    }
    const reasons = Object.entries(found.counts).sort((one, other) => other[1] - one[1]);
    fill(list, h("ul.reasons", reasons.map(([text, times]) => h("li", h("b", count(times)), " ", text))),
      h("ul.letters", found.rejected.map((event) => row(event, signal))));
  }
  load();
}

function row(event, signal) {
  const inside = h("div.inside", loading(3));
  const details = h("details", h("summary", when(event.stored_at), h("span.type", event.callback),
    h("span.subject", event.fields.field ?? ""), h("span.reason", event.fields.reason ?? "")), inside);
  details.addEventListener("toggle", async () => {
    if (!details.open || inside.dataset.isLoaded) return;
    try {
      const { event: whole } = await get(`/api/events/${event.id}`, {}, signal);
      inside.dataset.isLoaded = "1";
      fill(inside, request(whole.data, event.id));
    } catch (problem) {
      if (problem.name !== "AbortError") fill(inside, failed(problem));
    }
  });
  return h("li.letter", { "data-id": event.id }, details);
}

function request(data, id) {
  const body = data.body ?? "";
  const isMissing = data.field && !hasField(body, data.field) && !hasField(data.query, data.field);
  return [
    h("p.fault", h("b", data.field || "The whole request"), `: ${data.reason}`, isMissing && h("span", " — it is not in the request")),
    h("p", h("code", `${data.method} ${data.path}`), " from ", h("code", data.peer || "an unknown address")),
    data.query && h("div", h("h2", "Query"), formView(data.query, data.field)),
    h("h2", "Body"),
    data.body_base64 ? [h("p.note", "Not UTF-8; in base64:"), h("pre.json", { tabindex: "0", role: "group", "aria-label": "Body" }, data.body_base64)] : bodyView(body, data.field),
    h("details", h("summary", "Headers"), jsonView(data.headers)),
    h("p", h("a", { href: `#/event/${id}` }, "The event's whole story")),
  ];
}

async function decodeDialog(callback, ondone) {
  const answer = h("div.counted", { role: "status" }, "Trying …");
  const go = h("button.main", { type: "button", disabled: true }, "Decode again");
  const dialog = h("dialog", { "aria-labelledby": "decode-title", onclose: () => dialog.remove() },
    h("h2", { id: "decode-title" }, "Decode rejected callbacks again"),
    h("p", callback ? `Those of ${callback}. ` : "All that are kept. ", "What is understood now is stored as if it had just come; what is stored already is not stored twice."),
    answer, h("div.buttons", h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
  document.body.append(dialog);
  dialog.showModal();
  const wanted = callback ? { callback } : {};
  try {
    const found = await post("/api/rejected/replay", { ...wanted, dry_run: true });
    fill(answer, h("b", `${count(found.decoded)} of ${count(found.looked_at)}`), " can be understood now: ", `${count(found.events)} new events`,
      found.already_stored > 0 && `, ${count(found.already_stored)} stored already`,
      found.still_rejected > 0 && h("ul", Object.entries(found.reasons).map(([text, times]) => h("li", `${count(times)} × ${text}`))));
    go.disabled = found.events === 0;
  } catch (problem) {
    fill(answer, h("span.error", problem.message));
  }
  go.addEventListener("click", async () => {
    go.disabled = true;
    try {
      const found = await post("/api/rejected/replay", wanted);
      toast(`${count(found.events)} events are stored.`, "good");
      dialog.close();
      ondone();
    } catch (problem) {
      fill(answer, h("span.error", problem.message));
    }
  });
}
