/** Two jobs in one table, and how far their losses are apart. */

import { $, h, say, whenChanged } from "./dom.js";
import { duration, metric, number, words } from "./format.js";
import { badge, jobPath } from "./parts.js";

const TIMES = { train_s: "training", compile_s: "compiling", setup_s: "setting up" };

export function showSideBySide(mine, laid) {
  $("side-by-side").hidden = false;
  const rows = compared(mine.job, laid.job);
  whenChanged($("side-head"), [mine.job.id, laid.job.id], () =>
    $("side-head").replaceChildren(h("th", { scope: "col" }), heading(mine.job, "this job"), heading(laid.job, laid.job.name), h("th", { scope: "col", class: "right" }, "difference")),
  );
  whenChanged($("side"), rows, () => $("side").replaceChildren(...rows.map((cells) => h("tr", {}, cells.map(cell)))));
  const together = overlap(mine.job, laid.job) ? " They ran at the same time, so that their speeds say little: a comparison trains one after the other." : "";
  say($("agreement"), agreement(mine.points, laid.points) + together);
}

const cell = (text, index) => h(index ? "td" : "th", { class: index ? "right" : null, scope: index ? null : "row" }, text);

function heading(job, label) {
  return h("th", { scope: "col", class: "right" }, h("a", { href: jobPath(job.id) }, label), " ", badge(job.framework));
}

function compared(mine, laid) {
  const names = Object.keys(mine.metrics).filter((name) => typeof mine.metrics[name] === "number" && typeof laid.metrics[name] === "number");
  const times = Object.keys(TIMES).filter((name) => (mine.timing[name] ?? laid.timing[name] ?? null) !== null);
  return [
    ["status", mine.status, laid.status, ""],
    ...names.sort(order).map((name) => [words(name), metric(name, mine.metrics[name]), metric(name, laid.metrics[name]), difference(name, mine, laid)]),
    ["samples a second", rate(mine), rate(laid), overlap(mine, laid) ? "at the same time" : ratio(mine.timing.samples_per_s, laid.timing.samples_per_s)],
    ...times.map((name) => [TIMES[name], duration(mine.timing[name]), duration(laid.timing[name]), ""]),
    ["device", mine.device ?? "–", laid.device ?? "–", ""],
  ];
}

/** What was measured on the test split first. */
const order = (one, two) => ["test", "validation", "train"].indexOf(one.split("_")[0]) - ["test", "validation", "train"].indexOf(two.split("_")[0]) || one.localeCompare(two);

const rate = ({ timing }) => number(timing.samples_per_s && Math.round(timing.samples_per_s));
const ratio = (one, two) => (one && two ? `× ${number(one / two, 3)}` : "");

/** Whether one of them ran while the other did; times in RFC 3339 compare as texts. */
const overlap = (one, two) => one.started_at && two.started_at && one.started_at < (two.finished_at ?? "9") && two.started_at < (one.finished_at ?? "9");

function difference(name, mine, laid) {
  const apart = mine.metrics[name] - laid.metrics[name];
  return /accuracy/.test(name) ? `${number(apart * 100, 3)} points` : number(apart, 3);
}

/** A sentence on the training losses of the steps that both have. */
function agreement(mine, laid) {
  const theirs = new Map(laid.curve("train_loss"));
  const shared = mine.curve("train_loss").filter(([step]) => theirs.has(step));
  if (!shared.length) return "They share no step yet, so their losses cannot be compared.";
  const apart = shared.map(([step, loss]) => [Math.abs(loss - theirs.get(step)), step]);
  const [most, step] = apart.reduce((worst, next) => (next[0] > worst[0] ? next : worst));
  return `Over the ${shared.length.toLocaleString("en")} steps that both report, their training losses are at most ${number(most, 3)} apart (at step ${step.toLocaleString("en")}); at the first they are ${number(apart[0][0], 3)} apart, at the last ${number(apart.at(-1)[0], 3)}.`;
}
