/** Values as people read them. */

const DASH = "–";

/** A number with as many digits as it is worth. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(2).replace("e+", "e");
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toLocaleString("en", { maximumSignificantDigits: Math.max(digits, Math.ceil(Math.log10(size))) });
}

export const percent = (value, digits = 1) =>
  value === null || value === undefined ? DASH : `${(value * 100).toFixed(digits)} %`;

/** A metric by its name: shares as percentages. */
export const metric = (name, value) => (/accuracy/.test(name) ? percent(value, 2) : number(value));

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const [hours, minutes, rest] = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

export const milliseconds = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`;

export function bytes(count) {
  if (count === null || count === undefined) return DASH;
  const units = ["B", "KB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), units.length - 1);
  return `${(count / 1000 ** power).toFixed(power && count / 1000 ** power < 100 ? 1 : 0)} ${units[power]}`;
}

/** 287,018 as 287 k. */
export function compact(count) {
  return count.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
}

export function ago(moment) {
  const seconds = (Date.now() - new Date(moment)) / 1000;
  if (seconds < 10) return "just now";
  const [count, unit] =
    seconds < 90 ? [seconds, "second"]
    : seconds < 5400 ? [seconds / 60, "minute"]
    : seconds < 129600 ? [seconds / 3600, "hour"]
    : [seconds / 86400, "day"];
  return new Intl.RelativeTimeFormat("en").format(-Math.round(count), unit);
}

export const when = (moment) => new Date(moment).toLocaleString();

/** train_loss as "train loss". */
export const words = (name) => name.replaceAll("_", " ");

/** How long the job has been running, or ran; null before it starts. */
export function elapsed(job) {
  if (!job.started_at) return null;
  return (new Date(job.finished_at ?? Date.now()) - new Date(job.started_at)) / 1000;
}

const HEADLINES = ["test_accuracy", "validation_accuracy", "test_r2", "validation_r2", "validation_loss", "train_loss"];

/** The one metric that says how good something is, as [name, text]; null if there is none yet. */
export function headline(metrics) {
  const name = HEADLINES.find((name) => typeof metrics[name] === "number");
  return name ? [words(name), metric(name, metrics[name])] : null;
}
