// Payloads as people read them: JSON in lines, the field at fault marked.

import { h } from "./dom.js";

/** A value as indented JSON, names and texts in different colours. `fault` is the name of a field to mark. */
export function jsonView(value, fault = "") {
  const lines = JSON.stringify(value, null, 2)?.split("\n") ?? [];
  const name = leaf(fault);
  return h("pre.json", { tabindex: "0", role: "group", "aria-label": "Payload" }, lines.map((line) => {
    const parts = /^(\s*)("(?:[^"\\]|\\.)*")(: )(.*)$/.exec(line);
    const isFault = name && parts && JSON.parse(parts[2]) === name;
    const content = parts ? [parts[1], h("span.name", parts[2]), parts[3], parts[4]] : [line];
    return [isFault ? h("mark", content) : content, "\n"];
  }));
}

/** A request body: JSON, a form as a list of fields, or text. */
export function bodyView(text, fault = "") {
  if (!text) return h("p.note", "The body is empty.");
  const parsed = asJson(text);
  if (parsed !== undefined) return jsonView(parsed, fault);
  if (/^[^\s=&<>{}]+=/.test(text)) return formView(text, fault);
  return h("pre.json", { tabindex: "0", role: "group", "aria-label": "Body" }, text);
}

/** Fields of a query or a form. */
export function formView(text, fault = "") {
  const name = leaf(fault);
  return h("dl.form", [...new URLSearchParams(text)].map(([key, value]) =>
    h("div", { class: key === name ? "fault" : "" }, h("dt", key), h("dd", value || "empty"))));
}

/** Whether the field at fault is in there at all. */
export const hasField = (text, fault) =>
  Boolean(fault) && new RegExp(`(^|[^\\w])"?${leaf(fault).replace(/[^\w-]/g, "\\$&")}"?\\s*[:=]`).test(text ?? "");

const leaf = (path) => (path ?? "").split(".").at(-1).replace(/\[\d+\]$/, "");

function asJson(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
