/** Predictions, one engine beside the other. */

import { h } from "./dom.js";
import { milliseconds, number, percent } from "./format.js";
import { badge, FRAMEWORKS } from "./parts.js";

export function showAnswers(place, answers, { pictures, texts }) {
  const items = answers[0].predictions.map((_, item) =>
    h("div", { class: "answer" }, pictures && picture(pictures[item]), texts && quoted(texts[item]), answers.map((answer) => engine(answer, item))),
  );
  place.replaceChildren(...(answers.length > 1 ? [verdict(answers)] : []), ...items);
}

/** The first question to an engine takes a while: it starts the framework and loads the weights. */
export function showWaiting(place, engines) {
  const names = engines.map((engine) => FRAMEWORKS[engine] ?? "the server").join(" and ");
  place.replaceChildren(h("p", { class: "quiet" }, `Asking ${names}…`));
}

function picture({ name, url }) {
  return h("figure", {}, h("img", { src: url, alt: `The input ${name}` }), h("figcaption", { title: name }, name));
}

const quoted = (text) => h("blockquote", { class: "quoted" }, text);

function engine(answer, item) {
  const { queue_ms: queue, compute_ms: compute, batch_size: batch } = answer.timing;
  const times = `computed in ${milliseconds(compute)}, waited ${milliseconds(queue)}, batch of ${batch}`;
  const prediction = answer.predictions[item];
  return h(
    "section",
    { class: "engine", "data-engine": answer.engine },
    h("header", {}, badge(answer.engine), h("small", { title: times }, `${milliseconds(compute)}, round trip ${milliseconds(answer.tookMs)}`)),
    h("span", { class: "figure" }, prediction.label ?? number(prediction.value, 6)),
    (prediction.top ?? []).map((choice) => likelihood(choice, answer.engine)),
  );
}

function likelihood({ label, score }, framework) {
  const bar = h("div", { class: "bar", "data-framework": framework, "aria-hidden": "true" }, h("div"));
  bar.firstChild.style.width = `${score * 100}%`;
  return h("div", { class: "choice" }, h("span", { title: label }, label), bar, h("span", {}, percent(score, 2)));
}

/** How far the two engines are apart. */
function verdict([one, two]) {
  const pairs = one.predictions.map((prediction, item) => [prediction, two.predictions[item]]);
  const apart = pairs.flatMap(([left, right]) => left.logits.map((logit, at) => Math.abs(logit - right.logits[at])));
  const equal = pairs.filter(([left, right]) => left.label === right.label).length;
  const labels = one.predictions[0].label === undefined ? "" : equal === pairs.length ? "Both say the same. " : `They say the same for ${equal} of ${pairs.length}. `;
  return h("p", { class: "verdict" }, labels, "The largest difference between their logits is ", h("b", {}, number(Math.max(...apart), 3)), ".");
}
