/** The form that starts a job: its fields, the body they make, the curl command that would do the same. */

import { $, say } from "./dom.js";
import { authorization } from "./key.js";
import { busy, copies } from "./parts.js";
import * as problems from "./problems.js";
import { optionFields, optionValues } from "./options.js";

/** Fill the form and keep it consistent; `start(bodies)` gets the bodies to post. */
export function startForm(form, datasets, architectures, start) {
  const dataset = () => datasets.find(({ name }) => name === $("dataset").value);
  const architecture = () => architectures.find(({ name }) => name === $("architecture").value);

  const chooseDataset = () => {
    say($("dataset-about"), described(dataset()));
    const fitting = architectures.filter(({ tasks }) => tasks.includes(dataset().task));
    const kept = fitting.find(({ name }) => name === $("architecture").value) ?? favourite(fitting);
    $("architecture").replaceChildren(...fitting.map(({ name, title }) => new Option(`${name}: ${title}`, name)));
    if (kept) $("architecture").value = kept.name;
    chooseArchitecture();
  };
  const chooseArchitecture = () => {
    say($("architecture-about"), architecture()?.description.replace(/\s+/g, " ") ?? "No architecture does this task.");
    $("size-field").hidden = dataset().input.kind !== "image";
    if ($("size-field").hidden) $("size").value = "";
    $("options").replaceChildren(...optionFields(architecture()?.schema, "/model"));
    refresh();
  };
  const refresh = () => {
    const chosen = $("optimizer").value !== "";
    $("learning-rate").disabled = !chosen;
    $("learning-rate").placeholder = chosen ? "its default" : "suited to it";
    $("name").placeholder = `${$("dataset").value}-${$("architecture").value}`;
    say($("curl"), bodies(architecture()).map(curl).join("\n\n"));
  };

  $("dataset").replaceChildren(...datasets.map(({ name }) => new Option(name)));
  const asked = new URLSearchParams(location.search).get("dataset");
  $("dataset").value = datasets.some(({ name }) => name === asked) ? asked : (datasets.find(({ name }) => name === "digits") ?? datasets[0])?.name;
  $("dataset").addEventListener("input", chooseDataset);
  $("architecture").addEventListener("input", chooseArchitecture);
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    problems.clear(form);
    busy($("start-button"), () => start(bodies(architecture())), (failure) => problems.show(form, failure));
  });
  copies($("copy-curl"), () => $("curl").textContent);
  chooseDataset();
  if (asked) $("start-title").scrollIntoView({ block: "nearest" });
}

/** The one to begin with: small, and made for the task. */
const favourite = (fitting) => fitting.find(({ name }) => name === "cnn") ?? fitting.find(({ name }) => name === "mlp") ?? fitting[0];

function described({ task, splits, input, classes }) {
  const size = { image: () => `${input.width}×${input.height}`, table: () => `${input.features} columns`, text: () => "texts" }[input.kind]();
  const kinds = classes ? `, ${classes.length} classes` : "";
  return `${task.replace("-", " ")}, ${size}${kinds}, ${splits.train.toLocaleString("en")} to train on`;
}

/** One body for each framework; what was left as it is stays out. */
function bodies(architecture) {
  const chosen = document.querySelector("input[name=framework]:checked").value;
  return (chosen === "both" ? ["torch", "jax"] : [chosen]).map((framework) => ({
    framework,
    dataset: $("dataset").value,
    model: { architecture: architecture?.name, ...optionValues($("options"), architecture?.schema) },
    training: given({
      epochs: numeric("epochs"),
      batch_size: numeric("batch-size"),
      seed: numeric("seed"),
      optimizer: optimizer(),
      precision: $("precision").value === "float32" ? undefined : $("precision").value,
      freeze: $("freeze").checked ? "backbone" : undefined,
    }),
    ...given({ init: init(), preprocess: preprocess() }),
    ...given({ name: $("name").value.trim() || undefined }),
  }));
}

/** Where the weights start: nothing, a published checkpoint, or a model of ours. */
function init() {
  const from = $("init").value.trim();
  if (from === "" || from === "scratch") return undefined;
  return { from: from === "pretrained" ? from : { model: from } };
}

/** The size that images are given first: one number for both sides, or height and width. */
function preprocess() {
  const sides = $("size").value.split(/[x×,\s]+/).filter(Boolean).map(Number);
  return sides.length ? { size: sides.length === 1 ? [sides[0], sides[0]] : sides } : undefined;
}

function optimizer() {
  const name = $("optimizer").value;
  return name ? given({ name, learning_rate: numeric("learning-rate") }) : undefined;
}

const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

function numeric(id) {
  const { value } = $(id);
  return value === "" ? undefined : Number(value);
}

function curl(body) {
  const key = "Authorization" in authorization() ? ` \\\n  -H "Authorization: Bearer $TANDEM_API_KEY"` : "";
  const text = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl ${location.origin}/jobs${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${text}'`;
}
