/** The JSON API: answers, problems, live events. */

import { askForKey, authorization, key } from "./key.js";

/** The server refused, or did not answer (then `status` is 0). `errors` are `{pointer, code, detail}`. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.errors = body?.errors ?? [];
  }
}

export const get = async (path, query = {}) => (await ask("GET", path + search(query))).json();
export const text = async (path) => (await ask("GET", path)).text();
export const blob = async (path, headers = {}) => (await ask("GET", path, { headers })).blob();
export const put = async (path, body) => (await ask("PUT", path, json(body))).json();
export const remove = (path) => ask("DELETE", path);

/** `POST` that makes something: sent again by a nervous finger, it makes one thing. */
export const create = async (path, body) => (await ask("POST", path, json(body, fresh()))).json();
export const post = async (path, body) => (await ask("POST", path, json(body))).json();

function json(body, headers = {}) {
  if (body === undefined) return { headers };
  return { headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) };
}

/** A new Idempotency-Key. (crypto.randomUUID is for https and localhost only.) */
export function fresh() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return { "Idempotency-Key": Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("") };
}

/** `?name=value` of everything that has a value. */
function search(query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function ask(method, path, options = {}) {
  const sent = key();
  const answer = await reach(path, {
    ...options,
    method,
    headers: { Accept: "application/json, text/plain, */*", ...authorization(), ...options.headers },
  });
  if (answer.status === 401) {
    await askForKey(sent);
    return ask(method, path, options);
  }
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null));
  return answer;
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new Problem(0, { detail: "Tandem does not answer. Is it running?" });
  }
}

/**
 * Send a form with a file, telling `progress(share)` how much has gone out. (fetch cannot say that.)
 */
export function upload(path, form, progress) {
  const sent = key();
  return new Promise((done, refuse) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.responseType = "json";
    for (const [name, value] of Object.entries({ ...authorization(), ...fresh() })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => progress(event.lengthComputable ? event.loaded / event.total : null);
    request.onerror = () => refuse(new Problem(0, { detail: "The connection broke before the file had arrived." }));
    request.onload = () => {
      if (request.status === 401) askForKey(sent).then(() => upload(path, form, progress)).then(done, refuse);
      else if (request.status >= 400) refuse(new Problem(request.status, request.response));
      else done(request.response);
    };
    request.send(form);
  });
}

/**
 * The events of a job after number `after`, live: `{id, type, data}`. Ends when the server ends the stream.
 * EventSource cannot send a key, so the stream is read here.
 */
export async function* events(path, after) {
  const answer = await ask("GET", path, { headers: { Accept: "text/event-stream", "Last-Event-ID": String(after) } });
  if (!answer.body) return; // 204: nothing came after that event
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    yield* blocks.map(event).filter(Boolean);
  }
}

/** One block of lines as https://html.spec.whatwg.org/multipage/server-sent-events.html reads it. */
function event(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon < 1) continue;
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    fields[name] = name === "data" && "data" in fields ? `${fields.data}\n${value}` : value;
  }
  if (!("data" in fields)) return null;
  return { id: Number(fields.id), type: fields.event ?? "message", data: JSON.parse(fields.data) };
}
