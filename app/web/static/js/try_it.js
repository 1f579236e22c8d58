/** The box that tries a model: images, rows or texts in, the answers of one or both engines out. */

import { post } from "./api.js";
import { showAnswers, showWaiting } from "./answers.js";
import { $, say } from "./dom.js";
import { pad } from "./pad.js";
import { FRAMEWORKS } from "./parts.js";
import * as problems from "./problems.js";

const MOST = 16;
const PATIENCE_MS = 400;
let model = null;
let last = null; // what was tried last: `{inputs, pictures, texts}`

/** Offer this model's versions. */
export function offer(found) {
  const first = model === null;
  const chosen = first ? found.champion : $("version").value;
  model = found;
  $("version").replaceChildren(...found.versions.map((version) => new Option(optionText(version, found), version.version)));
  $("version").value = chosen;
  suit();
  if (first) listen();
}

const optionText = ({ version, framework }, { champion }) => `${version} (${FRAMEWORKS[framework] ?? "imported"}${version === champion ? ", in use" : ""})`;
const version = () => model.versions.find((known) => String(known.version) === $("version").value) ?? model.versions[0];

/** Show what this version takes. */
function suit() {
  const { input } = version();
  $("images").hidden = input.kind !== "image";
  $("rows").hidden = input.kind !== "table";
  $("texts").hidden = input.kind !== "tokens";
  $("draw-box").hidden = input.channels !== 1;
  if (input.kind === "table") {
    say($("columns"), input.columns.join(", "));
    $("row").placeholder = input.columns.map(() => "0.0").join(", ");
  }
}

function listen() {
  $("version").addEventListener("change", () => (suit(), again()));
  for (const engine of document.querySelectorAll("[name=engine]")) engine.addEventListener("change", again);
  $("try").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!$("rows").hidden) predict({ inputs: rows() });
    if (!$("texts").hidden) predict({ inputs: texts(), texts: texts() });
  });
  $("files").addEventListener("change", () => {
    images([...$("files").files]);
    $("files").value = "";
  });
  takeDrops($("drop"));
  document.addEventListener("paste", (event) => !$("images").hidden && images([...event.clipboardData.files]));
  pad($("draw"), $("wipe"), (drawn) => images([new File([drawn], "drawing", { type: "image/png" })]));
}

function takeDrops(place) {
  const over = (is) => (event) => {
    event.preventDefault();
    place.classList.toggle("over", is);
  };
  place.addEventListener("dragover", over(true));
  place.addEventListener("dragleave", over(false));
  place.addEventListener("drop", (event) => {
    over(false)(event);
    images([...event.dataTransfer.files]);
  });
}

/** Lines of numbers, between commas, semicolons, tabs or spaces; where columns hold more than numbers, between commas.
 * What is wrong the server will explain. */
function rows() {
  if (version().input.fields) return lines($("row")).map((line) => line.split(",").map((part) => valueOf(part.trim())));
  return lines($("row")).map((line) => line.split(/[\s,;]+/).filter(Boolean).map((part) => (Number.isFinite(Number(part)) ? Number(part) : part)));
}

const valueOf = (part) => (part === "" ? null : Number.isFinite(Number(part)) ? Number(part) : part);
const texts = () => lines($("text"));
const lines = (box) => box.value.split("\n").map((line) => line.trim()).filter(Boolean);

async function images(files) {
  if (!files.length) return;
  const taken = files.slice(0, MOST);
  const inputs = await Promise.all(taken.map(async (file) => ({ image: await base64(file) })));
  last?.pictures?.forEach(({ url }) => URL.revokeObjectURL(url));
  await predict({ inputs, pictures: taken.map((file) => ({ name: file.name, url: URL.createObjectURL(file) })) });
}

function base64(file) {
  return new Promise((done, refuse) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => refuse(reader.error);
    reader.readAsDataURL(file);
  });
}

const again = () => last && predict(last);
let asked = 0;

async function predict(tried) {
  last = tried;
  const number = ++asked;
  problems.clear($("try"));
  const chosen = document.querySelector("[name=engine]:checked").value;
  const engines = chosen === "both" ? ["torch", "jax"] : [chosen];
  const patience = setTimeout(() => number === asked && showWaiting($("answers"), engines), PATIENCE_MS);
  try {
    const answers = [];
    for (const engine of engines) answers.push(await ask(engine, tried.inputs)); // together they would share the cores
    if (number === asked) showAnswers($("answers"), answers, tried);
  } catch (failure) {
    $("answers").replaceChildren();
    problems.show($("try"), failure);
  } finally {
    clearTimeout(patience);
  }
}

/** One engine's answer, with how long it took from here. */
async function ask(engine, inputs) {
  const began = performance.now();
  const wanted = version().classes ? ["labels", "probabilities", "logits"] : ["labels", "logits"];
  const body = { model: `${model.name}@${version().version}`, inputs, engine, top_k: Math.min(5, version().classes?.length ?? 1), return: wanted };
  const answer = await post("/predict", body);
  return { ...answer, tookMs: performance.now() - began };
}
