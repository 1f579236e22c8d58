/** The curves of the job page: loss, and what says how good the model is; ours, and another job's over them. */

import { Chart, kinds, title } from "./curves.js";
import { $, say } from "./dom.js";
import { FRAMEWORKS } from "./parts.js";

const loss = new Chart($("loss"));
const quality = new Chart($("quality"));

/** Draw them; `laid` may be null. */
export function drawCurves(mine, laid) {
  if (!mine.job) return;
  if (loss.logarithmic !== $("log-scale").checked) loss.setLogarithmic($("log-scale").checked);
  loss.show(lines("loss", mine, laid));
  const kind = kinds(mine.points) ?? (laid && kinds(laid.points)) ?? (mine.job.spec.model && "accuracy");
  say(quality.caption, title(kind));
  quality.show(lines(kind, mine, laid));
}

/** Training thin, validation with its points; the other job dashed, so that both show where they agree. */
function lines(kind, mine, laid) {
  const [own, theirs] = labels(mine.job, laid?.job);
  return [
    ...splits(kind, mine, { colour: `--${mine.job.framework}`, prefix: own }),
    ...(laid ? splits(kind, laid, { colour: colour(mine.job, laid.job), prefix: theirs, dash: [7, 6] }) : []),
  ];
}

function splits(kind, { points }, { colour, prefix, dash }) {
  return ["train", "validation"]
    .map((split) => ({ split, name: `${split}_${kind}` }))
    .filter(({ name, split }) => points.has(name) || split === "validation")
    .map(({ name, split }) => ({ name, label: `${prefix}${split}`, colour, dash, train: split === "train", points: points.curve(name) }));
}

/** What tells the two apart: the framework if that differs, else which one it is. */
function labels(mine, laid) {
  if (!laid) return ["", ""];
  if (mine.framework !== laid.framework) return [`${FRAMEWORKS[mine.framework]} `, `${FRAMEWORKS[laid.framework]} `];
  return ["this ", "other "];
}

/** Each framework has its colour; two jobs of one framework need a second one. */
const colour = (mine, laid) => (mine.framework === laid.framework ? "--quiet" : `--${laid.framework}`);
