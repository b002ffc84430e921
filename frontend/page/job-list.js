/*
 * Holds and draws the list of jobs. JobList is a subject for ../client/follower.js: one stream and one poll for
 * all jobs, merged so that no job goes back. It is never done, since a new job may start at any time. JobRows draws
 * it.
 * It must not know streams, timers or the texts of a row (../view/job-view.js decides).
 * See also: batch.js, which follows the list.
 */
import { icon, make, setBadge, setShown, setText } from "../element/dom.js";
import { harmless, localeOf, say } from "../view/format.js";
import { isStuck } from "../view/health.js";
import { amount, badge, barValue, jobTitle, kindTitle } from "../view/job-view.js";
import { english } from "../view/locale/en.js";
import { EVERYTHING, isFiltered, isShown, parameters } from "./job-filter.js";

/** @import { Filter } from "./job-filter.js" */
/** @import { Job, Standing, Words } from "../wire" */

const PAGE = 20;
const ID_SHOWN = 8; // of a job that is not listed
const MAX_FOLLOWED = 200; // the most jobs that one poll returns
const OLDER_PAGE = 100;

/** The newest jobs, as the subject of a follower; older ones are loaded a page at a time and then only heard of. */
export class JobList {
  id = "";
  /** @type {Map<string, Job>} */ #jobs = new Map();
  /** Jobs beyond those that a poll returns. @type {Map<string, Job>} */ #older = new Map();
  /** The cursor of the page after the last poll, and of the page after the older jobs; undefined until one of those
   * was loaded. @type {string | null} */
  #next = null;
  /** @type {string | null | undefined} */ #olderNext = undefined;
  /** The newest seq of jobs that heartbeats name but the list does not hold: older ones, and those that the filter
   * leaves out. Infinity: it has ended since the last heartbeat. @type {Map<string, number>} */
  #unlisted = new Map();
  /** Ids that the stream named since the last poll was read: a poll without them may be older, or end before
   * them. @type {Set<string>} */ #named = new Set();
  /** The creation of the oldest job that the last poll returned; "" if it returned them all. */ #oldest = "";
  /** The creation of the oldest job in the pages of older jobs. */ #bottom = "";
  /** What the last heartbeat named beyond what is known. @type {[string, number][]} */ #missing = [];
  #version = 0;
  #limit = PAGE;
  /** True once the list has been loaded. */ loaded = false;
  #api;

  #onGone;
  #filter;

  /** @param {URL} api @param {(id: string) => void} [onGone] called when the stream says that a job was removed
   * @param {Filter} [filter] */
  constructor(api, onGone = () => {}, filter = EVERYTHING) {
    this.#api = api;
    this.#onGone = onGone;
    this.#filter = filter;
    this.filtered = isFiltered(filter);
    /** True if the server searches page by page, so that a page may be short. */
    this.searching = filter.name !== "";
    this.streamUrl = new URL("events/stream", api).href;
  }

  get pollUrl() {
    return this.#address({ limit: String(this.#wanted) });
  }

  /** @param {Record<string, string>} page */
  #address(page) {
    return new URL(`jobs?${new URLSearchParams({ ...page, ...parameters(this.#filter) })}`, this.#api).href;
  }

  /** The jobs to list, the newest first. */
  get jobs() {
    return this.held.filter((job) => isShown(this.#filter, job));
  }

  /** All jobs held, the newest first: those to list, and the stuck ones among the others. */
  get held() {
    return [...new Map([...this.#older, ...this.#jobs]).values()].sort((a, b) =>
      a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : 0,
    );
  }

  /** True if the server has more jobs than are held. */
  get more() {
    return this.#cursor !== null;
  }

  /** The address of the next page of older jobs, or null while a poll can still return more. */
  get olderUrl() {
    // A search has reached its cursor with few matches or none: a longer page would begin at the newest again.
    if (this.#jobs.size < MAX_FOLLOWED && !this.searching) return null;
    const cursor = this.#cursor;
    return this.#address({ limit: String(OLDER_PAGE), ...(cursor ? { cursor } : {}) });
  }

  get #cursor() {
    return this.#olderNext === undefined ? this.#next : this.#olderNext;
  }

  /** Add a page of older jobs. @param {any} page */
  addOlder(page) {
    for (const job of page.jobs) if (!this.#jobs.has(job.id)) this.#older.set(job.id, job);
    this.#olderNext = page.next;
    this.#bottom = page.jobs.at(-1)?.created_at ?? (this.#bottom || this.#oldest);
  }

  /** How many of the newest jobs a poll returns: no fewer than are listed, so that no row goes. */
  get #wanted() {
    const newest = this.#listed.filter((job) => job.created_at >= this.#oldest).length;
    return Math.min(MAX_FOLLOWED, Math.max(this.#limit, newest));
  }

  /** The jobs to list among those that polls return. */
  get #listed() {
    return [...this.#jobs.values()].filter((job) => isShown(this.#filter, job));
  }

  /** Load one more page from the next poll on. */
  widen() {
    this.#limit = Math.min(MAX_FOLLOWED, this.#wanted + PAGE);
  }

  /** Add a job that another request of the page returned. @param {Job} job */
  add(job) {
    if (this.#isLeftOut(job)) return;
    this.#hear(job);
    this.#trim();
  }

  standing() {
    return null;
  }

  /** @param {any} body @returns {Standing | null} */
  readPoll(body) {
    if (!Array.isArray(body.jobs)) return null;
    const listed = new Set(body.jobs.map((/** @type {Job} */ job) => job.id));
    this.#oldest = body.next ? (body.jobs.at(-1)?.created_at ?? "") : "";
    // Below the page there may be jobs that were never heard of: what ended there is kept only by "Show more".
    const gone = [...this.#jobs.values()].filter(
      ({ id, done, created_at }) =>
        !listed.has(id) && (!this.#named.has(id) || (done && created_at < this.#oldest)),
    );
    for (const { id, created_at } of gone) this.#drop(id, created_at <= this.#oldest);
    const merged = body.jobs.filter((/** @type {Job} */ job) => this.#merge(job));
    const changed = !this.loaded || gone.length + merged.length > 0;
    for (const [id, seq] of this.#missing) if (!this.#jobs.has(id)) this.#unlisted.set(id, seq);
    this.#named.clear();
    this.#next = body.next ?? null;
    this.loaded = true;
    return this.#standing(changed);
  }

  /** @param {any} data @returns {Standing | null} */
  readJob(data) {
    if (typeof data.id !== "string" || typeof data.seq !== "number" || !data.links) return null;
    if (this.#isLeftOut(data)) return this.#leaveOut(data);
    if (this.filtered && (this.#unlisted.get(data.id) ?? -1) > data.seq) return this.#standing(false); // it is late
    if (this.#older.has(data.id)) this.#older.set(data.id, newer(this.#older.get(data.id), data));
    else if (this.filtered && this.#isAmongOlder(data)) this.#older.set(data.id, data);
    const older = (!this.filtered && this.#unlisted.has(data.id)) || (data.done && data.created_at < this.#oldest);
    if (this.#older.has(data.id)) return this.#standing();
    if (!older || this.#jobs.has(data.id) || isStuck(data)) this.#hear(data);
    return this.#standing();
  }

  /**
   * Return the list's seq, or the next one if the list is behind.
   *
   * A heartbeat names every job that is not done: the list is behind if one is unknown, ahead or missing. A
   * heartbeat that names none comes from a server whose store does not answer at the moment; it confirms nothing.
   * @param {any} data
   */
  readHeartbeat(data) {
    const seqs = new Map(Object.entries(data.jobs ?? {}));
    if (seqs.size === 0) return null;
    for (const id of seqs.keys()) if (this.#jobs.has(id)) this.#named.add(id);
    const known = (/** @type {string} */ id, /** @type {number} */ seq) =>
      this.filtered ? (this.#unlisted.get(id) ?? -1) >= seq : this.#unlisted.has(id);
    this.#missing = [...seqs].filter(([id, seq]) => !this.#jobs.has(id) && !known(id, seq));
    const ahead = [...this.#jobs.values()].some((job) => !job.done && (seqs.get(job.id) ?? Infinity) > job.seq);
    return this.#version + (ahead || this.#missing.length > 0 || this.#ended(seqs) ? 1 : 0);
  }

  /** Return whether a job that the filter leaves out has ended unheard, and may be listed by now.
   * @param {Map<string, number>} seqs of all jobs that have not ended */
  #ended(seqs) {
    if (!this.filtered) return false;
    const ended = [...this.#unlisted].filter(([id]) => !seqs.has(id));
    for (const [id] of ended) this.#unlisted.delete(id);
    return ended.some(([, seq]) => seq < Infinity);
  }

  /** @param {any} data */
  readGone(data) {
    this.#jobs.delete(data.job_id);
    this.#older.delete(data.job_id);
    this.#named.delete(data.job_id);
    this.#onGone(data.job_id);
    return false;
  }

  accept() {
    this.#trim();
  }

  /** Return the list's own standing. A change raises its seq; a poll that found nothing new does not. */
  #standing(changed = true) {
    if (changed) this.#version += 1;
    const jobs = [...this.#jobs.values()];
    const waits = jobs.filter((job) => !job.done).map((job) => job.poll_after_ms ?? 5_000);
    return { seq: this.#version, done: false, poll_after_ms: waits.length ? Math.min(...waits) : null };
  }

  /** Return whether the list has no place for the job: the filter leaves it out, and it is not stuck.
   * @param {Job} job */
  #isLeftOut(job) {
    return !isShown(this.#filter, job) && !isStuck(job);
  }

  /** Let go of a job that the filter leaves out, as of now. @param {Job} job */
  #leaveOut(job) {
    const held = this.#jobs.get(job.id) ?? this.#older.get(job.id);
    if (held && newer(held, job) === held) return this.#standing(false);
    this.#jobs.delete(job.id);
    this.#older.delete(job.id);
    this.#named.delete(job.id);
    this.#unlisted.set(job.id, job.done ? Infinity : job.seq);
    return this.#standing(held !== undefined);
  }

  /** Return whether pages of older jobs that were loaded before would have the job by now. @param {Job} job */
  #isAmongOlder(job) {
    if (this.#olderNext === undefined || job.created_at >= this.#oldest) return false;
    return this.#olderNext === null || job.created_at >= this.#bottom;
  }

  /** Take a job that did not come with a poll. @param {Job} job */
  #hear(job) {
    this.#merge(job);
    this.#named.add(job.id);
  }

  /** @param {Job} job @returns {boolean} true if the job is new or newer */
  #merge(job) {
    const held = this.#jobs.get(job.id);
    if (newer(held, job) === held) return false;
    this.#jobs.set(job.id, job);
    this.#older.delete(job.id);
    this.#unlisted.delete(job.id);
    return held?.seq !== job.seq;
  }

  #trim() {
    if (this.#jobs.size <= MAX_FOLLOWED) return;
    const newest = this.held.filter((job) => this.#jobs.has(job.id));
    for (const job of newest.slice(MAX_FOLLOWED).filter((one) => !isStuck(one))) {
      this.#drop(job.id, true);
      this.#named.delete(job.id);
      this.#unlisted.set(job.id, job.done ? Infinity : job.seq);
      this.#next ??= ""; // from the newest again, until the next poll is read
    }
  }

  /** Drop a job that polls do not return any more; if older jobs are listed, one that is older stays as such.
   * @param {string} id @param {boolean} older */
  #drop(id, older) {
    const job = this.#jobs.get(id);
    this.#jobs.delete(id);
    if (job && older && this.#olderNext !== undefined) this.#older.set(id, job);
  }
}

/** Return the newer state of a job, and an end before all else. @param {Job | undefined} held @param {Job} job */
function newer(held, job) {
  const late = held && (held.done || job.seq < held.seq) && !(job.done && !held.done);
  return late ? held : job;
}

/** The rows of the list. */
export class JobRows {
  /** @type {Map<string, ReturnType<typeof makeRow>>} */ #rows = new Map();
  /** @type {HTMLElement} */ #list;
  /** @type {Words} */ #words;

  /** @param {HTMLElement} list @param {Words} [words] */
  constructor(list, words = english) {
    this.#list = list;
    this.#words = words;
  }

  /** @param {Job[]} jobs @param {{text: string, tone: string} | null} [lost] the badge of unfinished jobs while
   *   there is no contact */
  draw(jobs, lost = null) {
    const there = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.#rows) {
      if (there.has(id)) continue;
      row.item.remove();
      this.#rows.delete(id);
    }
    const names = new Map(jobs.map((job) => [job.id, jobTitle(job, this.#words)]));
    const retried = new Set(jobs.map((job) => job.retry_of));
    const relation = (/** @type {Job} */ { id, retry_of }) => [
      ...(retry_of
        ? [say(this.#words, "row_retry_of", { name: names.get(retry_of) ?? retry_of.slice(0, ID_SHOWN) })]
        : []),
      ...(retried.has(id) ? [say(this.#words, "row_retried")] : []),
    ];
    jobs.forEach((job, place) => {
      const row = this.#rows.get(job.id) ?? makeRow(job, this.#words);
      this.#rows.set(job.id, row);
      if (this.#list.children[place] !== row.item)
        this.#list.insertBefore(row.item, this.#list.children[place] ?? null);
      drawRow(row, job, relation(job), job.done ? null : lost, this.#words);
    });
  }

  /** Focus the row of a job. @param {string} id */
  focus(id) {
    this.#rows.get(id)?.item.querySelector("a")?.focus();
  }
}

/** @param {Job} job @param {Words} words */
function makeRow(job, words) {
  const created = new Date(job.created_at);
  const today = created.toDateString() === new Date().toDateString();
  const when = new Intl.DateTimeFormat(localeOf(words), {
    ...(today ? {} : { day: "numeric", month: "short" }),
    hour: "2-digit",
    minute: "2-digit",
  }).format(created);
  const parts = {
    name: make("bdi", { class: "name", title: job.name ? harmless(job.name) : null }),
    kind: make("span", { class: "kind-name" }),
    relation: make("span"),
    badge: make("span", { class: "badge" }),
    amount: make("span", { class: "amount" }),
    failed: make("span", { class: "failures" }),
    bar: make("progress", { max: "100", "aria-hidden": "true" }),
    shown: /** @type {Job | null} */ (null),
    lost: /** @type {string | undefined} */ (undefined),
  };
  const time = make("time", { datetime: job.created_at, title: created.toLocaleString(localeOf(words)) }, when);
  const link = make(
    "a",
    { class: "row", href: `#job=${job.id}` },
    make("span", { class: "what" }, parts.name, make("span", { class: "kind" }, parts.kind, time, parts.relation)),
    make("span", { class: "how" }, make("span", { class: "figures" }, parts.amount, parts.failed), parts.bar),
    parts.badge,
  );
  return { ...parts, item: make("li", {}, link) };
}

/** @param {ReturnType<typeof makeRow>} row @param {Job} job @param {string[]} relation to other jobs
 * @param {{text: string, tone: string} | null} lost @param {Words} words */
function drawRow(row, job, relation, lost, words) {
  setText(row.name, jobTitle(job, words)); // the titles of kinds are loaded after the first jobs
  setText(row.kind, job.name ? kindTitle(job.kind, words) : "");
  setText(row.relation, relation.map((fact) => ` · ${fact}`).join("")); // last, since a narrow row cuts the end
  if (row.shown === job && row.lost === lost?.text) return;
  row.shown = job;
  row.lost = lost?.text;
  const state = lost ?? badge(job, words);
  setBadge(row.badge, state);
  row.bar.className = job.done || lost ? state.tone : "busy";
  setText(row.amount, amount(job, words));
  const { failed } = job.progress;
  if (failed > 0) row.failed.replaceChildren(icon("bad"), say(words, "failures", { count: failed }));
  setShown(row.failed, failed > 0);
  const value = barValue(job);
  if (value === null) row.bar.removeAttribute("value");
  else row.bar.value = value;
}
