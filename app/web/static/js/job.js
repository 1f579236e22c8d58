/** The page of one job. */

import { create, get, post } from "./api.js";
import { drawCurves } from "./job_curves.js";
import { $, h, say, whenChanged } from "./dom.js";
import { showSideBySide } from "./side_by_side.js";
import { Followed } from "./follow.js";
import { bytes, duration, elapsed, headline, metric, number, when, words } from "./format.js";
import { disconnected, repeat } from "./live.js";
import { badge, bar, busy, comparisonPath, copies, facts, FRAMEWORKS, jobPath, modelPath, other, pill, position, time, updateBar } from "./parts.js";
import { missing, showError, trouble } from "./trouble.js";
import { saveThroughKey } from "./download.js";

const TAIL_LINES = 300;
const id = $("job").dataset.job;
const mine = new Followed(id, changed);
let laid = null; // the job whose curves lie over ours

open().catch(missing);

async function open() {
  await mine.load();
  offerOverlays().catch(disconnected);
  layOver(new URLSearchParams(location.search).get("with"));
  await mine.follow();
  offerOverlays().catch(disconnected);
}

function changed(what) {
  if (what === "job") showJob(mine.job);
  if (what === "points") showPoints();
  if (what === "log") showLog(mine.log);
  if (what === "checkpoints") {
    showCheckpoints(mine.checkpoints);
    if (mine.job) showActions(mine.job);
  }
}

// The job

function showJob(job) {
  say($("title"), job.name);
  document.title = `${job.name}: ${job.status} · Tandem`;
  whenChanged($("badge"), job.framework, () => $("badge").replaceChildren(badge(job.framework)));
  whenChanged($("status"), job.status, () => $("status").replaceChildren(pill(job.status)));
  if (!$("bar").firstChild) $("bar").append(bar(job));
  updateBar($("bar").firstChild, job);
  say($("position"), position(job) || (job.status === "queued" ? "waits for a worker" : job.status));
  say($("eta"), eta(job));
  whenChanged($("numbers"), [numbers(job)], () => facts($("numbers"), numbers(job)));
  whenChanged($("trouble"), job.error, () => showError(job.error));
  whenChanged($("spec"), job.spec, () => say($("spec"), JSON.stringify(job.spec, null, 2)));
  whenChanged($("about"), about(job).map(String), () => facts($("about"), about(job)));
  showActions(job);
  if (laid) showSideBySide(mine, laid);
}

function eta(job) {
  if (job.status !== "running" || !job.estimated_finish) return "";
  return `about ${duration(Math.max((new Date(job.estimated_finish) - Date.now()) / 1000, 0))} left`;
}

function numbers(job) {
  const { timing, metrics } = job;
  const best = headline(metrics);
  return [
    best ?? ["result", "–"],
    ...["validation_loss", "train_loss"].filter((name) => name in metrics && words(name) !== best?.[0]).map((name) => [words(name), metric(name, metrics[name])]),
    ["samples a second", number(timing.samples_per_s && Math.round(timing.samples_per_s))],
    ["training", duration(timing.train_s ?? (job.status === "running" ? elapsed(job) : null))],
    ["compiling", duration(timing.compile_s || null)],
    ["waiting", duration(timing.queued_s)],
    ["setting up", duration(timing.setup_s)],
  ].filter(([, value]) => value !== "–");
}

function about(job) {
  const attempts = job.attempt > 1 ? `${job.attempt} of ${job.max_attempts}` : null;
  return [
    ["Dataset", job.dataset.name],
    ["Architecture", job.spec.model.architecture],
    ["Device", job.device],
    ["Worker", job.worker && h("code", {}, job.worker)],
    ["Attempt", attempts],
    ["Stopped early", job.stop_reason && job.stop_reason !== "completed" ? words(job.stop_reason) : null],
    ["Goes on from", job.resumed_from && h("a", { href: jobPath(job.resumed_from) }, job.resumed_from)],
    ["Created", when(job.created_at)],
    ["Started", job.started_at && when(job.started_at)],
    ["Ended", job.finished_at && when(job.finished_at)],
    ...Object.entries(job.metadata).map(([name, value]) => [name, String(value)]),
  ];
}

// What can be done with it

function showActions(job) {
  const active = job.status === "queued" || job.status === "running";
  $("cancel").hidden = !active;
  if (job.cancel_requested) $("cancel").disabled = true;
  say($("cancel"), job.cancel_requested ? "Cancelling…" : "Cancel");
  $("retry").hidden = !["failed", "cancelled"].includes(job.status);
  say($("retry"), mine.checkpoints?.length ? "Retry from its checkpoint" : "Retry");
  $("again").hidden = false;
  say($("again"), `Run it in ${FRAMEWORKS[other(job.framework)]}`);
  $("compare").hidden = job.comparison !== null;
  $("part").hidden = job.comparison === null;
  if (job.comparison !== null) {
    say($("comparison"), job.comparison);
    $("comparison").href = comparisonPath(job.comparison);
  }
  $("model").hidden = !job.result;
  $("again").classList.toggle("primary", !job.result);
  if (job.result) $("model").href = modelPath(job.result.model);
}

const act = (button, action) => $(button).addEventListener("click", () => busy($(button), action, trouble));

act("cancel", async () => {
  mine.job = await post(`${mine.path}/cancel`);
  showJob(mine.job);
});
act("retry", async () => {
  const job = await create(`${mine.path}/retry`);
  location.assign(`${jobPath(job.id)}?with=${encodeURIComponent(id)}`);
});
act("again", async () => {
  const job = await create("/jobs", { ...mine.job.spec, framework: other(mine.job.framework) });
  location.assign(`${jobPath(job.id)}?with=${encodeURIComponent(id)}`);
});
act("compare", async () => {
  const { framework: _, ...same } = mine.job.spec;
  const comparison = await create("/comparisons", { ...same, seeds: [same.training.seed] });
  location.assign(comparisonPath(comparison.id));
});
copies($("copy-spec"), () => $("spec").textContent);
$("whole-log").href = `${mine.path}/logs`;
saveThroughKey($("whole-log"), `${id}.log`);

// Curves

let drawing = false;

/** Points may come faster than anyone can look: they are drawn once a frame. */
function showPoints() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawCurves(mine, laid);
    showEvaluations();
    if (laid) showSideBySide(mine, laid);
  });
}

$("overlay").addEventListener("change", () => layOver($("overlay").value));

/** Lay another job's curves over ours, live if it still runs. */
async function layOver(otherId) {
  const url = new URL(location.href);
  if (otherId) url.searchParams.set("with", otherId);
  else url.searchParams.delete("with");
  history.replaceState(null, "", url);
  laid = null;
  $("side-by-side").hidden = true;
  showPoints();
  if (!otherId) return;
  const chosen = new Followed(otherId, () => laid === chosen && showPoints());
  try {
    await chosen.load();
    if (new URLSearchParams(location.search).get("with") !== otherId) return; // another one was chosen meanwhile
    laid = chosen;
    choose(chosen.job);
    showPoints();
    await chosen.follow();
  } catch (failure) {
    trouble(failure);
  }
}

/** The other jobs on this dataset, those of the same name first. */
async function offerOverlays() {
  const { data } = await get("/jobs", { dataset: mine.job.dataset.name, limit: 100 });
  const others = data.filter((job) => job.id !== id && job.status !== "queued");
  const near = others.filter((job) => job.name === mine.job.name);
  const far = others.filter((job) => job.name !== mine.job.name);
  $("overlay").replaceChildren(new Option("no other job", ""), ...[...near, ...far].map(option));
  if (laid) choose(laid.job);
}

function choose(job) {
  if (![...$("overlay").options].some((known) => known.value === job.id)) $("overlay").add(option(job));
  $("overlay").value = job.id;
}

const option = (job) => new Option(`${job.name} in ${FRAMEWORKS[job.framework]}, ${when(job.created_at)}`, job.id);

// Evaluations, log, checkpoints

function showEvaluations() {
  const rows = mine.points.rows.filter((row) => Object.keys(row).some((name) => /^(validation|test)_/.test(name))).reverse();
  const names = [...new Set(rows.flatMap(Object.keys))].filter((name) => !/^(step|epoch|train_.*)$/.test(name)); // train_*: means of a few steps
  $("metrics-empty").hidden = rows.length > 0;
  whenChanged($("metrics"), rows, () => {
    $("metrics-head").replaceChildren(...["epoch", "step", ...names].map((name) => h("th", { scope: "col", class: "right" }, words(name.replace("epoch_", "")))));
    $("metrics").replaceChildren(
      ...rows.map((row) =>
        h("tr", {}, [number(row.epoch), number(row.step), ...names.map((name) => (name in row ? metric(name, row[name]) : ""))].map((cell) => h("td", { class: "right" }, cell))),
      ),
    );
  });
}

function showLog(text) {
  const lines = text.trimEnd().split("\n");
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
  $("log-empty").hidden = text !== "";
  log.hidden = text === "";
  say(log, (lines.length > TAIL_LINES ? "…\n" : "") + lines.slice(-TAIL_LINES).join("\n"));
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function showCheckpoints(checkpoints) {
  $("checkpoints-empty").hidden = checkpoints.length > 0;
  $("checkpoints").replaceChildren(
    ...checkpoints.map((saved) =>
      h("li", {}, `step ${saved.step.toLocaleString("en")}, epoch ${number(saved.epoch)}`, h("small", {}, `${bytes(saved.size_bytes)} · `, time(saved.created_at))),
    ),
  );
}

document.querySelector("#log-scale").addEventListener("change", () => drawCurves(mine, laid));
repeat(async () => {
  if (mine.job?.status === "running") showJob(mine.job); // the clock goes on between events
  return 1;
});
