/** The page of one comparison. */

import { get, post, remove } from "./api.js";
import { drawComparison } from "./comparison_curves.js";
import { showTables } from "./comparison_tables.js";
import { $, h, say, whenChanged } from "./dom.js";
import { save, saveThroughKey } from "./download.js";
import { duration } from "./format.js";
import { disconnected, repeat } from "./live.js";
import { bar, busy, deleteButton, FRAMEWORKS, pill, refreshTimes, time, updateBar } from "./parts.js";
import { missing, showError, trouble } from "./trouble.js";

const BUSY_S = 1;
const PATIENCE_MS = 1000;
const MEASURED_S = 10; // an answer that took longer came without what it waited for
const MOST_MEASURED = 3;
const LISTED = 50;
const POINTS = 200;
const id = $("page").dataset.comparison;
const path = `/comparisons/${encodeURIComponent(id)}`;
let measured = 0;

repeat(async () => {
  try {
    return await refresh();
  } catch (failure) {
    if (!(failure.status >= 400 && failure.status < 500)) throw failure;
    missing(failure);
    return null;
  }
});

/** Show what is known now; after how many seconds to ask again, null at the end. */
async function refresh() {
  const began = performance.now();
  const comparison = await whole();
  const waited = (performance.now() - began) / 1000;
  const again = comparison.status === "succeeded" && !comparison.serving && waited > MEASURED_S && ++measured < MOST_MEASURED;
  show(comparison);
  $("measuring").hidden = !again;
  return again || active(comparison) ? BUSY_S : null;
}

/** It runs, or its last job has not heard yet that it was cancelled. */
const active = ({ status, runs }) => status === "running" || runs.some((run) => isActive(run));
const isActive = ({ status }) => status === "queued" || status === "running";

/** The comparison. The first answer after its end waits until its engines are measured: until then, what is known. */
async function whole() {
  let answered = false;
  const meanwhile = async () => {
    const ended = await unmeasured().catch(() => undefined);
    if (!ended || answered) return;
    show(ended);
    $("measuring").hidden = false;
  };
  const patience = setTimeout(meanwhile, PATIENCE_MS);
  try {
    return await get(path);
  } finally {
    answered = true;
    clearTimeout(patience);
  }
}

/** What a list says of it once it has succeeded, and the curves of its jobs. */
async function unmeasured() {
  const { data } = await get("/comparisons", { status: "succeeded", limit: LISTED });
  const found = data.find((one) => one.id === id);
  const curves = (found?.runs ?? []).map(({ job }) => get(`${jobApi(job)}/metrics`, { points: POINTS }));
  return found && { ...found, runs: (await Promise.all(curves)).map((curve, at) => ({ ...found.runs[at], curve })) };
}

const jobApi = (job) => `/jobs/${encodeURIComponent(job)}`;

function show(comparison) {
  say($("title"), comparison.name);
  document.title = `${comparison.name}: ${comparison.status} · Tandem`;
  whenChanged($("status"), comparison.status, () => $("status").replaceChildren(pill(comparison.status)));
  say($("about"), about(comparison));
  whenChanged($("when"), [comparison.created_at, comparison.finished_at], () => $("when").replaceChildren(...moments(comparison)));
  refreshTimes();
  whenChanged($("trouble"), comparison.error, () => showError(comparison.error));
  showProgress(comparison);
  $("conclusion").hidden = comparison.conclusion.length === 0;
  whenChanged($("sentences"), comparison.conclusion, () => $("sentences").replaceChildren(...comparison.conclusion.map((sentence) => h("li", {}, sentence))));
  drawComparison(comparison);
  showTables(comparison);
  showActions(comparison);
}

function about({ spec, dataset, runs }) {
  const { epochs, max_steps: steps, batch_size: batch } = spec.training;
  const devices = [...new Set(runs.map(({ device }) => device).filter(Boolean))];
  const seeds = `${spec.seeds.length > 1 ? "seeds" : "seed"} ${spec.seeds.join(", ")}`;
  const parts = [`${spec.model.architecture} on ${dataset.name}`, epochs ? `${epochs} epochs` : `${steps} steps`, `batches of ${batch}`, seeds, devices.length && `on ${devices.join(", ")}`];
  return `${parts.filter(Boolean).join(", ")}. The same initial weights and the same batches in each framework, one job after another.`;
}

function moments({ created_at: begun, finished_at: ended }) {
  const took = ended && ` and took ${duration((new Date(ended) - new Date(begun)) / 1000)}`;
  return [", begun ", time(begun), took].filter(Boolean);
}

function showProgress(comparison) {
  const { status, progress } = comparison;
  const asJob = { status, framework: "", progress: { step: progress.jobs, total_steps: progress.total_jobs } };
  $("progress").hidden = status !== "running";
  if (!$("bar").firstChild) $("bar").append(bar(asJob));
  updateBar($("bar").firstChild, asJob);
  say($("position"), `${progress.jobs} of ${progress.total_jobs} jobs`);
  say($("now"), now(comparison));
}

function now({ progress, runs }) {
  const run = runs.find((one) => isActive(one));
  if (run) return `${FRAMEWORKS[run.framework]} ${run.status === "queued" ? "waits for a worker" : "trains"} with seed ${run.seed}`;
  return runs.every(({ job }) => job) && progress.jobs < progress.total_jobs ? "the test split is being predicted" : "";
}

// What can be done with it

function showActions({ status }) {
  $("actions").hidden = false;
  $("cancel").hidden = status !== "running";
  $("delete").hidden = status === "running";
}

$("cancel").addEventListener("click", () => busy($("cancel"), async () => show(await post(`${path}/cancel`)), trouble));
$("delete").append(
  deleteButton(async () => {
    await remove(path);
    location.assign("/ui/comparisons");
  }, null),
);
$("markdown").addEventListener("click", () => busy($("markdown"), () => save(`${path}/report`, `${id}.md`, { Accept: "text/markdown" }), trouble));
$("report").href = `${path}/report`;
saveThroughKey($("report"), `${id}.html`);
