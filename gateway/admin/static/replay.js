// Delivering again: first how many, then the word.

import { get, post } from "./api.js";
import { fill, h, say, toast } from "./dom.js";
import { count, type } from "./format.js";
import { refresh } from "./store.js";

const SPANS = [["15 minutes", 900], ["1 hour", 3600], ["6 hours", 21600], ["1 day", 86400], ["7 days", 604800]];
const RANGE = "range";

/**
 * Ask what to replay, count it, do it, follow it.
 * `fixed` is a selection that is chosen already (ids, dead letters); without one a time span is asked for.
 */
export function replayDialog({ subscriber, fixed = null, title = `Replay to ${subscriber}`, ondone = () => {} }) {
  const span = h("select", { id: "span" }, SPANS.map(([text, length]) => h("option", { value: length }, `the last ${text}`)), h("option", { value: RANGE }, "from … to …"));
  const since = h("input", { id: "since", type: "datetime-local", step: "1" });
  const until = h("input", { id: "until", type: "datetime-local", step: "1" });
  const range = [h("label", { for: "since" }, "From"), since, h("label", { for: "until" }, "To"), until];
  const failedOnly = h("input", { id: "failed-only", type: "checkbox" });
  const kind = h("input", { id: "kind", type: "text", placeholder: "any", spellcheck: "false" });
  const pace = h("input", { id: "pace", type: "number", min: "0.1", step: "any", placeholder: "as fast as it takes" });
  const answer = h("div.counted", { role: "status" });
  const go = h("button.main", { type: "button", disabled: true }, "Replay");
  const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const ask = h("button", { type: "button", onclick: countNow }, "Count");
  const fields = h("div.fields",
    !fixed && [h("label", { for: "span" }, "Stored in"), span, range, h("label", { for: "kind" }, "Type"), kind,
      h("label", { for: "failed-only" }, "Only what is not delivered"), failedOnly],
    h("label", { for: "pace" }, "At most per second"), pace);
  const dialog = h("dialog", { "aria-labelledby": "replay-title", onclose: () => dialog.remove() },
    h("h2", { id: "replay-title" }, title),
    h("p", "Events go the normal way again, with the same id and bytes, marked as replays."),
    fields, answer, h("div.buttons", cancel, !fixed && ask, go));
  let total = 0;

  const selection = () => fixed ?? {
    ...(span.value === RANGE ? { since: unix(since) ?? 0, until: unix(until) } : { since: Math.floor(Date.now() / 1000) - Number(span.value) }),
    ...(kind.value.trim() && { types: [kind.value.trim()] }),
    ...(failedOnly.checked && { failed_only: true }),
  };
  const showRange = () => range.forEach((one) => { one.hidden = span.value !== RANGE; });
  showRange();

  async function countNow() {
    go.disabled = true;
    fill(answer, "Counting …");
    try {
      const found = await post("/api/replay", { subscriber, ...selection(), dry_run: true });
      total = found.events;
      const types = Object.entries(found.by_type).sort((one, other) => other[1] - one[1]);
      const left = found.delivered_already ? `, ${count(found.delivered_already)} were delivered already` : "";
      fill(answer, h("b", `${count(total)} ${total === 1 ? "event" : "events"}`), ` of ${count(found.looked_at)} looked at${left}`,
        types.length > 0 && h("ul", types.map(([name, times]) => h("li", `${count(times)} × ${type(name)}`))));
      say(go, total ? `Replay ${count(total)}` : "Nothing to replay");
      go.disabled = total === 0;
    } catch (problem) {
      fill(answer, h("span.error", problem.message));
    }
  }

  go.addEventListener("click", async () => {
    go.disabled = ask.disabled = true;
    try {
      let job = await post("/api/replay", { subscriber, ...selection(), ...(pace.value && { rate: Number(pace.value) }) });
      const bar = h("progress", { max: total || 1, value: 0, "aria-label": "Replayed" });
      fill(answer, bar, h("span.note", "storing …"));
      while (job.state === "running") {
        await new Promise((resume) => setTimeout(resume, 300));
        job = await get(`/api/replays/${job.number}`);
        bar.value = job.stored;
      }
      if (job.state !== "done") throw new Error(job.error || `the replay ${job.name} is ${job.state}`);
      toast(`${count(job.events)} ${job.events === 1 ? "event is" : "events are"} on the way to ${subscriber} again, by replay ${job.name}.`, "good");
      dialog.close();
      ondone();
      refresh();
    } catch (problem) {
      fill(answer, h("span.error", problem.message));
      ask.disabled = false;
    }
  });
  for (const input of [span, since, until, kind, failedOnly]) input.addEventListener("change", () => {
    go.disabled = true;
    fill(answer);
    showRange();
  });
  document.body.append(dialog);
  dialog.showModal();
  if (fixed) countNow();
  return dialog;
}

/** Unix seconds of a field with a date and a time of this browser's zone; null where it is empty. */
const unix = (input) => (input.value ? new Date(input.value).getTime() / 1000 : null);
