/*
 * Shows that a job is a retry of another one and that it was retried, as links to those jobs. Each is loaded once;
 * a link says what the other job is called, and how the retry stands.
 * It must not know what a link opens.
 * See also: job-progress.js; PROTOCOL.md for `retry_of`, in a job and as a filter of the list.
 */
import { say } from "../view/format.js";
import { badge, jobTitle } from "../view/job-view.js";
import { make, setShown } from "./dom.js";

/** @import { Requests } from "../client/requests.js" */
/** @import { Job, Words } from "../wire" */

const KEY = "retries";

/** The line with both links. */
export class RetryLinks {
  root = make("p", { class: "retries", hidden: true });
  /** The newest retry of the job. @type {Job | null} */ retried = null;
  /** @type {Requests} */ #requests;
  /** @type {() => Words} */ #words;
  /** @type {(job: Job) => void} */ #onOpen;
  #onLoaded;
  #loaded = "";

  /** @param {{requests: Requests, words: () => Words, onOpen: (job: Job) => void, onLoaded: () => void}} options */
  constructor({ requests, words, onOpen, onLoaded }) {
    this.#requests = requests;
    this.#words = words;
    this.#onOpen = onOpen;
    this.#onLoaded = onLoaded;
  }

  /** Load what belongs to this job, unless it is known. @param {Job} job @param {string} href of the job */
  async follow(job, href) {
    const wanted = `${job.id} ${job.done}`;
    if (this.#loaded === wanted || (!job.retry_of && !job.done) || this.#requests.wait(KEY) > 0) return;
    const folder = href.replace(/\/[^/]*$/, "");
    const urls = [
      ...(job.done ? [`${folder}?${new URLSearchParams({ retry_of: job.id, limit: "1" })}`] : []),
      ...(job.retry_of ? [`${folder}/${job.retry_of}`] : []),
    ];
    const answers = await this.#requests.poll(KEY, ...urls);
    // A job that was removed is no trouble: there is nothing to link to.
    if (!answers || answers.some(({ ok, status }) => !ok && status !== 404)) return;
    this.#loaded = wanted;
    const found = answers.filter(({ ok }) => ok).map(({ body }) => body.jobs ?? [body]);
    const jobs = /** @type {Job[]} */ (found.flat());
    this.retried = jobs.find((one) => one.retry_of === job.id) ?? null;
    this.#draw(jobs.find((one) => one.id === job.retry_of) ?? null);
    this.#onLoaded();
  }

  /** Forget the jobs. */
  close() {
    [this.#loaded, this.retried] = ["", null];
    setShown(this.root, false);
  }

  /** @param {Job | null} of */
  #draw(of) {
    const words = this.#words();
    const link = (/** @type {string} */ key, /** @type {Job} */ job) => {
      const values = { name: jobTitle(job, words), state: badge(job, words).text };
      const button = make("button", { type: "button", class: "link" }, say(words, key, values));
      button.addEventListener("click", () => this.#onOpen(job));
      return button;
    };
    const links = [
      ...(of ? [link("retry_of", of)] : []),
      ...(this.retried ? [link("retried_as", this.retried)] : []),
    ];
    this.root.replaceChildren(...links);
    setShown(this.root, links.length > 0);
  }
}
