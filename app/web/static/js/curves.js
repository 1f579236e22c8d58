/** A job's points, and charts of them. A point is `{step, epoch, train_loss, validation_loss, ...}`. */

import { h, say, svg } from "./dom.js";
import { metric, number, words } from "./format.js";

const HEIGHT = 260;

/** The points of one job by step; a later point of the same step adds to the earlier one. */
export class Points {
  constructor() {
    this.bySteps = new Map();
  }

  /** Take the columns of GET /jobs/{id}/metrics. */
  addColumns(columns) {
    columns.step.forEach((_, row) => this.add(Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[row]]))));
  }

  add(point) {
    const known = Object.entries(point).filter(([, value]) => value !== null);
    this.bySteps.set(point.step, { ...this.bySteps.get(point.step), ...Object.fromEntries(known) });
  }

  /** In the order of the steps. */
  get rows() {
    return [...this.bySteps.values()].sort((one, two) => one.step - two.step);
  }

  /** Steps and values of one metric. */
  curve(name) {
    return this.rows.filter((row) => name in row).map((row) => [row.step, row[name]]);
  }

  has(name) {
    return [...this.bySteps.values()].some((row) => name in row);
  }
}

/**
 * One chart with its legend. `show(lines)` draws lines `{label, name, colour, dash, train, points: [[step, value]]}`;
 * drag to zoom, double click to see all.
 */
export class Chart {
  constructor(figure) {
    this.caption = figure.querySelector("figcaption");
    this.legend = h("ul", { class: "legend", "aria-hidden": "true" });
    this.place = h("div", { class: "plot", role: "img" });
    figure.append(this.legend, this.place);
    this.lines = [];
    this.logarithmic = false;
    new ResizeObserver(() => this.plot?.setSize({ width: this.place.clientWidth, height: HEIGHT })).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
  }

  show(lines) {
    const same = this.plot && shape(lines) === shape(this.lines);
    this.lines = lines;
    if (same) this.plot.setData(joined(lines), !this.zoomed);
    else this.rebuild();
    this.describe();
  }

  /** Draw the loss by its powers of ten, or not. */
  setLogarithmic(logarithmic) {
    this.logarithmic = logarithmic;
    this.rebuild();
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    this.zoomed = false;
    const drawn = this.lines.some(({ points }) => points.length);
    this.place.replaceChildren(...(drawn ? [] : [h("p", { class: "no-points" }, "No points yet")]));
    this.legend.replaceChildren(...(drawn ? this.lines.map((line) => entry(line)) : []));
    if (drawn) this.plot = new window.uPlot(this.options(), joined(this.lines), this.place);
    this.tell(null);
  }

  options() {
    const [quiet, grid] = [colour("--quiet"), colour("--line")];
    const axis = { stroke: quiet, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: `12px ${getComputedStyle(document.body).fontFamily}` };
    const name = this.lines[0].name;
    return {
      width: this.place.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: { sync: { key: "step" }, points: { size: 6 }, y: false },
      scales: { x: { time: false }, y: this.logarithmic ? { distr: 3 } : { range: (_, low, high) => this.range(low, high) } },
      axes: [
        { ...axis, size: 30, values: (_, ticks) => ticks.map((tick) => number(tick)) },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : tickText(name, tick))) },
      ],
      series: [{}, ...this.lines.map((line) => series(line))],
      hooks: {
        setCursor: [(plot) => this.tell(plot.cursor.idx)],
        setSelect: [(plot) => (this.zoomed = plot.select.width > 0)],
        ready: [(plot) => plot.over.addEventListener("dblclick", () => (this.zoomed = false))],
      },
    };
  }

  /** From low to high with some room; shares leave out what training climbed through before its first evaluation. */
  range(low, high) {
    if (!/accuracy/.test(this.lines[0].name)) return window.uPlot.rangeNum(low, high, 0.1, true);
    const evaluated = this.lines.filter(({ train }) => !train).flatMap(({ points }) => points.map(([, value]) => value));
    const worst = Math.min(...evaluated, 1);
    const floor = evaluated.length ? Math.max(low, worst - (1 - worst) / 2) : low;
    return [Math.max(floor - 0.02, 0), Math.min(high + 0.02, 1.01)];
  }

  /** The legend says the values at the cursor, or the last ones. */
  tell(index) {
    this.lines.forEach((line, at) => {
      const place = this.legend.children[at]?.querySelector("b");
      if (place) say(place, valueText(line, index === null || index === undefined ? undefined : this.plot?.data[0][index]));
    });
  }

  /** The chart in words, for those who do not see it. */
  describe() {
    const last = this.lines.filter(({ points }) => points.length).map((line) => `${line.label} ${valueText(line)}`);
    this.place.setAttribute("aria-label", `${this.caption.textContent} by step. ${last.length ? `Last: ${last.join(", ")}.` : "No points yet."}`);
    if (this.plot?.cursor.idx === null || this.plot?.cursor.idx === undefined) this.tell(null);
  }
}

/** What a chart's series are; when only points come, the chart stays. */
const shape = (lines) => JSON.stringify(lines.map(({ points, ...line }) => [line, points.length > 0, marked(points)]));

/** The lines over the union of their steps, from step 0, as uPlot takes them. */
function joined(lines) {
  const steps = [...new Set([0, ...lines.flatMap(({ points }) => points.map(([step]) => step))])].sort((one, two) => one - two);
  return [
    steps,
    ...lines.map(({ points }) => {
      const at = new Map(points);
      return steps.map((step) => at.get(step) ?? null);
    }),
  ];
}

function series({ colour: name, dash, train, points }) {
  const stroke = colour(name);
  return {
    stroke: train ? faded(stroke) : stroke,
    width: train ? 1.5 : 2.25,
    dash,
    spanGaps: true,
    points: { show: !train && marked(points), size: dash ? 4 : 8, fill: stroke, stroke },
  };
}

const marked = (points) => points.length <= 40;

function entry({ label, colour: name, dash, train }) {
  const stroke = colour(name);
  const line = { x1: 1, y1: 5, x2: 23, y2: 5, stroke: train ? faded(stroke) : stroke, "stroke-width": train ? 2 : 3, "stroke-dasharray": dash?.join(" ") };
  return h("li", {}, svg("svg", { viewBox: "0 0 24 10" }, svg("line", line)), label, h("b"));
}

/** The value at a step, or the nearest one before it; the last one without a step. */
function valueText({ name, points }, step = Infinity) {
  const at = points.findLast(([own]) => own <= step);
  return at ? metric(name, at[1]) : "–";
}

const tickText = (name, tick) => (/accuracy/.test(name) ? `${number(tick * 100)} %` : number(tick));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faded = (colour) => `${colour}9e`;

/** The names of a job's metrics without their split: loss, accuracy, ... */
export function kinds(points) {
  const names = new Set(points.rows.flatMap(Object.keys));
  return ["accuracy", "r2", "rmse"].find((kind) => names.has(`validation_${kind}`) || names.has(`train_${kind}`));
}

export const title = (kind) => ({ accuracy: "Accuracy", r2: "R²", rmse: "RMSE" })[kind] ?? words(kind);
