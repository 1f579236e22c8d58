/** Asking again and again, but not while nobody looks. */

import { $, say } from "./dom.js";
import { Problem } from "./api.js";

const RETRY_S = 3;

/** Do `task` now and again; it returns after how many seconds, or null for never. */
export async function repeat(task) {
  for (;;) {
    const seconds = await attempt(task);
    if (seconds === null) return;
    await pause(seconds);
    await visible();
  }
}

async function attempt(task) {
  try {
    const seconds = await task();
    connected();
    return seconds;
  } catch (failure) {
    disconnected(failure);
    return RETRY_S;
  }
}

/** Say at the top of the page what keeps it from being up to date. */
export function disconnected(failure) {
  if (!(failure instanceof Problem)) throw failure;
  $("offline").hidden = false;
  say($("offline"), `${failure.message} Trying again…`);
}

export function connected() {
  $("offline").hidden = true;
}

export const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** Wait until the page can be seen. */
function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

/** `call`, at most once in `seconds`, and once more at the end for what came meanwhile. */
export function throttled(seconds, call) {
  let [running, again] = [false, false];
  return async function throttle() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await call();
    } catch (failure) {
      disconnected(failure);
    }
    await pause(seconds);
    running = false;
    if (again) {
      again = false;
      throttle();
    }
  };
}
