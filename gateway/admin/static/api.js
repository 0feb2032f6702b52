// The gateway's interface: JSON, and events that keep coming. The token is a header, kept while the tab is open.

const KEY = "token";
/** Status of an answer that did not come in the time that the signal of a request gives it. */
export const SILENT = -1;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const setToken = (token) => sessionStorage.setItem(KEY, token);

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(`.${path}`, { ...options, headers: headers(options.headers), cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw new ApiError(SILENT, "The gateway takes the connection and gives no answer.");
    throw new ApiError(0, "The gateway does not answer.");
  }
  if (response.status === 401) document.dispatchEvent(new CustomEvent("signed-out"));
  if (!response.ok) throw new ApiError(response.status, await sentence(response));
  return response;
}

async function sentence(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The gateway answered ${response.status}.`;
  }
}

/** Ask for a document; parameters without a value are left out. */
export async function get(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const suffix = given.length ? `?${new URLSearchParams(given)}` : "";
  const response = await ask(path + suffix, { signal });
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "TimeoutError") throw new ApiError(SILENT, "The gateway started a response and did not complete it.");
    throw error;
  }
}

/** Have something done. */
export const post = (path, body = {}) => change("POST", path, body);

/** The same by any method; `more` are further headers. */
export async function change(method, path, body = {}, more = {}) {
  return (await ask(path, { method, headers: { "Content-Type": "application/json", ...more }, body: JSON.stringify(body) })).json();
}

/**
 * Follow server-sent events until the signal aborts; comes back by itself when the connection goes.
 * EventSource cannot send the token, so the few rules of the format are here.
 */
export async function follow(path, query, signal, { onevent, onstate }) {
  const given = Object.entries(query).filter(([, value]) => value);
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 8000)) {
    try {
      const response = await ask(`${path}?${new URLSearchParams(given)}`, { signal });
      onstate("open");
      wait = 500;
      await read(response.body.pipeThrough(new TextDecoderStream()).getReader(), onevent);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return;
    }
    onstate("lost");
    await new Promise((resume) => {
      setTimeout(resume, wait);
      signal.addEventListener("abort", resume, { once: true });
    });
  }
}

async function read(reader, onevent) {
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length) onevent(name, JSON.parse(data.join("\n")));
    }
  }
}
