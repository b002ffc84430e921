/*
 * Says in words that a job is stuck: for how long, what that means, and what the user can do about it.
 * It must not know the DOM or a clock: times come in as arguments.
 * See also: job-view.js; PROTOCOL.md, section 2, for the values of `health`.
 */
import { duration, say } from "./format.js";
import { english } from "./locale/en.js";

/** @import { Job, Words } from "../wire" */

const STUCK = ["waiting_long", "stalled", "unresponsive"];

/** The caller's time at which each job object was first passed in. @type {WeakMap<Job, number>} */
const receivedAt = new WeakMap();

/** Return whether the job is stuck and can still be helped. @param {Job} job */
export function isStuck(job) {
  return !job.done && !job.cancel_requested && job.health !== null && STUCK.includes(job.health);
}

/** Estimate the server's time now (ms since 1970) from a job received a while ago: the local clock may be wrong.
 * @param {Job} job @param {number} clock_ms of a monotonic clock */
export function serverNow(job, clock_ms) {
  const received = receivedAt.get(job) ?? clock_ms;
  receivedAt.set(job, received);
  return Date.parse(job.server_time) + clock_ms - received;
}

/** Return why the job is stuck and what to do about it, or "" if it is not stuck.
 * @param {Job} job @param {number} now_ms the server's time @param {Words} [words] */
export function healthNote(job, now_ms, words = english) {
  const advice = `${job.health}${job.external ? "_external" : ""}_advice`;
  return isStuck(job) ? `${healthFact(job, now_ms, words)} ${say(words, advice)}` : "";
}

/**
 * Return why the job is stuck, or "" if it is not.
 * @param {Job} job
 * @param {number} now_ms the server's time
 * @param {Words} [words]
 */
export function healthFact(job, now_ms, words = english) {
  if (!isStuck(job)) return "";
  const queued = job.state === "queued";
  const since = job.health === "stalled" ? job.progress_at : queued ? job.created_at : job.heartbeat_at;
  const seconds = since ? (now_ms - Date.parse(since)) / 1_000 : 0;
  const again = job.health === "waiting_long" && !queued;
  const key = `${job.health}${job.external ? "_external" : again ? "_again" : ""}`;
  return say(words, key, { duration: duration(Math.max(1, seconds), words) });
}
