/** The tables of a comparison: each framework's figures, each engine's, how far the frameworks agree, each run. */

import { $, h, say, whenChanged } from "./dom.js";
import { number, percent, words } from "./format.js";
import { badge, jobPath, pill } from "./parts.js";

export function showTables(comparison) {
  showTraining(comparison);
  showServing(comparison.serving);
  showAgreement(comparison.agreement ?? []);
  showRuns(comparison);
}

/** Fill a table and show it, if it has rows. The first cell of a row says what it is; `value` is what the cells depend on. */
function fill(name, value, heads, rows, about) {
  $(name).hidden = rows.length === 0;
  whenChanged($(name), value, () => {
    $(`${name}-head`).replaceChildren(...heads.map((cell, at) => h("th", { scope: "col", class: at ? "right" : null }, cell)));
    $(`${name}-rows`).replaceChildren(...rows.map((cells) => h("tr", {}, cells.map(cellOf))));
    say($(`${name}-about`), about);
  });
}

const cellOf = (cell, at) => h(at ? "td" : "th", { class: at ? "right" : null, scope: at ? null : "row" }, cell);

// What each framework did

function showTraining({ metric, target, frameworks, spec: { seeds } }) {
  const names = Object.keys(frameworks);
  const scored = names.some((one) => frameworks[one].score !== null);
  const rows = figures(scored ? metric : "score", metric, target).map(([label, name, scale, digits]) => [label, ...names.map((one) => figure(frameworks[one][name], scale, digits))]);
  const about = [
    seeds.length > 1 && "Means over the seeds, ± their standard deviation.",
    "Times count from when a worker took the job.",
    target !== null && "The target is the validation score that every training reached.",
  ];
  fill("training", [metric, target, frameworks], ["", ...names.map(badge)], rows, about.filter(Boolean).join(" "));
}

/** What each row is called, its figure, what that is multiplied by, and its digits: as in the report. */
function figures(score, metric, target) {
  const goal = target === null ? "to the target, s" : `validation ${metric.replace(/^test_/, "")} of ${number(target)}, s`;
  return [
    [words(score), "score", 1, 4],
    ["samples per second", "samples_per_s", 1, 4],
    ["first step, s", "time_to_first_step_s", 1, 3],
    ["compiling, s", "compile_s", 1, 3],
    ["all steps, s", "train_s", 1, 3],
    [goal, "time_to_target_s", 1, 3],
    ["peak memory, MB", "peak_memory_bytes", 1e-6, 4],
  ];
}

function figure(found, scale, digits) {
  if (found === null) return "–";
  const spread = found.spread === null ? "" : ` ±\u00a0${rounded(found.spread * scale, 2)}`;
  return rounded(found.mean * scale, digits) + spread;
}

/** Whole numbers have no more digits than they need. */
const rounded = (value, digits) => number(Math.abs(value) >= 10 ** Math.min(digits, 3) ? Math.round(value) : value, digits);

// The engines

function showServing(serving) {
  const engines = serving?.engines ?? [];
  const sizes = Object.keys(engines[0]?.latency_ms ?? {});
  const largest = sizes.at(-1);
  const rows = engines.map((engine) => [
    [badge(engine.name), !engine.agrees && h("small", { class: "warning" }, "too far from it to be served")],
    ...sizes.map((size) => number(engine.latency_ms[size], 3)),
    number(Math.round(engine.samples_per_s[largest])),
    number(engine.difference, 1),
  ]);
  const heads = ["", ...sizes.map((size) => `batch of ${size}, ms`), `inputs/s at ${largest}`, ["difference from ", serving && badge(serving.reference)]];
  fill("serving", serving, heads, rows, serving ? reasons(serving).join(" ") : "");
}

const reasons = ({ model, version, reason, unusable }) => [`${model}@${version} on each engine of the server.`, reason, ...Object.values(unusable)];

// How far they are apart

function showAgreement(agreement) {
  const rows = agreement.map(({ seed, loss_difference: loss, logit_difference: logits, equal_predictions: equal }) => [
    String(seed),
    loss ? number(loss.first, 2) : "–",
    loss ? [number(loss.largest, 2), h("small", {}, `at step ${number(loss.step)}`)] : "–",
    number(logits, 2),
    percent(equal, 2),
  ]);
  const about =
    "How far apart the frameworks are: each model on the one that trained it, over the test split. Deep networks amplify the last bit of a sum: after many steps they differ from themselves on another number of threads as much as from their twin.";
  fill("agreement", agreement, ["seed", "loss at first", "loss at most", "outputs at most", "equal predictions"], rows, about);
}

// The runs

function showRuns({ runs, metric }) {
  const rows = runs.map((run) => [
    [badge(run.framework), run.job && h("a", { href: jobPath(run.job), class: "small-link", title: run.job }, "its job")],
    String(run.seed),
    run.status ? pill(run.status) : h("span", { class: "quiet" }, "waits for its turn"),
    number(run.figures.score),
    number(run.figures.samples_per_s && Math.round(run.figures.samples_per_s)),
    String(run.beside),
  ]);
  const scored = runs.some(({ figures: { score } }) => score !== null);
  const heads = ["", "seed", "status", scored ? words(metric) : "score", "samples per second", "jobs beside it"];
  fill("runs", [metric, runs.map(({ curve: _, ...rest }) => rest)], heads, rows, "");
}
