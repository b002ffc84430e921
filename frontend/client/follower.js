/*
 * Follows one job, or one list of jobs, until it is done: the shell around watchdog.js.
 * It turns streams, answers, timers and page events into events of the watchdog, and does what the
 * watchdog answers. It owns the EventSource, the fetch and the one timer; it decides nothing about
 * when to ask or to give up, and it knows no words and no DOM element. What it follows is a subject:
 * an object that knows its URLs and reads what comes from them. Everything that the platform gives
 * can be passed in, so that tests run it in node.
 */
import { SharedEventSource } from "./shared-event-source.js";
import { newState } from "./watch-state.js";
import { step } from "./watchdog.js";

/** @import { Job, Item, Link, Standing, WatchEvent, WatchAction } from "../wire" */
/** @import { Source } from "./multiplexed-stream.js" */

/** @typedef {object} Subject
 * @property {string} id for people; empty for what is not one job
 * @property {string} pollUrl
 * @property {string} streamUrl
 * @property {() => Standing | null} standing what is held at the start
 * @property {(body: any) => Standing | null} readPoll null where it is no answer of ours
 * @property {(data: any) => Standing | null} readJob a `job` event of the stream
 * @property {(data: any) => number | null} readBeat the seq that a heartbeat names
 * @property {(data: any) => boolean} readGone whether what is gone is all that is followed
 * @property {() => void} accept what was read last is the truth */

/** @typedef {object} Platform
 * @property {Source} eventSource
 * @property {typeof globalThis.fetch} fetch
 * @property {() => number} wall milliseconds that go on while the machine sleeps
 * @property {() => number} steady milliseconds that no change of the clock touches
 * @property {() => number} random
 * @property {(call: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {Document | null} document
 * @property {Window | null} window */

/** What a poll found, for a person who asked.
 * @typedef {{outcome: "news" | "same" | "failed" | "closed", status: number | null, code: string | null}} Found */

const SLEPT_MS = 2_000; // the wall clock ran ahead of the steady one by more: the machine slept
const SILENCE = new Set(["late", "watchdog"]); // why a poll asks when the stream does not speak
const STREAM_EVENTS = ["job", "items", "heartbeat", "leaving", "gone"];

/** Watching was given up; the job itself goes on. */
export class JobTimeoutError extends Error {
  /** @param {string} jobId @param {number} elapsedMinutes of watching, the last 30 of them without any news */
  constructor(jobId, elapsedMinutes) {
    super(`job ${jobId}: no more news, so watching stopped after ${elapsedMinutes} minutes. The job itself goes on, and can be watched again.`);
    this.name = "JobTimeoutError";
    this.jobId = jobId;
    this.elapsedMinutes = elapsedMinutes;
  }
}

export class Follow extends EventTarget {
  #subject;
  /** @type {Platform} */ #platform;
  #state = newState();
  /** @type {Map<number, InstanceType<Source>>} */ #streams = new Map();
  /** @type {AbortController | null} */ #polling = null;
  /** @type {{poll: number | null, resolve: (found: Found) => void}[]} */ #checks = [];
  /** @type {{tag: string, seq: number} | null} */ #etag = null;
  #unanswered = 0; // polls; of each three that follow, two go without credentials, and so does what breaks a silence
  /** @type {any} */ #timer = null;
  #listening = new AbortController();
  #closed = false;
  #foundByAsking = false;
  #now = 0;
  #lastWall;
  #lastSteady;

  /** @param {{subject: Subject} & Partial<Platform>} options */
  constructor({ subject, ...given }) {
    super();
    this.#subject = subject;
    this.#platform = { ...thisPlatform(), ...given };
    this.#lastWall = this.#platform.wall();
    this.#lastSteady = this.#platform.steady();
  }

  /** @returns {Link} */
  get link() {
    return this.#state.link;
  }

  /** Why the last poll failed, while that is the newest thing known. */
  get failure() {
    return this.#state.failure;
  }

  /** The watchdog brought the last news, and not the stream. */
  get foundByAsking() {
    return this.#foundByAsking;
  }

  /** Milliseconds since the truth was last confirmed; null before the first time. */
  get newsAgeMs() {
    return this.#state.news_at === null ? null : this.#tellTime() - this.#state.news_at;
  }

  start() {
    this.#listen();
    this.#on({ type: "start", job: this.#subject.standing() });
    if (this.#platform.window?.navigator.onLine === false) this.#on({ type: "offline" });
    return this;
  }

  /** Stop everything. The job itself goes on. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    for (const number of [...this.#streams.keys()]) this.#closeStream(number);
    this.#polling?.abort();
    this.#polling = null;
    this.#setTimer(null);
    this.#listening.abort();
    this.#answerChecks(null, this.#found("closed"));
  }

  /** Ask now, because a person wants to know. @returns {Promise<Found>} */
  check() {
    if (this.#closed || this.#state.done) return Promise.resolve(this.#found("closed"));
    return new Promise((resolve) => {
      const check = { poll: /** @type {number | null} */ (null), resolve };
      this.#checks.push(check);
      this.#on({ type: "manual_check" });
    });
  }

  /** Another call, such as cancel, was answered with this. @param {any} body */
  tell(body) {
    const job = this.#subject.readPoll(body);
    if (job) this.#on({ type: "told", job });
  }

  // --- events in, actions out
  /** @param {WatchEvent} event */
  #on(event) {
    if (this.#closed) return;
    const before = this.#state;
    const [state, actions] = step(before, event, this.#tellTime(), this.#platform.random());
    this.#state = state;
    for (const action of actions) this.#act(action);
    const shown = actions.some((action) => action.type === "show");
    if (shown && event.type !== "poll_ok") this.#foundByAsking = false;
    if (shown || state.link !== before.link || state.failure !== before.failure) this.dispatchEvent(new CustomEvent("change"));
    const end = actions.find((action) => action.type === "end");
    if (end) this.#answerChecks(null, this.#found("failed"));
    if (end?.reason === "gave_up") this.dispatchEvent(new CustomEvent("timeout", { detail: new JobTimeoutError(this.#subject.id, end.elapsed_minutes) }));
    if (state.done) this.close();
  }

  /** @param {WatchAction} action */
  #act(action) {
    if (action.type === "show") this.#subject.accept();
    else if (action.type === "open_stream") this.#openStream(action.stream);
    else if (action.type === "close_stream") this.#closeStream(action.stream);
    else if (action.type === "poll") this.#poll(action.poll, action.reason);
    else if (action.type === "abort_poll") this.#abortPoll(action.poll);
    else if (action.type === "wake_at") this.#setTimer(action.at_ms);
  }

  /** @param {number | null} at */
  #setTimer(at) {
    if (this.#timer !== null) this.#platform.clearTimeout(this.#timer);
    this.#timer = at === null ? null : this.#platform.setTimeout(() => this.#ring(), Math.max(0, at - this.#tellTime()));
  }

  #ring() {
    this.#timer = null;
    this.#on({ type: "tick" });
    // The timer may have rung a little early, so that nothing was due and no new one was asked for.
    if (this.#timer === null && this.#state.wake_at !== null) this.#setTimer(this.#state.wake_at);
  }

  /** One clock out of two: steady, but it jumps ahead by the time that the machine slept. */
  #tellTime() {
    const [wall, steady] = [this.#platform.wall(), this.#platform.steady()];
    const [byWall, bySteady] = [wall - this.#lastWall, steady - this.#lastSteady];
    this.#now += byWall > bySteady + SLEPT_MS ? byWall : bySteady;
    [this.#lastWall, this.#lastSteady] = [wall, steady];
    return Math.round(this.#now);
  }

  #listen() {
    const { document, window } = this.#platform;
    const { signal } = this.#listening;
    const shown = () => this.#on({ type: "page_shown" });
    document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && shown(), { signal });
    document?.addEventListener("resume", shown, { signal }); // after a freeze; the freeze itself needs no deed
    window?.addEventListener("pageshow", (event) => event.persisted && shown(), { signal });
    window?.addEventListener("online", () => this.#on({ type: "online" }), { signal });
    window?.addEventListener("offline", () => this.#on({ type: "offline" }), { signal });
  }

  // --- streams
  /** @param {number} number */
  #openStream(number) {
    const source = new this.#platform.eventSource(this.#subject.streamUrl);
    this.#streams.set(number, source);
    source.addEventListener("open", () => this.#on({ type: "stream_open", stream: number }));
    source.addEventListener("error", () => this.#on({ type: "stream_error", stream: number }));
    for (const name of STREAM_EVENTS) source.addEventListener(name, (event) => this.#hear(number, name, event));
  }

  /** @param {number} number */
  #closeStream(number) {
    this.#streams.get(number)?.close();
    this.#streams.delete(number);
  }

  /** @param {number} stream @param {string} name @param {Event} event */
  #hear(stream, name, event) {
    if (!this.#streams.has(stream)) return;
    const data = parse(/** @type {MessageEvent} */ (event).data);
    const job = name === "job" && data ? this.#subject.readJob(data) : null;
    if (!data || (name === "job" && !job)) this.#on({ type: "stream_error", stream }); // garbage: no stream to rely on
    else if (job) this.#on({ type: "job", stream, job });
    else if (name === "heartbeat") this.#on({ type: "heartbeat", stream, seq: this.#subject.readBeat(data), next_ms: nextMs(data) });
    else if (name === "leaving") this.#on({ type: "leaving", stream, retry_ms: Number(data.retry_ms) || 0 });
    else if (name === "gone") this.#on({ type: this.#subject.readGone(data) ? "gone" : "items", stream });
    else {
      this.#on({ type: "items", stream });
      this.dispatchEvent(new CustomEvent("items", { detail: data }));
    }
  }

  // --- polls
  /** @param {number} poll @param {string} reason */
  async #poll(poll, reason) {
    if (reason === "manual") for (const check of this.#checks) check.poll ??= poll;
    const aborting = (this.#polling = new AbortController());
    const seqBefore = this.#state.seq;
    const event = await this.#ask(poll, reason, aborting.signal);
    if (this.#closed || aborting.signal.aborted) return;
    this.#polling = null;
    if (event.type === "poll_ok" && event.job.seq !== seqBefore) this.#foundByAsking = reason === "watchdog" || reason === "late";
    this.#on(event);
    const changed = this.#state.seq !== seqBefore;
    this.#answerChecks(poll, this.#found(event.type === "poll_failed" ? "failed" : changed ? "news" : "same"));
  }

  /** @param {number} poll @param {string} reason @param {AbortSignal} signal @param {boolean} [bare] without credentials
   * @returns {Promise<WatchEvent & {poll: number}>} */
  async #ask(poll, reason, signal, bare = SILENCE.has(reason) || this.#unanswered % 3 !== 0) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json", "X-Unstuck-Poll": reason };
    if (this.#etag && this.#etag.seq === this.#state.seq) headers["If-None-Match"] = this.#etag.tag;
    // A browser keeps other connections for requests without credentials. After an outage the ones may hang in
    // TCP's pauses for a minute while the others get through. Streams need the ones, so two polls of three go by
    // the others. And when a stream has fallen silent, over HTTP/2 its connection is that of the polls: the first
    // to ask by it waited 10 s for nothing.
    try {
      const credentials = bare ? "omit" : "same-origin";
      const response = await this.#platform.fetch(this.#subject.pollUrl, { headers, signal, cache: "no-store", credentials });
      if (response.status === 304) return { type: "poll_not_modified", poll };
      const body = parse(await response.text());
      const job = response.ok && body ? this.#subject.readPoll(body) : null;
      if (bare && !job) { // it may be the lack of credentials that was refused
        this.#unanswered = 0;
        return await this.#ask(poll, reason, signal, false);
      }
      if (!response.ok) return refusal(poll, response, body);
      // HTML after a redirect is what a sign-in page looks like from here.
      if (!job) return { type: "poll_failed", poll, status: response.redirected ? 401 : response.status, code: "not_our_answer" };
      const tag = response.headers.get("ETag");
      this.#etag = tag ? { tag, seq: job.seq } : null;
      return { type: "poll_ok", poll, job };
    } catch {
      // So fails a way to the sign-in page of another site, too; what hung is aborted.
      if (bare && this.#unanswered === 0 && !signal.aborted) return this.#ask(poll, reason, signal, false);
      this.#unanswered += 1;
      return { type: "poll_failed", poll, status: null, code: "no_answer" }; // shown to the person as connection trouble
    }
  }

  /** @param {number} poll */
  #abortPoll(poll) {
    this.#polling?.abort();
    this.#polling = null;
    this.#answerChecks(poll, this.#found("failed"));
  }

  /** @param {Found["outcome"]} outcome @returns {Found} */
  #found(outcome) {
    return { outcome: this.#state.done ? "news" : outcome, status: this.#state.failure?.status ?? null, code: this.#state.failure?.code ?? null };
  }

  /** @param {number | null} poll null answers all @param {Found} found */
  #answerChecks(poll, found) {
    const answered = this.#checks.filter((check) => poll === null || check.poll === poll);
    this.#checks = this.#checks.filter((check) => !answered.includes(check));
    for (const check of answered) check.resolve(found);
  }
}

/** The subject that is one job. */
export class OneJob {
  /** @type {Job | null} */ job = null;
  /** @type {any} */ #read = null;

  /** @param {string} url @param {Job | null} [known] */
  constructor(url, known = null) {
    this.pollUrl = url;
    this.job = known;
  }

  get streamUrl() {
    return this.job ? new URL(this.job.links.events, this.pollUrl).href : `${this.pollUrl.replace(/\/$/, "")}/events`;
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
    if (typeof body.seq !== "number" || typeof body.done !== "boolean" || typeof body.id !== "string" || !body.links) return null;
    this.#read = body;
    return { seq: body.seq, done: body.done, poll_after_ms: body.poll_after_ms };
  }

  /** @param {any} data */
  readJob(data) {
    return this.readPoll(data);
  }

  /** @param {any} data @returns {number | null} */
  readBeat(data) {
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

/** @param {number} poll @param {Response} response @param {any} body @returns {WatchEvent & {poll: number}} */
function refusal(poll, response, body) {
  const seconds = Number(response.headers.get("Retry-After"));
  const retry_after_ms = seconds > 0 ? seconds * 1_000 : null;
  return { type: "poll_failed", poll, status: response.status, code: typeof body?.code === "string" ? body.code : null, retry_after_ms };
}

/** Within which time the next heartbeat comes, where this one says it. @param {any} beat @returns {number | null} */
function nextMs(beat) {
  return typeof beat.next_s === "number" ? beat.next_s * 1_000 : null;
}

/** An object, or null for anything else. @param {string} text */
function parse(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null; // the callers treat it as a broken answer
  }
}

/** @returns {Platform} */
function thisPlatform() {
  return {
    eventSource: SharedEventSource,
    fetch: (...args) => globalThis.fetch(...args),
    wall: () => Date.now(),
    steady: () => performance.now(),
    random: () => Math.random(),
    setTimeout: (call, ms) => setTimeout(call, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    document: typeof document === "undefined" ? null : document,
    window: typeof window === "undefined" ? null : window,
  };
}
