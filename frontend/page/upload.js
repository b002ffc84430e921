/*
 * Sends a new job with its files to the server, and reports the progress of the upload. It uses XMLHttpRequest
 * because fetch does not report how much of a request has been sent.
 * It must not know forms or texts.
 * See also: PROTOCOL.md for the request; new-job.js, which shows the progress.
 */

import { retryAfterMs } from "../client/request-policy.js";

/** @import { Job } from "../wire" */

const FILES_PER_SLICE = 500; // appended to the form in one go, a few milliseconds
// What a form does not keep: the browser writes %22, %0D and %0A for quotes and line breaks, so a name with a real
// %22 could not be told apart, and servers read a backslash as an escape.
const NOT_KEPT = /["\\\r\n]|%(?:22|0D|0A)/;
/**
 * @typedef {{file: File, name: string, size: number}} ChosenFile a file and the name it is sent under: its path,
 *   if it came with a folder
 */

/** @typedef {object} Submission
 * @property {URL} url
 * @property {string} key the Idempotency-Key; a repeated submission with the same key starts no second job
 * @property {string} kind
 * @property {Record<string, unknown>} options
 * @property {string} name
 * @property {ChosenFile[]} files
 * @property {number | null} total number of items, for work without files */

/** A submission that was refused, cancelled, or not answered. */
export class SubmitError extends Error {
  /**
   * @param {number | null} status null if there was no answer
   * @param {{detail?: unknown} | null} problem
   * @param {{cancelled?: boolean, retry_after_ms?: number | null}} [how] whether it was cancelled, and the pause
   *   that the server asked for
   */
  constructor(status, problem, { cancelled = false, retry_after_ms = null } = {}) {
    super(typeof problem?.detail === "string" ? problem.detail : `refused with status ${status}`);
    this.status = status;
    this.problem = problem;
    this.cancelled = cancelled;
    this.retry_after_ms = retry_after_ms;
  }
}

/** Send a submission. `job` rejects with a SubmitError, which holds the server's answer.
 * @param {Submission} submission @param {(sent: number, size: number) => void} onProgress in bytes
 * @returns {{job: Promise<Job>, abort: () => void}} */
export function submit(submission, onProgress) {
  const request = new XMLHttpRequest();
  const stop = new AbortController();
  const job = new Promise((/** @type {(job: Job) => void} */ resolve, reject) => {
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const body = parse(request.responseText);
      if (request.status >= 200 && request.status < 300 && body?.id && body?.links) resolve(body);
      else {
        const headers = new Headers({ "Retry-After": request.getResponseHeader("Retry-After") ?? "" });
        reject(new SubmitError(request.status, body, { retry_after_ms: retryAfterMs(headers, Date.now()) }));
      }
    });
    request.addEventListener("error", () => reject(new SubmitError(null, null)));
    stop.signal.addEventListener("abort", () => reject(new SubmitError(null, null, { cancelled: true })));
  });
  request.open("POST", submission.url);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("Idempotency-Key", submission.key);
  stop.signal.addEventListener("abort", () => request.abort());
  void send(request, submission, stop.signal);
  return { job, abort: () => stop.abort() };
}

/** @param {XMLHttpRequest} request @param {Submission} submission @param {AbortSignal} signal */
async function send(request, { kind, options, name, files, total }, signal) {
  if (total !== null) {
    request.setRequestHeader("Content-Type", "application/json");
    return request.send(JSON.stringify({ kind, options, total, ...(name ? { name } : {}) }));
  }
  const encoded = files.some((file) => NOT_KEPT.test(file.name));
  if (encoded) request.setRequestHeader("X-Unstuck-Names", "percent-encoded");
  const form = new FormData();
  form.append("kind", kind);
  form.append("options", JSON.stringify(options));
  if (name) form.append("name", name);
  // Fields go first, so that the server can refuse a wrong one before receiving gigabytes of files.
  for (let next = 0; next < files.length; next += FILES_PER_SLICE) {
    for (const { file, name: path } of files.slice(next, next + FILES_PER_SLICE))
      form.append("files", file, encoded ? encodeName(path) : path);
    const more = next + FILES_PER_SLICE < files.length;
    if (more) await new Promise((resolve) => setTimeout(resolve)); // let the page draw
  }
  if (!signal.aborted) request.send(form);
}

/** Percent-encode what a form does not keep. @param {string} name */
export function encodeName(name) {
  return name.replace(/[%"\\\r\n]/g, encodeURIComponent);
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // not JSON: the caller falls back to the status
  }
}
