/** The server's key, asked for once and kept for this tab. */

import { $ } from "./dom.js";

const STORED = "tandem-key";
let asking = null;

export const key = () => sessionStorage.getItem(STORED);

/** Headers that carry the key, if there is one. */
export const authorization = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

/** Ask for the key, or for another one if `refused` did not open the door. Several callers share one question. */
export function askForKey(refused) {
  if (key() !== refused) return Promise.resolve();
  asking ??= ask(refused).finally(() => (asking = null));
  return asking;
}

function ask(refused) {
  const dialog = $("key");
  const input = $("key-input");
  $("key-refused").hidden = refused === null;
  input.value = "";
  dialog.showModal();
  return new Promise((done) => {
    const answer = (event) => {
      event.preventDefault();
      if (!input.value.trim()) return;
      sessionStorage.setItem(STORED, input.value.trim());
      dialog.querySelector("form").removeEventListener("submit", answer);
      dialog.close();
      done();
    };
    dialog.querySelector("form").addEventListener("submit", answer);
    // Without a key there is nothing to see: Escape does not leave an empty page.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
  });
}
