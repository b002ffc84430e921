/*
 * Shares one EventSource among a changing set of subscriptions, each to one job or to all jobs (null), and
 * delivers each event to the subscriptions that it concerns.
 * It must not know tabs, locks or the policy: the subscriber decides when to subscribe again after an error.
 * See also: shared-event-source.js, which decides which tab holds the stream.
 *
 *  1. A new subscription needs a new stream, since a stream starts with the current state of every job on it. All
 *     subscriptions made before the first event of that stream share it.
 *  2. Make before break: the old stream stays open until the new one has sent an event, so none is missed.
 *  3. A broken stream is an error for the subscriptions that it served or that waited for it, and for no others.
 *  4. No timer is set: subscribers judge silence by their own clocks, and subscribing again replaces a mute
 *     stream.
 */

/** @typedef {(new (url: string) => EventTarget & {close(): void})} Source */
/**
 * @typedef {{source: EventTarget & {close(): void}, all: boolean, keys: Set<string>, requested_at: number}} Stream
 */
/** @typedef {{job: string | null, on: Stream | null}} Subscription */
/** @typedef {(keys: string[], name: string, data: string | null) => void} Deliver */

export const EVENTS = ["job", "items", "heartbeat", "leaving", "gone"];
export const MAX_NAMED_JOBS = 100; // the server's limit; beyond it, the stream of all jobs is used
const FIRST_EVENT_WITHIN_MS = 10_000; // as in the policy (FIRST_EVENT_TIMEOUT_MS)

/** Return the address of a stream without `items` events: no page draws them, and they are most of the bytes.
 * @param {string} url */
export function withoutItems(url) {
  return `${url}${url.includes("?") ? "&" : "?"}items=0`;
}

/** One EventSource, shared by many subscriptions. */
export class MultiplexedStream {
  /** @type {Map<string, Subscription>} */ #subscriptions = new Map();
  /** @type {Stream | null} */ #current = null;
  /** @type {Stream | null} */ #next = null;
  #url;
  #eventSource;
  #steady;
  #deliver;

  /**
   * @param {string} url of the stream of many jobs
   * @param {{eventSource: Source, steady: () => number}} platform
   * @param {Deliver} deliver
   */
  constructor(url, { eventSource, steady }, deliver) {
    this.#url = url;
    this.#eventSource = eventSource;
    this.#steady = steady;
    this.#deliver = deliver;
  }

  /** Subscribe to a job, or to all jobs. A known key stays as it is, but replaces a mute stream.
   * @param {string} key of the subscription @param {string | null} job */
  subscribe(key, job) {
    if (!this.#subscriptions.has(key)) this.#subscriptions.set(key, { job, on: null });
    this.#advance();
  }

  /** @param {string} key */
  unsubscribe(key) {
    if (this.#subscriptions.delete(key)) this.#advance();
  }

  /** @param {(key: string) => boolean} which */
  unsubscribeWhere(which) {
    for (const key of [...this.#subscriptions.keys()].filter(which)) this.#subscriptions.delete(key);
    this.#advance();
  }

  close() {
    this.unsubscribeWhere(() => true);
  }

  /** Open a stream if one is missing, and close those without subscriptions. */
  #advance() {
    if (this.#subscriptions.size === 0) {
      this.#drop(this.#next);
      this.#drop(this.#current);
      return;
    }
    if (this.#next && !this.#isAwaited(this.#next)) this.#drop(this.#next);
    if (this.#next || !this.#needsAnother()) return;
    this.#next = this.#open();
  }

  #needsAnother() {
    const waiting = [...this.#subscriptions.values()].some((subscription) => subscription.on === null);
    return waiting || (this.#current !== null && this.#current.all && !this.#needsAll());
  }

  /** Return whether the next stream still has subscriptions and time for its first event. @param {Stream} next */
  #isAwaited(next) {
    return (
      this.#steady() - next.requested_at < FIRST_EVENT_WITHIN_MS &&
      [...next.keys].some((key) => this.#subscriptions.has(key))
    );
  }

  #jobs() {
    return new Set([...this.#subscriptions.values()].map((subscription) => subscription.job));
  }

  #needsAll() {
    const jobs = this.#jobs();
    return jobs.has(null) || jobs.size > MAX_NAMED_JOBS;
  }

  /** @returns {Stream} */
  #open() {
    const all = this.#needsAll();
    const query = all ? "" : `?${[...this.#jobs()].map((job) => `job=${job}`).join("&")}`;
    const source = new this.#eventSource(withoutItems(`${this.#url}${query}`));
    const stream = { source, all, keys: new Set(this.#subscriptions.keys()), requested_at: this.#steady() };
    source.addEventListener("open", () => this.#deliver(this.#keysWaitingFor(stream), "open", null));
    source.addEventListener("error", () => this.#fail(stream));
    for (const name of EVENTS)
      source.addEventListener(name, (event) =>
        this.#onEvent(stream, name, /** @type {MessageEvent} */ (event).data),
      );
    return stream;
  }

  /** @param {Stream} stream */
  #keysWaitingFor(stream) {
    return [...this.#subscriptions]
      .filter(([key, subscription]) => subscription.on === null && stream.keys.has(key))
      .map(([key]) => key);
  }

  /** @param {Stream} stream @param {string} name @param {string} data */
  #onEvent(stream, name, data) {
    if (stream === this.#next) this.#promote(stream);
    if (stream !== this.#current) return; // a late event of a closed stream
    const job = jobOf(name, data);
    const concerned = [...this.#subscriptions].filter(
      ([, subscription]) =>
        subscription.on === stream && (job === null || subscription.job === null || subscription.job === job),
    );
    this.#deliver(
      concerned.map(([key]) => key),
      name,
      data,
    );
    this.#advance();
  }

  /** Make the next stream the current one, for all subscriptions that it was opened for. @param {Stream} stream */
  #promote(stream) {
    this.#drop(this.#current);
    this.#current = stream;
    this.#next = null;
    for (const key of stream.keys) {
      const subscription = this.#subscriptions.get(key);
      if (subscription) subscription.on = stream;
    }
  }

  /** @param {Stream} stream */
  #fail(stream) {
    if (stream !== this.#current && stream !== this.#next) return;
    const affected = [...this.#subscriptions]
      .filter(([, subscription]) => subscription.on === (stream === this.#current ? stream : null))
      .map(([key]) => key);
    this.#drop(stream);
    for (const key of affected) this.#subscriptions.delete(key);
    this.#deliver(affected, "error", null);
    this.#advance();
  }

  /** @param {Stream | null} stream */
  #drop(stream) {
    if (stream === null) return;
    stream.source.close();
    if (this.#current === stream) this.#current = null;
    if (this.#next === stream) this.#next = null;
  }
}

/** Return the id of the job that an event is about, or null if it concerns all jobs or cannot be read.
 * @param {string} name @param {string} data @returns {string | null} */
function jobOf(name, data) {
  if (name === "heartbeat" || name === "leaving") return null;
  try {
    const body = JSON.parse(data);
    const id = name === "job" ? body.id : body.job_id;
    return typeof id === "string" ? id : null;
  } catch {
    return null; // delivered to all; each policy treats it as a broken stream
  }
}
