/*
 * Makes one job the subject of a follower: its addresses, and how to read the answers.
 * It must not know when requests are sent, nor the DOM.
 * See also: follower.js, which follows it; ../page/job-list.js, the other subject.
 */

/** @import { Job, Standing } from "../wire" */

/** One job, as the subject of a follower. */
export class JobSubject {
  /** @type {Job | null} */ job = null;
  /** @type {any} */ #read = null;

  /** @param {string} url @param {Job | null} [known] */
  constructor(url, known = null) {
    this.pollUrl = url;
    this.job = known;
  }

  get streamUrl() {
    return this.job
      ? new URL(this.job.links.events, this.pollUrl).href
      : `${this.pollUrl.replace(/\/$/, "")}/events`;
  }

  get id() {
    return this.job?.id ?? this.pollUrl.split("/").pop() ?? "";
  }

  standing() {
    this.#read = this.job;
    return this.job;
  }

  /** @param {any} body @returns {Standing | null} */
  readPoll(body) {
    if (
      typeof body.seq !== "number" ||
      typeof body.done !== "boolean" ||
      typeof body.id !== "string" ||
      !body.links
    )
      return null;
    this.#read = body;
    return { seq: body.seq, done: body.done, poll_after_ms: body.poll_after_ms };
  }

  /** @param {any} data */
  readJob(data) {
    return this.readPoll(data);
  }

  /** @param {any} data @returns {number | null} */
  readHeartbeat(data) {
    const seq = this.job && data.jobs?.[this.job.id];
    return typeof seq === "number" ? seq : null;
  }

  readGone() {
    return true;
  }

  accept() {
    this.job = this.#read;
  }
}
