/*
 * Whether a job gets on as it should, in words: since when it does not, and what that means. Pure, but for a
 * note of when each news of a job was first held: times in it are the server's, and this clock may be another.
 */
import { duration, say } from "./format.js";
import { english } from "./locale/en.js";

/** @import { Job, Words } from "../wire" */

const STUCK = ["waiting_long", "stalled", "unresponsive"];

/** When each job object was first seen, on the caller's clock. @type {WeakMap<Job, number>} */
const first = new WeakMap();

/** Whether somebody should look at it. @param {Job} job */
export function stuck(job) {
  return !job.done && !job.cancel_requested && job.health !== null && STUCK.includes(job.health);
}

/** The server's time now, as far as it can be known from a job that was received a while ago (ms since 1970).
 * @param {Job} job @param {number} clock_ms a clock that nobody sets */
export function serverNow(job, clock_ms) {
  const seen = first.get(job) ?? clock_ms;
  first.set(job, seen);
  return Date.parse(job.server_time) + clock_ms - seen;
}

/** What is the matter, and what somebody who waits for it can do; or "".
 * @param {Job} job @param {number} now_ms the server's time @param {Words} [words] */
export function healthNote(job, now_ms, words = english) {
  return stuck(job) ? `${healthFact(job, now_ms, words)} ${say(words, `${job.health}_advice`)}` : "";
}

/** What is the matter, or "". @param {Job} job @param {number} now_ms the server's time @param {Words} [words] */
export function healthFact(job, now_ms, words = english) {
  if (!stuck(job)) return "";
  const queued = job.state === "queued";
  const since = job.health === "stalled" ? job.progress_at : queued ? job.created_at : job.heartbeat_at;
  const seconds = since ? (now_ms - Date.parse(since)) / 1_000 : 0;
  const key = job.health === "waiting_long" && !queued ? "waiting_long_again" : String(job.health);
  return say(words, key, { duration: duration(Math.max(1, seconds), words) });
}
