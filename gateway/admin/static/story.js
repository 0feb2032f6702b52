// One event: what became of it, step by step.

import { get } from "./api.js";
import { failed, fill, h, loading, toast } from "./dom.js";
import { count, type } from "./format.js";
import { attemptStep, sentence, step } from "./attempt.js";
import { OUTCOMES } from "./outcomes.js";
import { jsonView } from "./payload.js";
import { replayDialog } from "./replay.js";

export async function storyView(element, { thing, signal }) {
  const body = h("div", loading(6));
  element.append(body);
  async function load() {
    try {
      const story = await get(`/api/events/${encodeURIComponent(thing)}`, {}, signal);
      fill(body, head(story, load), h("div.story", timeline(story), payload(story)));
    } catch (problem) {
      if (problem.name !== "AbortError") fill(body, failed(problem, problem.status === 404 ? null : load));
    }
  }
  await load();
}

function head(story, again) {
  const event = story.event;
  return h("header.storyhead",
    h("div", h("h2", type(event.type), " ", h("span.subject", event.subject ?? "")),
      h("p.ids", h("code", story.id), h("button.plain", { type: "button", onclick: () => copy(story.id) }, "Copy id"))),
    h("button", { type: "button", onclick: again }, "Refresh"));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.", "good");
  } catch {
    toast("This browser does not let a page copy; select the id instead.", "bad");
  }
}

function timeline(story) {
  const { event } = story;
  const steps = [
    event.time && event.time !== story.received_at && step("", event.time, "Happened", "by the sender's clock"),
    step("", story.received_at, "Received", `callback ${event.source?.split("/").at(-1)}${event.account ? `, account ${event.account}` : ""}`),
    step("good", story.stored.at, "Stored", `offset ${count(story.stored.offset)} of the journal`),
    step(story.answered.status === 200 ? "good" : "bad", story.answered.after, `Answered ${story.answered.status}`,
      story.answered.status === 200 ? "success, once it was stored" : "failure: it was not understood, and kept"),
    published(story.published),
  ];
  return h("section", h("h3", "What happened"), h("ol.timeline", steps), story.subscribers.map((one) => subscriber(one, event)),
    story.subscribers.length === 0 && h("p.note", `No subscriber has the topic ${story.topic}.`),
    story.former.map((one) => h("article.fate", h("h4", one.name, " ", h("span.badge", "not configured any more")), h("ol.timeline", one.attempts.map((attempt) => attemptStep(attempt, story.event))))),
    story.gap && h("p.error", story.gap));
}

function published(state) {
  if (state.state === "no_kafka") return null;
  if (state.state === "waiting") return step("warn", "", "Not published yet", `waits in the journal for ${state.topic}`);
  const place = state.partition === undefined ? "" : ` · partition ${state.partition}${state.offset === null ? "" : ` · offset ${count(state.offset)}`}`;
  return step("good", "", "Published", `${state.topic}${place}`);
}

function subscriber(one, event) {
  const [word, kind] = OUTCOMES[one.outcome] ?? [one.outcome, ""];
  const id = location.hash.split("/").at(-1);
  return h("article.fate", { "data-name": one.name },
    h("header", h("h4", one.name), h("span.badge", { class: `badge ${kind}` }, word), h("span.target", one.kind === "webhook" ? `POST ${one.target}` : one.target),
      one.kind !== "stream" && h("button", { type: "button", "aria-label": `Deliver again … to ${one.name}`,
        onclick: () => replayDialog({ subscriber: one.name, title: `Deliver again to ${one.name}`, fixed: { ids: [id], all: one.outcome === "skipped" } }) }, "Deliver again …")),
    h("p.why", sentence(one.why)),
    one.filter && h("pre.small", JSON.stringify(one.filter)),
    one.attempts.length > 0 && h("ol.timeline", one.attempts.map((attempt) => attemptStep(attempt, event, one.has_transform))),
    one.dead_letter && (one.dead_letter.response || isUnsaid(one)) && h("div.answer",
      isUnsaid(one) && h("p", sentence(one.dead_letter.detail)),
      one.dead_letter.response && h("pre.small", { tabindex: "0", role: "group", "aria-label": "The last answer" }, one.dead_letter.response)));
}

/** Attempts say why they failed; where none is kept, the dead letter does. */
const isUnsaid = (one) => one.dead_letter.detail && one.attempts.length === 0;

function payload(story) {
  const { data, ...attributes } = story.event;
  const { raw, ...fields } = data ?? {};
  return h("section.payload", h("h3", "Event"), jsonView(attributes),
    h("h3", "Data"), jsonView(fields),
    raw !== undefined && h("details", h("summary", "As the sender wrote it"), jsonView(raw)));
}
