/*
 * One stream for all that anybody wants: keeps a single EventSource open for a changing set of wants and
 * hands each event to those whom it concerns. A want is one job, or all (null). It knows no tabs, no locks
 * and no policy: when to want again after an error is decided by who wants.
 *
 *  1. Whoever is new gets a new stream, since a stream starts with the truth of every job on it; one that is
 *     older could only repeat what it once heard. Many who come at once share the next one.
 *  2. Make before break: the old stream goes on until the new one has spoken, so nothing falls between.
 *  3. A stream that breaks is an error for those whom it served or who waited for it, and for nobody else.
 *  4. It sets no timer: who waits judges by its own clock, and asking again replaces a stream that is mute.
 */

/** @typedef {(new (url: string) => EventTarget & {close(): void})} Source */
/** @typedef {{source: EventTarget & {close(): void}, all: boolean, keys: Set<string>, asked_at: number}} Stream */
/** @typedef {{job: string | null, on: Stream | null}} Want */
/** @typedef {(keys: string[], name: string, data: string | null) => void} Deliver */

export const EVENTS = ["job", "items", "heartbeat", "leaving", "gone"];
export const MOST_NAMED = 100; // the server's limit; beyond it, the stream of all jobs is taken
const SPEAK_WITHIN_MS = 10_000; // the policy's own limit for a stream that is asked for

/** The address of a stream that leaves out what no page draws as it changes: the items of its jobs, which are most
 * of its bytes where a job has many. @param {string} url */
export function lean(url) {
  return `${url}${url.includes("?") ? "&" : "?"}items=0`;
}

export class OneStream {
  /** @type {Map<string, Want>} */ #wants = new Map();
  /** @type {Stream | null} */ #current = null;
  /** @type {Stream | null} */ #next = null;
  #url;
  #eventSource;
  #steady;
  #deliver;

  /** @param {string} url of the stream of many jobs @param {{eventSource: Source, steady: () => number}} platform @param {Deliver} deliver */
  constructor(url, { eventSource, steady }, deliver) {
    this.#url = url;
    this.#eventSource = eventSource;
    this.#steady = steady;
    this.#deliver = deliver;
  }

  /** @param {string} key whose want it is; the same one again changes nothing @param {string | null} job */
  want(key, job) {
    if (!this.#wants.has(key)) this.#wants.set(key, { job, on: null });
    this.#advance();
  }

  /** @param {string} key */
  unwant(key) {
    if (this.#wants.delete(key)) this.#advance();
  }

  /** @param {(key: string) => boolean} which */
  unwantAll(which) {
    for (const key of [...this.#wants.keys()].filter(which)) this.#wants.delete(key);
    this.#advance();
  }

  close() {
    this.unwantAll(() => true);
  }

  /** Open what is lacking, close what nobody needs. */
  #advance() {
    if (this.#wants.size === 0) {
      this.#drop(this.#next);
      this.#drop(this.#current);
      return;
    }
    if (this.#next && !this.#awaited(this.#next)) this.#drop(this.#next);
    if (this.#next || !this.#lacking()) return;
    this.#next = this.#open();
  }

  #lacking() {
    const waiting = [...this.#wants.values()].some((want) => want.on === null);
    return waiting || (this.#current !== null && this.#current.all && !this.#needsAll());
  }

  /** Somebody is there for whom the next stream was asked, and it may still speak. @param {Stream} next */
  #awaited(next) {
    return this.#steady() - next.asked_at < SPEAK_WITHIN_MS && [...next.keys].some((key) => this.#wants.has(key));
  }

  #jobs() {
    return new Set([...this.#wants.values()].map((want) => want.job));
  }

  #needsAll() {
    const jobs = this.#jobs();
    return jobs.has(null) || jobs.size > MOST_NAMED;
  }

  /** @returns {Stream} */
  #open() {
    const all = this.#needsAll();
    const query = all ? "" : `?${[...this.#jobs()].map((job) => `job=${job}`).join("&")}`;
    const source = new this.#eventSource(lean(`${this.#url}${query}`));
    const stream = { source, all, keys: new Set(this.#wants.keys()), asked_at: this.#steady() };
    source.addEventListener("open", () => this.#deliver(this.#waitingFor(stream), "open", null));
    source.addEventListener("error", () => this.#fail(stream));
    for (const name of EVENTS) source.addEventListener(name, (event) => this.#hear(stream, name, /** @type {MessageEvent} */ (event).data));
    return stream;
  }

  /** @param {Stream} stream */
  #waitingFor(stream) {
    return [...this.#wants].filter(([key, want]) => want.on === null && stream.keys.has(key)).map(([key]) => key);
  }

  /** @param {Stream} stream @param {string} name @param {string} data */
  #hear(stream, name, data) {
    if (stream === this.#next) this.#promote(stream);
    if (stream !== this.#current) return; // a closed one has nothing more to say
    const job = jobOf(name, data);
    const concerned = [...this.#wants].filter(([, want]) => want.on === stream && (job === null || want.job === null || want.job === job));
    this.#deliver(concerned.map(([key]) => key), name, data);
    this.#advance();
  }

  /** It has spoken: it serves all that it was opened for. @param {Stream} stream */
  #promote(stream) {
    this.#drop(this.#current);
    this.#current = stream;
    this.#next = null;
    for (const key of stream.keys) {
      const want = this.#wants.get(key);
      if (want) want.on = stream;
    }
  }

  /** @param {Stream} stream */
  #fail(stream) {
    if (stream !== this.#current && stream !== this.#next) return;
    const hit = [...this.#wants].filter(([, want]) => want.on === (stream === this.#current ? stream : null)).map(([key]) => key);
    this.#drop(stream);
    for (const key of hit) this.#wants.delete(key);
    this.#deliver(hit, "error", null);
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

/** The job that an event is about; null where it is about all, or where nobody can say.
 * @param {string} name @param {string} data @returns {string | null} */
function jobOf(name, data) {
  if (name === "heartbeat" || name === "leaving") return null;
  try {
    const body = JSON.parse(data);
    const id = name === "job" ? body.id : body.job_id;
    return typeof id === "string" ? id : null;
  } catch {
    return null; // whoever reads it will say that it is garbage
  }
}
