/** Pieces that several pages show. */

import { h, say, svg } from "./dom.js";
import { ago, when } from "./format.js";

export const FRAMEWORKS = { torch: "PyTorch", jax: "JAX", openvino: "OpenVINO" };
export const other = (framework) => (framework === "torch" ? "jax" : "torch");

export const jobPath = (id) => `/ui/jobs/${encodeURIComponent(id)}`;
export const comparisonPath = (id) => `/ui/comparisons/${encodeURIComponent(id)}`;
export const modelPath = (name) => `/ui/models/${encodeURIComponent(name)}`;

export function badge(framework) {
  return h("span", { class: "badge", "data-framework": framework }, FRAMEWORKS[framework] ?? framework);
}

const ICONS = {
  queued: ["circle", { cx: 8, cy: 8, r: 5.5 }],
  running: ["path", { d: "M8 2.5a5.5 5.5 0 1 1-5.5 5.5" }],
  succeeded: ["path", { d: "m3 8.5 3.4 3.4L13 4.6" }],
  failed: ["path", { d: "m4 4 8 8m0-8-8 8" }],
  cancelled: ["path", { d: "M3.5 8h9" }],
};

/** The status with its icon. */
export function pill(status) {
  return h("span", { class: "pill", "data-status": status }, icon(...ICONS[status]), h("span", {}, status));
}

export function icon(tag, attributes) {
  return svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", class: "icon" }, svg(tag, attributes));
}

/** A moment as "3 minutes ago", with the exact time to hover over. */
export function time(moment) {
  return h("time", { datetime: moment, title: when(moment) }, ago(moment));
}

/** Bring every relative time on the page up to date. */
export function refreshTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) say(element, ago(element.dateTime));
}

/** How much of the job is done, 0 to 1; null while nobody knows. */
export function share(job) {
  const { step, total_steps: total } = job.progress;
  if (job.status === "succeeded") return 1;
  return total ? Math.min((step ?? 0) / total, 1) : null;
}

export function bar(job) {
  const element = h("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 });
  element.append(h("div"));
  updateBar(element, job);
  return element;
}

export function updateBar(element, job) {
  const done = share(job);
  element.dataset.framework = job.framework;
  element.classList.toggle("waiting", done === null && job.status === "running");
  element.firstChild.style.width = `${(done ?? 0) * 100}%`;
  if (done === null) element.removeAttribute("aria-valuenow");
  else element.setAttribute("aria-valuenow", Math.round(done * 100));
}

/** "epoch 2 of 5 · step 51 of 110 · training". */
export function position(job) {
  const { epoch, epochs, step, total_steps: total } = job.progress;
  const parts = [
    job.phase,
    epochs && `epoch ${Math.min(Math.floor(epoch ?? 0) + (job.status === "running" ? 1 : 0), epochs)} of ${epochs}`,
    total && `step ${(step ?? 0).toLocaleString("en")} of ${total.toLocaleString("en")}`,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** A button that is busy, and cannot be pressed again, while `action` runs; `failed` gets what it throws. */
export async function busy(button, action, failed) {
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    return await action();
  } catch (failure) {
    return failed(failure);
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}

/** A button that asks once more before it deletes. */
export function deleteButton(action, failed, size = "small") {
  let sure = false;
  const button = h("button", { type: "button", class: size, click: pressed, blur: () => ((sure = false), say(button, "Delete")) }, "Delete");
  function pressed() {
    if (sure) {
      busy(button, action, failed);
      return;
    }
    sure = true;
    say(button, "Really delete?");
  }
  return button;
}

/** Copy what `text()` gives; the button says so for a moment. */
export function copies(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    say(button, "Copied");
    setTimeout(() => say(button, label), 1500);
  });
  button.hidden = !navigator.clipboard; // browsers have it on https and localhost only
}

/** Rows of a two-column table: `[name, value]`, where value is text or an element. */
export function facts(list, rows) {
  list.replaceChildren(
    ...rows.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value)),
    ),
  );
}
