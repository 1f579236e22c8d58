/** What keeps a page from showing what it is about. */

import { $, h } from "./dom.js";
import { words } from "./format.js";

/** Say what went wrong, at the top of the page. */
export function trouble(failure) {
  $("trouble").replaceChildren(h("p", { class: "trouble", role: "alert" }, failure.message));
}

/** As `trouble`, where what the page is about could not be read: when there is no such thing, the page is empty. */
export function missing(failure) {
  trouble(failure);
  if (failure.status !== 404) return;
  for (let part = $("trouble").nextElementSibling; part; part = part.nextElementSibling) part.hidden = true;
}

/** Why it failed, there too; null takes it away. */
export function showError(error) {
  const shown = error && h("p", { class: "trouble", role: "alert" }, h("strong", {}, words(error.code)), error.message);
  $("trouble").replaceChildren(...(shown ? [shown] : []));
}
