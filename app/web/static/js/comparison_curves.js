/** The curves of a comparison's runs over each other. */

import { Chart, Points, title } from "./curves.js";
import { $, say } from "./dom.js";
import { FRAMEWORKS } from "./parts.js";

const DASH = { jax: [7, 6] }; // drawn last, so that both show where they agree
const LAST = Object.keys(DASH);
const loss = new Chart($("loss"));
const quality = new Chart($("quality"));
let runs = [];
let several = false; // seeds

/** Draw them; an answer without curves, as lists have them, leaves what is there. */
export function drawComparison(comparison) {
  const told = comparison.runs.filter(({ curve }) => curve).sort((one, two) => rank(one) - rank(two) || one.seed - two.seed);
  several = comparison.spec.seeds.length > 1;
  if (told.length || !runs.length) runs = told.map(({ framework, seed, curve }) => ({ framework, seed, points: pointsOf(curve) }));
  draw();
}

const rank = ({ framework }) => LAST.indexOf(framework);

function pointsOf(curve) {
  const points = new Points();
  points.addColumns(curve);
  return points;
}

function draw() {
  if (loss.logarithmic !== $("log-scale").checked) loss.setLogarithmic($("log-scale").checked);
  loss.show(runs.map((run) => line(run, "train_loss")));
  const kind = runs.some(({ points }) => points.has("validation_rmse")) ? "rmse" : "accuracy"; // what the score is of
  say(quality.caption, `${title(kind)} on the validation split`);
  quality.show(runs.map((run) => line(run, `validation_${kind}`)));
}

function line({ framework, seed, points }, name) {
  const label = several ? `${FRAMEWORKS[framework]}, seed ${seed}` : FRAMEWORKS[framework];
  return { name, label, colour: `--${framework}`, dash: DASH[framework], points: points.curve(name) };
}

$("log-scale").addEventListener("change", draw);
