/** Downloads where a plain link cannot send the key. */

import { blob } from "./api.js";
import { h } from "./dom.js";
import { key } from "./key.js";

/** Let the link save its target as `name`, with the key if there is one. */
export function saveThroughKey(link, name) {
  link.addEventListener("click", async (event) => {
    if (!key()) return;
    event.preventDefault();
    const url = URL.createObjectURL(await blob(link.getAttribute("href")));
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });
}
