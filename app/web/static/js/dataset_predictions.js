/** Predictions of whole datasets with this model: a form that starts one, and the list of them, live. */

import { create, get, post, remove } from "./api.js";
import { $, h, keyed, say, whenChanged } from "./dom.js";
import { saveThroughKey } from "./download.js";
import { bytes, duration, elapsed, metric, number, words } from "./format.js";
import { pause, repeat } from "./live.js";
import { badge, bar, busy, deleteButton, pill, refreshTimes, time, updateBar } from "./parts.js";
import * as problems from "./problems.js";

const BUSY_S = 1;
const IDLE_S = 5;
const MOST = 20;
const SPLITS = { test: "test split", validation: "validation split", train: "training split", all: "all rows" };
let model = null;
let hurried = false;
let wake = () => {};

/** Offer this model's versions; the first time, begin to watch. */
export function offerPredictions(found) {
  const first = model === null;
  const chosen = first ? found.champion : $("prediction-version").value;
  model = found;
  $("prediction-version").replaceChildren(...found.versions.map(({ version }) => new Option(version, version)));
  $("prediction-version").value = chosen;
  if (!first) return;
  $("prediction").addEventListener("submit", submit);
  repeat(list);
  repeat(datasets);
}

async function datasets() {
  const { data } = await get("/datasets", { limit: 200 });
  const task = model.versions[0].task;
  const fitting = data.filter((dataset) => dataset.task === task);
  $("prediction-button").disabled = fitting.length === 0;
  $("prediction-unfit").hidden = fitting.length > 0;
  $("prediction-dataset").replaceChildren(...fitting.map(({ name }) => new Option(name)));
  $("prediction-dataset").value = model.versions.map(({ dataset }) => dataset?.name).find((name) => fitting.some((one) => one.name === name)) ?? fitting[0]?.name ?? "";
  return null;
}

async function list() {
  hurried = false;
  const { data, has_more: more } = await get("/predictions", { model: model.name, limit: MOST });
  $("predictions-empty").hidden = data.length > 0;
  keyed($("predictions"), data, ({ id }) => id, card, update);
  $("predictions-more").hidden = !more;
  refreshTimes();
  const active = data.some(({ status }) => status === "queued" || status === "running");
  if (!hurried) await Promise.race([pause(active ? BUSY_S : IDLE_S), new Promise((done) => (wake = done))]);
  return 0;
}

/** Ask again at once. */
function hurry() {
  hurried = true;
  wake();
}

function submit(event) {
  event.preventDefault();
  problems.clear($("prediction"));
  const body = {
    model: `${model.name}@${$("prediction-version").value}`,
    dataset: $("prediction-dataset").value,
    split: $("prediction-split").value,
    engine: $("prediction-engine").value,
    format: $("prediction-format").value,
  };
  const start = async () => {
    await create("/predictions", body);
    hurry();
  };
  busy($("prediction-button"), start, (failure) => problems.show($("prediction"), failure));
}

function card(one) {
  return h(
    "li",
    { class: "card jobcard", "data-id": one.id },
    h(
      "div",
      { class: "spread" },
      h("span", { class: "name" }, h("b", {}, one.dataset.name), h("small", {}, `${SPLITS[one.split]}, version ${one.model.version}`), badge(one.engine)),
      h("span", { class: "status" }),
    ),
    h("div", { class: "progress" }, bar(asJob(one))),
    h("small", { class: "position" }),
    h("p", { class: "problem", role: "alert", hidden: true }),
    h("div", { class: "spread" }, h("small", { class: "result" }), h("span", { class: "actions" })),
  );
}

function update(element, one) {
  const find = (name) => element.querySelector(`.${name}`);
  const active = one.status === "queued" || one.status === "running";
  whenChanged(find("status"), one.status, () => find("status").replaceChildren(pill(one.status)));
  find("progress").hidden = !active;
  updateBar(find("bar"), asJob(one));
  say(find("position"), position(one));
  whenChanged(find("problem"), [one.status, one.error], () => tell(find("problem"), one.error?.message ?? ""));
  say(find("result"), [...results(one), duration(elapsed(one))].filter((part) => part !== "–").join(" · "));
  whenChanged(find("actions"), [one.status, one.cancel_requested], () => find("actions").replaceChildren(...actions(one, find("problem"))));
}

/** Its progress as a job's, for the bar. */
const asJob = ({ status, engine, progress }) => ({ status, framework: engine, progress: { step: progress.rows, total_steps: progress.total_rows } });

function position({ status, phase, progress: { rows, total_rows: total } }) {
  if (status === "queued") return "waits for a worker";
  return [phase, `${number(rows ?? 0)} of ${number(total)} rows`].filter(Boolean).join(" · ");
}

const results = ({ metrics }) => Object.entries(metrics).map(([name, value]) => `${words(name)} ${metric(name, value)}`);

function actions(one, problem) {
  const path = `/predictions/${encodeURIComponent(one.id)}`;
  const refused = (failure) => tell(problem, failure.message);
  const doing = (action) => async () => {
    await action();
    hurry();
  };
  const button = (label, action) => {
    const made = h("button", { type: "button", class: "small", click: () => busy(made, doing(action), refused) }, label);
    return made;
  };
  if (one.status === "queued" || one.status === "running") {
    const cancel = button(one.cancel_requested ? "Cancelling…" : "Cancel", () => post(`${path}/cancel`));
    cancel.disabled = one.cancel_requested;
    return [cancel];
  }
  const again = one.status === "succeeded" ? result(one) : button("Retry", () => create(`${path}/retry`));
  return [h("small", {}, time(one.finished_at)), deleteButton(doing(() => remove(path)), refused), again];
}

function tell(problem, text) {
  problem.hidden = text === "";
  say(problem, text);
}

/** A link to the file. */
function result({ id, format, result: { url, size_bytes: size, sha256 } }) {
  const file = `${id}.${format}`;
  const link = h("a", { class: "button small", href: url, download: file, title: `sha256 ${sha256}` }, `Result, ${bytes(size)}`);
  saveThroughKey(link, file);
  return link;
}
