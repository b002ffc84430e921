/*
 * Tells in words whether a job is stuck: since when, what that means, and what a person can do about it. It must
 * not know the DOM or a clock: times come in as arguments. It only remembers when each job object was first seen,
 * because the times in it are the server's and the local clock may differ.
 * Next: job-view.js; format.js.
 */
import { duration, say } from "./format.js";
import { english } from "./locale/en.js";

/** @import { Job, Words } from "../wire" */

const STUCK = ["waiting_long", "stalled", "unresponsive"];

/** When each job object was first seen, by the caller's clock. @type {WeakMap<Job, number>} */
const first = new WeakMap();

/** Whether the job needs attention. @param {Job} job */
export function isStuck(job) {
  return !job.done && !job.cancel_requested && job.health !== null && STUCK.includes(job.health);
}

/** Estimate the server's time now (ms since 1970) from a job received a while ago.
 * @param {Job} job @param {number} clock_ms of a monotonic clock */
export function serverNow(job, clock_ms) {
  const seen = first.get(job) ?? clock_ms;
  first.set(job, seen);
  return Date.parse(job.server_time) + clock_ms - seen;
}

/** Why the job is stuck and what can be done about it; "" if it is not stuck.
 * @param {Job} job @param {number} now_ms the server's time @param {Words} [words] */
export function healthNote(job, now_ms, words = english) {
  return isStuck(job) ? `${healthFact(job, now_ms, words)} ${say(words, `${job.health}_advice`)}` : "";
}

/**
 * Why the job is stuck; "" if it is not.
 * @param {Job} job
 * @param {number} now_ms the server's time
 * @param {Words} [words]
 */
export function healthFact(job, now_ms, words = english) {
  if (!isStuck(job)) return "";
  const queued = job.state === "queued";
  const since = job.health === "stalled" ? job.progress_at : queued ? job.created_at : job.heartbeat_at;
  const seconds = since ? (now_ms - Date.parse(since)) / 1_000 : 0;
  const key = job.health === "waiting_long" && !queued ? "waiting_long_again" : String(job.health);
  return say(words, key, { duration: duration(Math.max(1, seconds), words) });
}
