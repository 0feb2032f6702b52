// The page: which view is shown, who is signed in, whether the gateway answers.

import { setToken, SILENT } from "./api.js";
import { repaint } from "./charts.js";
import { fill, h, say } from "./dom.js";
import { ago, duration } from "./format.js";
import { overviewView } from "./overview.js";
import { eventsView } from "./events.js";
import { deadLettersView } from "./deadletters.js";
import { rejectedView } from "./rejected.js";
import { replaysView } from "./replays.js";
import { storyView } from "./story.js";
import { refresh, watch } from "./store.js";

const main = document.getElementById("main");
const banner = document.getElementById("banner");
const status = document.getElementById("status");
const find = document.getElementById("find");

const VIEWS = {
  "": ["Overview", overviewView],
  events: ["Events", eventsView],
  event: ["Event", storyView],
  "dead-letters": ["Dead letters", deadLettersView],
  replays: ["Replays", replaysView],
  rejected: ["Rejected callbacks", rejectedView],
};

let leaving = new AbortController();
let isSignedOut = false;

/** The address behind the #: a view, a thing, parameters. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, thing] = path.split("/").map(decodeURIComponent);
  return { view, thing, query: new URLSearchParams(query) };
}

function show() {
  if (isSignedOut) return;
  leaving.abort();
  leaving = new AbortController();
  const { view, thing, query } = place();
  const [title, make] = VIEWS[view] ?? VIEWS[""];
  document.title = `${title} · Gateway`;
  for (const link of document.querySelectorAll(".bar nav a")) {
    const target = link.getAttribute("href").replace(/^#\/?/, "");
    link.toggleAttribute("aria-current", false);
    if (target === view || (view === "event" && target === "events")) link.setAttribute("aria-current", "page");
  }
  if (view !== "events" && view !== "event") find.value = "";
  const element = h("div.view", h("h1.unseen", title));
  fill(main, element);
  make(element, { thing, query, signal: leaving.signal });
}

function signIn(message = "") {
  isSignedOut = true;
  leaving.abort();
  fill(banner);
  const input = h("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const error = h("p.error", { role: "alert" }, message);
  const send = async (event) => {
    event.preventDefault();
    setToken(input.value.trim());
    isSignedOut = false;
    await refresh();
    if (isSignedOut) return;
    show();
  };
  fill(main, h("form.signin", { onsubmit: send }, h("h1", "Admin token"),
    h("p", "It is set in ", h("code", "admin.token"), " or ", h("code", "admin.tokens"), " of the gateway's configuration. It is kept until this tab is closed."),
    h("label", { for: "token" }, "Token"), input, error, h("button.main", "Continue")));
  input.focus();
}

document.addEventListener("signed-out", () => {
  const wasTried = Boolean(sessionStorage.getItem("token"));
  sessionStorage.removeItem("token");
  signIn(wasTried ? "The gateway does not know this token." : "");
});

const TROUBLE = { 0: "No connection to the gateway. ", [SILENT]: "The gateway hangs, or is overloaded. " };

watch(({ latest, problem, answeredAt }) => {
  const isAway = problem && problem.status !== 401;
  document.body.classList.toggle("stale", Boolean(isAway && latest));
  fill(banner, isAway && h("p.away",
    h("b", TROUBLE[problem.status] ?? "The gateway has trouble. "),
    latest ? `What you see is from ${ago(answeredAt / 1000)}. ` : `${problem.message} `, "Trying again …"));
  if (!latest) return;
  const told = Object.entries(latest.checks).filter(([, text]) => text !== "ok");
  const word = isAway ? (problem.status === SILENT ? "no answer" : "offline") : !latest.ready ? "not ready" : told.length ? "degraded" : "ready";
  status.dataset.state = word;
  status.title = told.map(([name, text]) => `${name}: ${text}`).join("\n") || "All checks are healthy";
  const text = `${word} · ${latest.role}`;
  if (status.dataset.text !== text) {
    status.dataset.text = text;
    fill(status, h("i.dot"), text, h("span.version", ` v${latest.version}`));
  }
  status.setAttribute("aria-label", `Gateway ${word}, role ${latest.role}, up for ${duration(latest.now - latest.started_at)}`);
  say(status.querySelector(".version"), ` v${latest.version}`);
});

document.querySelector(".find").addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = find.value.trim();
  location.hash = /^[0-9a-f]{32}$/i.test(asked) ? `#/event/${asked.toLowerCase()}` : `#/events${asked ? `?q=${encodeURIComponent(asked)}` : ""}`;
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, dialog");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    find.focus();
    find.select();
  }
});

document.getElementById("theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  repaint();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
/** A view asks to be created again, at the newest of what it shows. */
document.addEventListener("show-again", () => {
  const { view, thing, query } = place();
  ["before", "after"].forEach((name) => query.delete(name));
  const address = `#/${[view, thing].filter(Boolean).join("/")}${query.size ? `?${query}` : ""}`;
  if (address === location.hash) show();
  else location.hash = address;
});

addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});

show();
refresh();
