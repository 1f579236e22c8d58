/** Downloads where a plain link cannot send what the request needs. */

import { blob } from "./api.js";
import { h } from "./dom.js";
import { key } from "./key.js";

/** Let the link save its target as `name`, with the key if there is one. */
export function saveThroughKey(link, name) {
  link.addEventListener("click", async (event) => {
    if (!key()) return;
    event.preventDefault();
    await save(link.getAttribute("href"), name);
  });
}

/** Save what is there as `name`. */
export async function save(path, name, headers = {}) {
  const url = URL.createObjectURL(await blob(path, headers));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
