/** The first page: what runs, what ran, what came of it, and a form to start more. */

import { create, get } from "./api.js";
import { $, h, keyed, say, whenChanged } from "./dom.js";
import { compact, duration, elapsed, headline } from "./format.js";
import { startForm } from "./start_form.js";
import { repeat } from "./live.js";
import { badge, bar, FRAMEWORKS, jobPath, modelPath, pill, position, refreshTimes, time, updateBar } from "./parts.js";

const BUSY_S = 1;
const IDLE_S = 4;
const PAGE = 15;
let shown = PAGE;

repeat(async () => {
  const [running, queued, latest, workers, models] = await Promise.all([
    get("/jobs", { status: "running", limit: 50 }),
    get("/jobs", { status: "queued", limit: 50 }),
    get("/jobs", { limit: Math.min(shown + 50, 200) }),
    get("/workers", { limit: 100 }),
    get("/models", { limit: 60 }),
  ]);
  showNow([...running.data, ...queued.data]);
  showFinished(latest);
  showWorkers(workers.data);
  showModels(models.data);
  refreshTimes();
  return running.data.length + queued.data.length ? BUSY_S : IDLE_S;
});

repeat(async () => {
  const [datasets, architectures] = await Promise.all([get("/datasets", { limit: 200 }), get("/architectures")]);
  startForm($("start"), datasets.data, architectures.data, start);
  return null;
});

/** Make the jobs, then go and watch them: the first one, with the second one's curves over it. */
async function start(bodies) {
  const jobs = [];
  for (const body of bodies) jobs.push(await create("/jobs", body));
  location.assign(jobPath(jobs[0].id) + (jobs[1] ? `?with=${encodeURIComponent(jobs[1].id)}` : ""));
}

$("more").addEventListener("click", () => {
  shown += 30;
  $("more").disabled = true;
});

function showNow(jobs) {
  say($("now-count"), jobs.length ? String(jobs.length) : "");
  $("now-empty").hidden = jobs.length > 0;
  keyed($("now"), jobs, (job) => job.id, card, updateCard);
}

function card(job) {
  return h(
    "li",
    { class: "card jobcard" },
    h(
      "div",
      { class: "spread" },
      h("span", { class: "name" }, h("a", { href: jobPath(job.id) }, job.name), badge(job.framework), h("small", {}, about(job))),
      h("span", { class: "status" }),
    ),
    bar(job),
    h("div", { class: "spread" }, h("small", { class: "position" }), h("small", { class: "result" })),
  );
}

function updateCard(element, job) {
  const find = (name) => element.querySelector(`.${name}`);
  whenChanged(find("status"), job.status, () => find("status").replaceChildren(pill(job.status)));
  updateBar(find("bar"), job);
  say(find("position"), job.status === "queued" ? waiting(job) : position(job) || "starting");
  const found = headline(job.metrics);
  say(find("result"), [found?.join(" "), duration(elapsed(job))].filter((part) => part && part !== "–").join(" · "));
}

const waiting = (job) => (job.attempt ? "waits for its next attempt" : "waits for a worker");
const about = (job) => `${job.spec.model.architecture} on ${job.dataset.name}`;

function showFinished({ data, has_more: older }) {
  const ended = data.filter((job) => job.finished_at);
  $("finished-empty").hidden = ended.length > 0;
  $("finished").closest("table").hidden = ended.length === 0;
  $("more").hidden = !older && ended.length <= shown;
  $("more").disabled = false;
  keyed($("finished"), ended.slice(0, shown), (job) => job.id, row);
}

function row(job) {
  const found = headline(job.metrics);
  const result = job.status === "failed" ? h("small", {}, job.error?.code?.replaceAll("_", " ")) : found?.[1];
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: jobPath(job.id), class: "main" }, job.name), h("small", {}, about(job), h("span", { class: "tight" }, " in ", FRAMEWORKS[job.framework]))),
    h("td", { class: "roomy" }, badge(job.framework)),
    h("td", {}, pill(job.status)),
    h("td", { class: "right" }, result ?? "–", found && job.status !== "failed" ? h("small", {}, found[0]) : null),
    h("td", { class: "right roomy" }, duration(elapsed(job))),
    h("td", { class: "roomy" }, job.device ?? "–"),
    h("td", { class: "right roomy" }, time(job.finished_at)),
  );
}

function showWorkers(workers) {
  $("workers-empty").hidden = workers.length > 0;
  whenChanged($("workers"), workers.map(({ last_seen_at: _, ...rest }) => rest), () =>
    $("workers").replaceChildren(...workers.map(workerLine)),
  );
}

function workerLine(worker) {
  const load = worker.jobs.length ? `${worker.jobs.length} of ${worker.slots} busy` : "idle";
  return h(
    "li",
    { title: `${worker.id}, process ${worker.pid}` },
    h("span", {}, badge(worker.framework), " ", worker.host),
    h("small", {}, [worker.device, load].filter(Boolean).join(" · ")),
  );
}

function showModels(models) {
  $("models-empty").hidden = models.length > 0;
  whenChanged($("models"), models, () => $("models").replaceChildren(...models.map(tile)));
}

function tile(model) {
  const champion = model.versions.find((version) => version.version === model.champion) ?? model.versions[0];
  const found = headline(champion.metrics);
  return h(
    "li",
    { class: "card tile" },
    h("div", { class: "spread" }, h("a", { href: modelPath(model.name) }, model.name), champion.framework === null ? h("span", { class: "badge" }, "imported") : badge(champion.framework)),
    found && h("div", {}, h("span", { class: "figure" }, found[1]), " ", h("small", {}, found[0])),
    h(
      "small",
      {},
      `${champion.architecture}, ${compact(champion.parameters)} parameters · version ${champion.version}`,
      model.versions.length > 1 ? ` of ${model.versions.length}` : "",
    ),
  );
}
