// Subscribers at run time: add, edit, test, new secret, remove. What a token may not do is not offered.

import { change, get, post } from "./api.js";
import { fill, h, toast } from "./dom.js";
import { moment } from "./format.js";
import { overview, refresh } from "./store.js";

const RANKS = { read: 0, operate: 1, admin: 2 };
/** They have a field of their own; others are JSON. */
const PLAIN = ["name", "topics", "url", "timeout_s", "allow_private"];

let asked = null;
let rank = null;
document.addEventListener("signed-out", () => { asked = rank = null; });

/** Whether the token of this page has a role, as far as it is known: until then, the gateway would say. */
export const isPermitted = (role) => rank === null || rank >= RANKS[role];

/** Whether the token of this page has a role, or one that permits more; `serve` delivers nothing, so changes nothing. */
async function may(role) {
  if (overview()?.role === "serve") return false;
  asked ??= get("/api/me").then((me) => me.role, () => { asked = null; return "read"; });
  rank = RANKS[await asked];
  return isPermitted(role);
}

const path = (name, rest = "") => `/api/subscribers/${encodeURIComponent(name)}${rest}`;

/** A button occupies its space before the role is known: if it appeared later, it would move others under the pointer. */
function button(role, text, label, onclick) {
  const made = h("button.awaited", { type: "button", "aria-label": label, onclick }, text);
  may(role).then((is) => { made.hidden = !is; made.classList.remove("awaited"); });
  return made;
}

export const addButton = () => button("admin", "Add subscriber …", "Add subscriber …", () => formDialog(null));

/** What can be done with a subscriber. Those of the configuration file are changed there. */
export const manageButtons = ({ name, kind, source }) => [
  kind === "webhook" && button("operate", "Test …", `Test … ${name}`, () => testDialog(name)),
  source === "api" && kind === "webhook" && button("admin", "Secret …", `Secret … of ${name}`, () => secretDialog(name)),
  source === "api" && button("admin", "Edit …", `Edit … ${name}`, () => formDialog(name)),
];

/** A dialog that ends with its closing. */
function open(title, ...content) {
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => dialog.remove() }, h("h2", { id: "dialog-title" }, title), content);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const problem = (error) => h("span.error", error.message.split("\n").map((line) => h("span.line", line)));

/** Do something; say what went wrong, and leave the dialog as it is. */
async function attempt(pressed, answer, action) {
  pressed.disabled = true;
  fill(answer, "…");
  try {
    await action();
  } catch (error) {
    fill(answer, problem(error));
  } finally {
    pressed.disabled = false;
  }
}

const field = (id, text, input) => [h("label", { for: id }, text), input];

async function formDialog(name) {
  let known = { settings: {}, etag: "" };
  try {
    if (name !== null) known = await get(path(name));
  } catch (error) {
    toast(error.message, "bad");
    return;
  }
  const before = known.settings;
  const topics = (overview()?.topics ?? []).map((topic) => topic.name);
  const text = (id, value, more = {}) => h("input", { id, type: "text", spellcheck: "false", autocomplete: "off", value: value ?? "", ...more });
  const nameField = text("sub-name", name, { required: true });
  const topicsField = text("sub-topics", [before.topics ?? []].flat().join(", "), { placeholder: topics.slice(0, 3).join(", ") || "sms.dr" });
  const urlField = text("sub-url", before.url, { placeholder: "https://example.com/hooks" });
  const secretField = h("input", { id: "sub-secret", type: "password", autocomplete: "off", placeholder: "none: not signed" });
  const timeoutField = text("sub-timeout", before.timeout_s, { placeholder: "10" });
  const privateField = h("input", { id: "sub-private", type: "checkbox", checked: before.allow_private === true });
  const others = Object.fromEntries(Object.entries(before).filter(([key]) => !PLAIN.includes(key)));
  const more = h("textarea", { id: "sub-more", rows: 5, spellcheck: "false", value: Object.keys(others).length ? JSON.stringify(others, null, 2) : "" });
  const answer = h("div.counted", { role: "status" });

  function settings() {
    const found = more.value.trim() ? JSON.parse(more.value) : {};
    const names = topicsField.value.split(",").map((topic) => topic.trim()).filter(Boolean);
    return {
      ...found,
      name: nameField.value.trim(),
      topics: names,
      ...(urlField.value.trim() && { url: urlField.value.trim() }),
      ...(timeoutField.value.trim() && { timeout_s: timeoutField.value.trim() }),
      ...(privateField.checked && { allow_private: true }),
      ...(secretField.value && { secrets: [secretField.value] }),
    };
  }

  const save = h("button.main", { type: "submit" }, name === null ? "Add" : "Save");
  const remove = name !== null && h("button", { type: "button", onclick: () => removeDialog(name, () => dialog.close()) }, "Remove …");
  const send = (event) => {
    event.preventDefault();
    attempt(save, answer, async () => {
      const wanted = settings();
      if (name === null) await post("/api/subscribers", wanted);
      else await change("PATCH", path(name), difference({ ...before, topics: [before.topics ?? []].flat() }, wanted), { "If-Match": `"${known.etag}"` });
      toast(name === null ? `${wanted.name} is added.` : `${name} is changed.`, "good");
      dialog.close();
      refresh();
    });
  };
  const form = h("form", { onsubmit: send, novalidate: true },
    h("div.fields",
      name === null && field("sub-name", "Name", nameField),
      field("sub-topics", "Topics", topicsField),
      field("sub-url", "Address", urlField),
      name === null && field("sub-secret", "Secret", secretField),
      field("sub-timeout", "Time-out, seconds", timeoutField),
      field("sub-private", "Private addresses", privateField),
      field("sub-more", "More, as JSON", more)),
    answer, h("div.buttons", remove, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), save));
  const dialog = open(name === null ? "Add a subscriber" : `Edit ${name}`, h("p", "The keys are those of config.yaml. Every process applies them within a second."), form);
}

/** The JSON merge patch (RFC 7386) from one value to another. */
function difference(before, after) {
  const patch = {};
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [before[key], after[key]];
    const areSections = [old, now].every((one) => one !== null && typeof one === "object" && !Array.isArray(one));
    if (JSON.stringify(old) === JSON.stringify(now)) continue;
    patch[key] = !(key in after) ? null : areSections ? difference(old, now) : now;
  }
  return patch;
}

function removeDialog(name, ondone) {
  const answer = h("div.counted", { role: "status" });
  const go = h("button.main", { type: "button", onclick: () => attempt(go, answer, async () => {
    await change("DELETE", path(name));
    toast(`${name} is removed.`, "good");
    dialog.close();
    ondone();
    refresh();
  }) }, "Remove");
  const dialog = open(`Remove ${name}?`, h("p", "It gets no more events. Its dead letters stay in the log."), answer,
    h("div.buttons", h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
}

async function testDialog(name) {
  let types;
  try {
    ({ types } = await get(path(name)));
  } catch (error) {
    toast(error.message, "bad");
    return;
  }
  const kind = h("select", { id: "test-type" }, types.map((one) => h("option", { value: one }, one)));
  const answer = h("div.counted", { role: "status" });
  const go = h("button.main", { type: "button", onclick: () => attempt(go, answer, async () => {
    const found = await post(path(name, "/test"), { type: kind.value });
    fill(answer, told(found));
  }) }, "Send");
  const dialog = open(`Test ${name}`, h("p", "One signed sample, with the header gateway-test: true. It is kept nowhere."),
    h("div.fields", field("test-type", "Type", kind)), answer,
    h("div.buttons", h("button", { type: "button", onclick: () => dialog.close() }, "Close"), go));
}

function told({ answer, duration_s, error, filtered_by, is_success, request }) {
  const lines = (headers) => headers.map(([name, value]) => `${name}: ${value}`).join("\n");
  return [
    h("p", { class: is_success ? "good" : "error" }, answer
      ? `Answered ${answer.status} ${answer.reason} after ${Math.round(duration_s * 1000)} ms` : `No answer: ${error}`),
    filtered_by && h("p", `Its filter rejects such an event: ${filtered_by}`),
    answer && h("details", h("summary", "Answer"), h("pre", { tabindex: "0" }, `${lines(answer.headers)}\n\n${answer.body}${answer.is_cut ? " …" : ""}`)),
    h("details", h("summary", "Request"), h("pre", { tabindex: "0" }, `${request.method} ${request.url}\n${lines(request.headers)}\n\n${JSON.stringify(request.body, null, 2)}`)),
  ];
}

async function secretDialog(name) {
  const list = h("ul");
  const answer = h("div.counted", { role: "status" });
  const overlap = h("select", { id: "overlap" },
    [["until they are ended", ""], ["for an hour", 3600], ["for a day", 86400], ["for a week", 604800], ["not at all", 0]]
      .map(([text, value]) => h("option", { value }, text)));
  const show = ({ secrets }) => fill(list, secrets.length ? secrets.map(({ fingerprint, ends_at }) => h("li",
    h("code", fingerprint), ends_at ? ` until ${moment(ends_at)} ` : " ",
    h("button", { type: "button", "aria-label": `End ${fingerprint}`, onclick: (event) => attempt(event.target, answer, async () => {
      show(await change("DELETE", path(name, `/secrets/${fingerprint}`)));
      fill(answer);
    }) }, "End"))) : h("li", "Its events are not signed."));
  const go = h("button.main", { type: "button", onclick: () => attempt(go, answer, async () => {
    const found = await post(path(name, "/rotate-secret"), overlap.value === "" ? {} : { overlap_s: Number(overlap.value) });
    show(found);
    fill(answer, h("p", "The new secret, shown this once:"), h("code.secret", found.secret));
    refresh();
  }) }, "New secret");
  const dialog = open(`Secrets of ${name}`, h("p", "Each signs. The first 12 hex digits of its SHA-256 name a secret."), list,
    h("div.fields", field("overlap", "Old ones sign", overlap)), answer,
    h("div.buttons", h("button", { type: "button", onclick: () => dialog.close() }, "Close"), go));
  try {
    show(await get(path(name)));
  } catch (error) {
    fill(answer, problem(error));
  }
}
