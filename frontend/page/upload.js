/*
 * Sends a new job to the server, with its files and the progress of sending them. XMLHttpRequest, because
 * fetch cannot tell how much of a request has left. It decides nothing about files or words: it answers
 * with the job, or throws a Refused that says what the server said.
 */

/** @import { Job } from "../wire" */

const AT_ONCE = 500; // files put into the form, a few milliseconds of work
/** @typedef {{file: File, name: string, size: number}} Chosen a file and the name it is sent under: its path, where it came with a folder */

/** @typedef {object} Order
 * @property {URL} url
 * @property {string} key the same for the very same order sent again: it is done once
 * @property {string} kind
 * @property {Record<string, unknown>} options
 * @property {string} name
 * @property {Chosen[]} files
 * @property {number | null} total for work without files */

export class Refused extends Error {
  /** @param {number | null} status null where there was no answer @param {{detail?: unknown} | null} problem @param {boolean} [cancelled] */
  constructor(status, problem, cancelled = false) {
    super(typeof problem?.detail === "string" ? problem.detail : `refused with status ${status}`);
    this.status = status;
    this.problem = problem;
    this.cancelled = cancelled;
  }
}

/** @param {Order} order @param {(sent: number, size: number) => void} onProgress
 * @returns {{job: Promise<Job>, abort: () => void}} */
export function submit(order, onProgress) {
  const request = new XMLHttpRequest();
  const stop = new AbortController();
  const job = new Promise((/** @type {(job: Job) => void} */ resolve, reject) => {
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.total));
    request.addEventListener("load", () => {
      const body = parse(request.responseText);
      if (request.status >= 200 && request.status < 300 && body?.id && body?.links) resolve(body);
      else reject(new Refused(request.status, body));
    });
    request.addEventListener("error", () => reject(new Refused(null, null)));
    stop.signal.addEventListener("abort", () => reject(new Refused(null, null, true)));
  });
  request.open("POST", order.url);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("Idempotency-Key", order.key);
  stop.signal.addEventListener("abort", () => request.abort());
  void send(request, order, stop.signal);
  return { job, abort: () => stop.abort() };
}

/** @param {XMLHttpRequest} request @param {Order} order @param {AbortSignal} signal */
async function send(request, { kind, options, name, files, total }, signal) {
  if (total !== null) {
    request.setRequestHeader("Content-Type", "application/json");
    return request.send(JSON.stringify({ kind, options, total, ...(name ? { name } : {}) }));
  }
  const form = new FormData();
  form.append("kind", kind);
  form.append("options", JSON.stringify(options));
  if (name) form.append("name", name);
  // The fields go first: the server refuses a wrong one before it has taken gigabytes of files.
  for (let next = 0; next < files.length; next += AT_ONCE) {
    for (const { file, name: path } of files.slice(next, next + AT_ONCE)) form.append("files", file, path);
    if (next + AT_ONCE < files.length) await new Promise((resolve) => setTimeout(resolve)); // the page goes on
  }
  if (!signal.aborted) request.send(form);
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // not JSON: the caller falls back on the status
  }
}
