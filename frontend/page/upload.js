/*
 * Sends a new job to the server, with its files, and reports upload progress. It uses XMLHttpRequest because fetch
 * cannot tell how much of a request has been sent. It must not know forms or texts: it resolves to the job, or
 * rejects with a SubmitError that holds the server's answer.
 * Next: PROTOCOL.md for the request.
 */

/** @import { Job } from "../wire" */

const FILES_PER_SLICE = 500; // appended to the form in one go, a few milliseconds
/**
 * @typedef {{file: File, name: string, size: number}} ChosenFile a file and the name it is sent under: its path,
 *   if it came with a folder
 */

/** @typedef {object} Submission
 * @property {URL} url
 * @property {string} key the Idempotency-Key: the same for the same submission, which is then done once
 * @property {string} kind
 * @property {Record<string, unknown>} options
 * @property {string} name
 * @property {ChosenFile[]} files
 * @property {number | null} total number of items, for work without files */

export class SubmitError extends Error {
  /**
   * @param {number | null} status null if there was no answer
   * @param {{detail?: unknown} | null} problem
   * @param {boolean} [cancelled]
   */
  constructor(status, problem, cancelled = false) {
    super(typeof problem?.detail === "string" ? problem.detail : `refused with status ${status}`);
    this.status = status;
    this.problem = problem;
    this.cancelled = cancelled;
  }
}

/** @param {Submission} submission @param {(sent: number, size: number) => void} onProgress
 * @returns {{job: Promise<Job>, abort: () => void}} */
export function submit(submission, onProgress) {
  const request = new XMLHttpRequest();
  const stop = new AbortController();
  const job = new Promise((/** @type {(job: Job) => void} */ resolve, reject) => {
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const body = parse(request.responseText);
      if (request.status >= 200 && request.status < 300 && body?.id && body?.links) resolve(body);
      else reject(new SubmitError(request.status, body));
    });
    request.addEventListener("error", () => reject(new SubmitError(null, null)));
    stop.signal.addEventListener("abort", () => reject(new SubmitError(null, null, true)));
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
  const form = new FormData();
  form.append("kind", kind);
  form.append("options", JSON.stringify(options));
  if (name) form.append("name", name);
  // Fields go first, so that the server can refuse a wrong one before receiving gigabytes of files.
  for (let next = 0; next < files.length; next += FILES_PER_SLICE) {
    for (const { file, name: path } of files.slice(next, next + FILES_PER_SLICE)) form.append("files", file, path);
    if (next + FILES_PER_SLICE < files.length) await new Promise((resolve) => setTimeout(resolve)); // yield
  }
  if (!signal.aborted) request.send(form);
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // not JSON: the caller falls back to the status
  }
}
