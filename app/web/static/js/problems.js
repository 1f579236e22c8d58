/** Problems beside the fields that they are about. A field says what it stands for in `data-pointer`. */

import { h } from "./dom.js";

/** Take all problems off the form. */
export function clear(form) {
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
  for (const message of form.querySelectorAll(".problem")) message.remove();
}

/** Show what went wrong: each error at its field, the rest at the end of the form. The first field gets the focus. */
export function show(form, failure) {
  clear(form);
  const errors = failure.errors?.length ? failure.errors : [{ pointer: null, detail: failure.message }];
  const fields = errors.map((error) => place(form, error));
  fields.find(Boolean)?.focus();
}

function place(form, { pointer, detail }) {
  const field = pointer === null ? null : nearest(form, pointer);
  if (!field) {
    const place = pointer ? `${pointer}: ` : "";
    form.append(h("p", { class: "problem", role: "alert" }, place + detail));
    return null;
  }
  reveal(field);
  if (field.hasAttribute("aria-invalid")) return field; // one message a field is enough
  const id = `problem-${pointer}`;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", id);
  (field.closest(".field") ?? field.parentElement).append(h("p", { class: "problem", role: "alert", id }, detail));
  return field;
}

/** The field of the pointer, of what it lies in, or of what lies in it. */
function nearest(form, pointer) {
  const fields = [...form.querySelectorAll("[data-pointer]")].filter((field) => !field.disabled);
  const of = (test) => fields.find((field) => test(field.dataset.pointer));
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) {
    const field = of((own) => own === at);
    if (field) return field;
  }
  return of((own) => own.startsWith(`${pointer}/`) || own.replace(/^\//, "") === pointer);
}

function reveal(field) {
  const closed = field.closest("details:not([open])");
  if (closed) closed.open = true;
}
