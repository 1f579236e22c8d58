/** One job, kept up to date while it runs. */

import { events, get, text } from "./api.js";
import { Points } from "./curves.js";
import { connected, disconnected, pause, throttled } from "./live.js";

const REFRESH_S = 1;
const LOG_S = 1.5;
const POINTS = 1500;
const LONGEST_PAUSE_S = 10;

/**
 * What is known about a job: `job`, `points`, `log`, `checkpoints`. `changed(what)` is called with the name of each
 * that is new.
 */
export class Followed {
  constructor(id, changed) {
    this.path = `/jobs/${encodeURIComponent(id)}`;
    this.changed = changed;
    this.points = new Points();
    this.last = 0;
    this.refreshJob = throttled(REFRESH_S, () => this.fetchJob());
    this.refreshLog = throttled(LOG_S, () => this.fetchLog());
    this.refreshCheckpoints = throttled(LOG_S, () => this.fetchCheckpoints());
  }

  /** What is known now. Throws Problem, among others if there is no such job. */
  async load() {
    await Promise.all([this.fetchJob(), this.fetchMetrics(), this.fetchLog(), this.fetchCheckpoints()]);
  }

  /** Stay up to date until the job is done: all its events once more from the first, then live. */
  async follow() {
    for (let failures = 0; !this.finished; ) {
      try {
        for await (const event of events(`${this.path}/events`, this.last)) {
          failures = 0;
          connected();
          this.take(event);
        }
        await this.fetchJob(); // the stream may have been cut before the job was done
      } catch (failure) {
        disconnected(failure);
      }
      if (!this.finished) await pause(Math.min(2 ** failures++, LONGEST_PAUSE_S));
    }
    await this.load();
    connected();
  }

  get finished() {
    return this.job.finished_at !== null;
  }

  take({ id, type, data }) {
    this.last = id;
    if (type === "progress") this.progress(data);
    if (type === "metric") this.point(data);
    if (type === "log") this.refreshLog();
    if (type === "checkpoint") this.refreshCheckpoints();
    this.refreshJob();
  }

  progress(data) {
    this.job.progress = data;
    this.changed("job");
  }

  point(data) {
    this.points.add(data);
    this.changed("points");
  }

  async fetchJob() {
    this.job = await get(this.path);
    this.changed("job");
  }

  async fetchMetrics() {
    this.points.addColumns(await get(`${this.path}/metrics`, { points: POINTS }));
    this.changed("points");
  }

  async fetchLog() {
    this.log = await text(`${this.path}/logs`);
    this.changed("log");
  }

  async fetchCheckpoints() {
    this.checkpoints = (await get(`${this.path}/checkpoints`)).data;
    this.changed("checkpoints");
  }
}
