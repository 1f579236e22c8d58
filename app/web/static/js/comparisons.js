/** The page of all comparisons. */

import { get } from "./api.js";
import { $, h, keyed, say, whenChanged } from "./dom.js";
import { number, words } from "./format.js";
import { repeat } from "./live.js";
import { comparisonPath, pill, refreshTimes, time } from "./parts.js";

const BUSY_S = 2;
const IDLE_S = 4;
const PAGE = 15;
const MOST = 200;
const COLUMNS = ["torch", "jax"];
let shown = PAGE;

repeat(async () => {
  const { data, has_more: older } = await get("/comparisons", { limit: shown });
  $("comparisons-empty").hidden = data.length > 0;
  $("listed").hidden = data.length === 0;
  $("more").hidden = !older || shown === MOST;
  $("more").disabled = false;
  keyed($("comparisons"), data, ({ id }) => id, row, update);
  refreshTimes();
  return data.some(({ status }) => status === "running") ? BUSY_S : IDLE_S;
});

$("more").addEventListener("click", () => {
  shown = Math.min(shown + 30, MOST);
  $("more").disabled = true;
});

function row(comparison) {
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: comparisonPath(comparison.id), class: "main" }, comparison.name), h("small", { class: "about" })),
    h("td", {}, h("span", { class: "status" }), h("small", { class: "done" })),
    COLUMNS.map((framework) => h("td", { class: `right ${framework}` })),
    h("td", { class: "right roomy" }, time(comparison.created_at)),
  );
}

function update(element, comparison) {
  const find = (name) => element.querySelector(`.${name}`);
  say(find("about"), about(comparison));
  whenChanged(find("status"), comparison.status, () => find("status").replaceChildren(pill(comparison.status)));
  say(find("done"), done(comparison));
  for (const framework of COLUMNS) {
    const found = comparison.frameworks[framework]?.score ?? null;
    whenChanged(find(framework), found, () => find(framework).replaceChildren(...score(found)));
  }
}

function about({ spec, dataset, metric, frameworks }) {
  const scored = Object.values(frameworks).some(({ score }) => score !== null);
  return [`${spec.model.architecture} on ${dataset.name}`, scored && words(metric)].filter(Boolean).join(", ");
}

const done = ({ status, progress: { jobs, total_jobs: total } }) => (status === "succeeded" ? "" : `${jobs} of ${total} jobs`);

function score(found) {
  if (found === null) return ["–"];
  return [number(found.mean), found.spread === null ? null : h("small", {}, `± ${number(found.spread, 2)}`)].filter(Boolean);
}
