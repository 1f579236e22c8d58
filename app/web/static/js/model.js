/** The page of one model: its versions, and a box to try them. */

import { get, put } from "./api.js";
import { $, h } from "./dom.js";
import { saveThroughKey } from "./download.js";
import { bytes, compact, metric, words } from "./format.js";
import { badge, busy, jobPath, time } from "./parts.js";
import { missing, trouble } from "./trouble.js";
import { offer } from "./try_it.js";
import { offerPredictions } from "./dataset_predictions.js";

const name = $("page").dataset.model;
const path = `/models/${encodeURIComponent(name)}`;

refresh().catch(missing);

async function refresh() {
  const model = await get(path);
  showAbout(model);
  showVersions(model);
  offer(model);
  offerPredictions(model);
}

function showAbout(model) {
  const newest = model.versions[0];
  const kinds = newest.classes ? `, ${newest.classes.length} classes` : "";
  $("about").textContent = `${newest.task.replace("-", " ")} of ${inputs(newest.input)}${kinds}; the name alone means version ${model.champion}`;
}

function inputs({ kind, width, height, features, length }) {
  if (kind === "image") return `${width}×${height} images`;
  return kind === "tokens" ? `texts of up to ${length} tokens` : `rows of ${features} numbers`;
}

function showVersions({ versions, champion }) {
  const metrics = [...new Set(versions.flatMap((version) => Object.keys(version.metrics)))].filter((metric) => metric.startsWith("test_"));
  const shown = metrics.length ? metrics : [...new Set(versions.flatMap((version) => Object.keys(version.metrics)))];
  const heads = ["Version", "Trained in", ...shown.map(words), "Parameters", "Made", ""];
  const plain = [0, 1];
  $("versions-head").replaceChildren(...heads.map((head, at) => h("th", { scope: "col", class: plain.includes(at) ? null : "right" }, head)));
  $("versions").replaceChildren(...versions.map((version) => row(version, shown, champion)));
}

function row(version, metrics, champion) {
  return h(
    "tr",
    {},
    h("td", {}, h("b", {}, String(version.version)), " ", version.aliases.map((alias) => [h("span", { class: "alias" }, alias), " "]), implied(version, champion)),
    h("td", {}, ...origin(version)),
    metrics.map((name) => h("td", { class: "right" }, metric(name, version.metrics[name]))),
    h("td", { class: "right" }, h("span", { title: version.parameters.toLocaleString("en") }, compact(version.parameters))),
    h("td", { class: "right" }, time(version.created_at)),
    h("td", { class: "right" }, h("span", { class: "actions ending" }, championButton(version), weights(version))),
  );
}

/** Where a version comes from: a job, or a file that somebody imported. */
function origin({ framework, architecture, dataset, job }) {
  if (job === null) return [h("span", { class: "badge" }, "imported"), h("small", {}, architecture)];
  return [badge(framework), h("small", {}, architecture, " on ", dataset.name, ", ", h("a", { href: jobPath(job) }, "its job"))];
}

/** Without the alias, the name means the newest version. */
function implied(version, champion) {
  if (version.version !== champion || version.aliases.includes("champion")) return null;
  return h("span", { class: "alias implied", title: "Without a champion, the name means the newest version." }, "in use");
}

function championButton(version) {
  if (version.aliases.includes("champion")) return null;
  const button = h("button", { type: "button", class: "small", click: () => busy(button, set, trouble) }, "Make champion");
  const set = async () => {
    await put(`${path}/aliases/champion`, { version: version.version });
    await refresh();
  };
  return button;
}

function weights(version) {
  const file = `${name}-${version.version}.safetensors`;
  const label = `Weights, ${bytes(version.size_bytes)}`;
  const link = h("a", { class: "button small", href: `${path}/versions/${version.version}/weights`, download: file, title: `sha256 ${version.sha256}` }, label);
  saveThroughKey(link, file);
  return link;
}
