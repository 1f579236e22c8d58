/** Building the page. Whatever comes from the API goes in as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/**
 * A new element: `h("a", {href: "/x", class: "quiet"}, "text", another)`. A function is a listener, true a bare
 * attribute; null, undefined and false are left out, among the children too.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (present(value)) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(present));
  return element;
}

const present = (value) => value !== null && value !== undefined && value !== false;

/** Show `text` in `element`; nothing changes, and nothing is read aloud, if it is there already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Show one element for each item, in order. An item that was there before keeps its element (its focus, its
 * animations): `build(item)` makes one, `update(element, item)` brings it up to date.
 */
export function keyed(container, items, key, build, update) {
  const old = new Map([...container.children].map((child) => [child.dataset.key, child]));
  const elements = items.map((item) => {
    const element = old.get(String(key(item))) ?? build(item);
    element.dataset.key = key(item);
    update?.(element, item);
    return element;
  });
  const same = elements.length === container.children.length && elements.every((e, i) => e === container.children[i]);
  if (!same) container.replaceChildren(...elements);
}

/** Do `redraw` only when `value` is another than the last time for this `owner`. */
export function whenChanged(owner, value, redraw) {
  const text = JSON.stringify(value);
  if (seen.get(owner) === text) return;
  seen.set(owner, text);
  redraw();
}

const seen = new WeakMap();
