/*
 * Decides what can be done with a job, so that no button leads to a refusal.
 * It must not know the DOM, the network or a clock.
 * See also: job-view.js and ../page/stuck-jobs.js, which offer the actions; tests/frontend/actions.json, which holds
 * this table and the server together.
 */

/** @import { Job } from "../wire" */

/**
 * Return what can be done with a job. An expired job may be gone at any moment, so nothing is offered that needs it.
 * @param {Job} job
 * @param {number} [now_ms] the server's time
 * @param {boolean} [removed] the job is known to be gone
 */
export function actions(job, now_ms = Date.parse(job.server_time), removed = false) {
  const { progress, links, external, done } = job;
  const kept = done && !removed && !(job.expires_at && Date.parse(job.expires_at) <= now_ms);
  return {
    cancel: !done && !job.cancel_requested,
    rescue: job.state === "running" && !external, // this server's workers do not have external work
    give_up: !done,
    retry: kept && Boolean(links.retry) && toRetry(job) > 0,
    download: kept && Boolean(links.results) && !external && progress.succeeded > 0,
    read: !done || kept,
  };
}

/** Return how many files a retry would process: those that failed or were cancelled. @param {Job} job */
export function toRetry({ done, progress: { total, processed, failed } }) {
  return done ? failed + Math.max(0, (total ?? processed) - processed) : 0;
}
