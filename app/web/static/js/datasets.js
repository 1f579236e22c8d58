/** The page of the datasets. */

import { get, remove, upload } from "./api.js";
import { $, h, say } from "./dom.js";
import { bytes, number } from "./format.js";
import { disconnected } from "./live.js";
import { busy, deleteButton, time } from "./parts.js";
import * as problems from "./problems.js";

const PAGE = 50;
const HEAD_BYTES = 65536;

load().catch(disconnected);

/** Show the page of datasets after this one, below what is there. */
async function load(after = null) {
  const page = await get("/datasets", { limit: PAGE, after });
  if (after === null) $("datasets").replaceChildren();
  $("datasets").append(...page.data.map(card));
  $("more").hidden = !page.has_more;
  $("more").onclick = () => busy($("more"), () => load(page.last_id), disconnected);
}

function card(dataset) {
  const { splits } = dataset;
  const made = h(
    "li",
    { class: "card jobcard", "data-name": dataset.name },
    h(
      "div",
      { class: "spread" },
      h("span", { class: "name" }, h("b", {}, dataset.name), dataset.builtin && h("span", { class: "alias" }, "built in")),
      h("span", { class: "actions" }, dataset.builtin ? null : removal(dataset, () => made), h("a", { class: "button small", href: `/?dataset=${encodeURIComponent(dataset.name)}` }, "Train on it")),
    ),
    h("small", {}, [dataset.task.replace("-", " "), input(dataset.input), dataset.target && `predicts ${dataset.target}`].filter(Boolean).join(" · ")),
    h("small", {}, `${number(splits.train)} to train on, ${number(splits.validation)} to validate, ${number(splits.test)} to test`, dataset.size_bytes === null ? "" : ` · ${bytes(dataset.size_bytes)}`, dataset.builtin ? "" : [" · ", time(dataset.created_at)]),
    dataset.classes && h("small", { title: counted(dataset) }, classes(dataset.classes)),
    dataset.warnings.map(({ detail }) => h("small", { class: "warning" }, detail)),
  );
  return made;
}

const input = ({ kind, width, height, channels, columns }) => {
  if (kind === "image") return `${width}×${height} ${channels === 1 ? "grey" : "colour"} images`;
  return kind === "text" ? "texts" : `${columns.length} columns: ${shortened(columns, 8)}`;
};
/** How many samples of each class there are, for hovering over. */
const counted = ({ classes, class_counts: counts }) =>
  classes.map((name, at) => (counts ? `${name}: ${counts.train[at]} + ${counts.validation[at]} + ${counts.test[at]}` : name)).join("\n");
const classes = (names) => `${names.length} classes: ${shortened(names, 12)}`;
const shortened = (names, most) => names.slice(0, most).join(", ") + (names.length > most ? ", …" : "");

function removal(dataset, card) {
  const action = async () => {
    await remove(`/datasets/${encodeURIComponent(dataset.id)}`);
    card().remove();
  };
  return deleteButton(action, (failure) => card().append(h("p", { class: "problem", role: "alert" }, failure.message)));
}

// The form

$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  problems.clear($("upload"));
  if (!file) return;
  const columnar = /\.(csv|jsonl|parquet)$/i.test(file.name);
  if (!$("dataset-name").value) $("dataset-name").value = nameOf(file.name);
  $("target-field").hidden = !columnar;
  $("size-field").hidden = !/\.zip$/i.test(file.name);
  $("task").value = columnar ? "tabular-classification" : "image-classification";
  if (/\.(csv|jsonl)$/i.test(file.name)) offerColumns(await file.slice(0, HEAD_BYTES).text(), /\.jsonl$/i.test(file.name));
});

/** A file's name as a dataset's. */
const nameOf = (file) => file.toLowerCase().replace(/\.[^.]*$/, "").replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 64);

/** The first line's names; what is predicted is called label, or else is the last column. */
function offerColumns(head, isJson) {
  const [first] = head.split(/\r?\n/, 1);
  const columns = isJson ? namesIn(first) : first.split(",").map((name) => name.trim().replace(/^"(.*)"$/, "$1"));
  $("columns").replaceChildren(...columns.map((name) => new Option(name)));
  $("target").value = columns.includes("label") ? "label" : (columns.at(-1) ?? "");
  if (columns.includes("text") && columns.includes("label")) $("task").value = "text-classification";
}

/** None where the line is longer than what was looked at, or is no JSON; the server will explain that. */
function namesIn(line) {
  try {
    return Object.keys(JSON.parse(line));
  } catch {
    return [];
  }
}

$("upload").addEventListener("submit", (event) => {
  event.preventDefault();
  problems.clear($("upload"));
  say($("uploaded"), "");
  if (!$("file").files.length) return problems.show($("upload"), { errors: [{ pointer: "/file", detail: "Choose a file." }] });
  busy($("upload-button"), send, (failure) => problems.show($("upload"), failure)).finally(() => ($("sending").hidden = true));
});

async function send() {
  const dataset = await upload("/datasets", form(), (share) => {
    $("sending").hidden = false;
    $("sent").firstElementChild.style.width = `${(share ?? 0) * 100}%`;
    $("sent").setAttribute("aria-valuenow", Math.round((share ?? 0) * 100));
  });
  $("upload").reset();
  $("target-field").hidden = $("size-field").hidden = true;
  say($("uploaded"), `${dataset.name} is there.`);
  await load();
}

function form() {
  const data = new FormData();
  data.append("file", $("file").files[0]);
  data.append("name", $("dataset-name").value.trim());
  data.append("task", $("task").value);
  if (!$("target-field").hidden && $("target").value) data.append("target", $("target").value);
  if (!$("size-field").hidden && $("size").value) data.append("size", $("size").value.replace("×", "x"));
  if ($("test-fraction").value) data.append("test_fraction", $("test-fraction").value);
  if ($("validation-fraction").value) data.append("validation_fraction", $("validation-fraction").value);
  return data;
}
