/*
 * Follows one subject (a job, or the list of jobs) until it is done: the I/O around watchdog.js. It owns the
 * streams, the polls and the one timer. Everything that the browser provides can be passed in, for tests in Node.
 * It must not decide when to poll or to give up, and must not know texts or DOM elements.
 * See also: watchdog.js, which decides; shared-event-source.js, which it uses as its EventSource.
 */
import { networkPlatform } from "./platform.js";
import { askedPause, CLICK_PAUSE_MS, retryAfterMs } from "./request-policy.js";
import { SharedEventSource } from "./shared-event-source.js";
import { newState } from "./watch-state.js";
import { step } from "./watchdog.js";

/** @import { Link, Standing, WatchEvent, WatchAction } from "../wire" */
/** @import { Source } from "./multiplexed-stream.js" */

/** @typedef {object} Subject
 * @property {string} id for error messages; empty if the subject is not one job
 * @property {string} pollUrl
 * @property {string} streamUrl
 * @property {() => Standing | null} standing the standing of the state held at the start
 * @property {(body: any) => Standing | null} readPoll reads a poll; null if the body is not the server's
 * @property {(data: any) => Standing | null} readJob reads a `job` event; null if it is not the server's
 * @property {(data: any) => number | null} readHeartbeat the seq in a heartbeat; null if it names none
 * @property {(data: any) => boolean} readGone reads a `gone` event; true if nothing is left to follow
 * @property {() => void} accept makes the state that was read last the one that is shown */

/** @import { NetworkPlatform } from "./platform.js" */
/** @typedef {NetworkPlatform & {eventSource: Source, document: Document | null, window: Window | null}} Platform */

/**
 * The result of a check that the user requested.
 * @typedef {{outcome: "news" | "same" | "failed" | "closed", status: number | null, code: string | null}}
 *   CheckResult
 */

const SLEPT_MS = 2_000; // the machine slept if the wall clock gains more than this on the steady one
const SILENT_STREAM_REASONS = new Set(["late", "watchdog"]); // of polls that are made because the stream is silent
const STREAM_EVENTS = ["job", "items", "heartbeat", "leaving", "gone"];

/** The end of watching without an outcome. The job itself continues. */
export class JobTimeoutError extends Error {
  /** @param {string} jobId @param {number} elapsedMinutes of watching, the last 30 of them without any update */
  constructor(jobId, elapsedMinutes) {
    super(
      `job ${jobId}: no more updates, so watching stopped after ${elapsedMinutes} minutes. ` +
        "The job itself is not affected and can be watched again.",
    );
    this.name = "JobTimeoutError";
    this.jobId = jobId;
    this.elapsedMinutes = elapsedMinutes;
  }
}

/**
 * Follows a subject. Dispatches `change` when there is something new to show, `items` with the data of such an
 * event, and `timeout` with a JobTimeoutError.
 */
export class Follower extends EventTarget {
  #subject;
  /** @type {Platform} */ #platform;
  #state = newState();
  /** @type {Map<number, InstanceType<Source>>} */ #streams = new Map();
  /** @type {AbortController | null} */ #polling = null;
  /** @type {{poll: number | null, resolve: (found: CheckResult) => void}[]} */ #checks = [];
  /** @type {{tag: string, seq: number} | null} */ #etag = null;
  #unanswered = 0; // polls in a row; it decides which polls are sent without credentials, see #request
  /** @type {any} */ #timer = null;
  #listening = new AbortController();
  #closed = false;
  #foundByPolling = false;
  #checkAt = 0; // when a failed check may be repeated
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

  /** The reason why the last poll failed, or null after any later success. */
  get failure() {
    return this.#state.failure;
  }

  /** True if the newest state came from a watchdog poll rather than from the stream. */
  get foundByPolling() {
    return this.#foundByPolling;
  }

  /** Milliseconds since the state was last confirmed, or null before the first time. */
  get newsAgeMs() {
    return this.#state.confirmed_at === null ? null : this.#readClock() - this.#state.confirmed_at;
  }

  /** Open a stream, or end at once if the subject is done already. */
  start() {
    this.#listenToPage();
    this.#handle({ type: "start", job: this.#subject.standing() });
    if (this.#platform.window?.navigator.onLine === false) this.#handle({ type: "offline" });
    return this;
  }

  /** Stop all streams, polls and timers. The job itself continues. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    for (const number of [...this.#streams.keys()]) this.#closeStream(number);
    this.#polling?.abort();
    this.#polling = null;
    this.#setTimer(null);
    this.#listening.abort();
    this.#answerChecks(null, this.#checkResult("closed"));
  }

  /** Poll now, at the user's request; after a failure, not before the pause that follows it.
   * @returns {Promise<CheckResult>} */
  check() {
    if (this.#closed || this.#state.done) return Promise.resolve(this.#checkResult("closed"));
    const { phase, failure } = this.#state;
    if (phase === "watching" && failure !== null && this.#readClock() < this.#checkAt)
      return Promise.resolve(this.#checkResult("failed"));
    return new Promise((resolve) => {
      const check = { poll: /** @type {number | null} */ (null), resolve };
      this.#checks.push(check);
      this.#handle({ type: "manual_check" });
    });
  }

  /** Apply the answer of another request, such as cancel. @param {any} body */
  applyAnswer(body) {
    const job = this.#subject.readPoll(body);
    if (job) this.#handle({ type: "job_answered", job });
  }

  // --- events in, actions out
  /** @param {WatchEvent} event */
  #handle(event) {
    if (this.#closed) return;
    const before = this.#state;
    const [state, actions] = step(before, event, this.#readClock(), this.#platform.random());
    this.#state = state;
    for (const action of actions) this.#perform(action);
    const shown = actions.some((action) => action.type === "show");
    if (shown && event.type !== "poll_ok") this.#foundByPolling = false;
    if (shown || state.link !== before.link || state.failure !== before.failure)
      this.dispatchEvent(new CustomEvent("change"));
    const end = actions.find((action) => action.type === "end");
    if (end) this.#answerChecks(null, this.#checkResult("failed"));
    if (end?.reason === "gave_up")
      this.dispatchEvent(
        new CustomEvent("timeout", { detail: new JobTimeoutError(this.#subject.id, end.elapsed_minutes) }),
      );
    if (state.done) this.close();
  }

  /** @param {WatchAction} action */
  #perform(action) {
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
    this.#timer =
      at === null ? null : this.#platform.setTimeout(() => this.#onTimer(), Math.max(0, at - this.#readClock()));
  }

  #onTimer() {
    this.#timer = null;
    this.#handle({ type: "tick" });
    // A timer may fire slightly early; then nothing was due and no new timer was requested.
    if (this.#timer === null && this.#state.wake_at !== null) this.#setTimer(this.#state.wake_at);
  }

  /** Read a steady clock that also counts the time for which the machine slept. */
  #readClock() {
    const [wall, steady] = [this.#platform.wall(), this.#platform.steady()];
    const [byWall, bySteady] = [wall - this.#lastWall, steady - this.#lastSteady];
    this.#now += byWall > bySteady + SLEPT_MS ? byWall : bySteady;
    [this.#lastWall, this.#lastSteady] = [wall, steady];
    return Math.round(this.#now);
  }

  #listenToPage() {
    const { document, window } = this.#platform;
    const { signal } = this.#listening;
    const shown = () => this.#handle({ type: "page_shown" });
    document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && shown(), {
      signal,
    });
    document?.addEventListener("resume", shown, { signal }); // after a freeze
    window?.addEventListener("pageshow", (event) => event.persisted && shown(), { signal });
    window?.addEventListener("online", () => this.#handle({ type: "online" }), { signal });
    window?.addEventListener("offline", () => this.#handle({ type: "offline" }), { signal });
  }

  // --- streams
  /** @param {number} number */
  #openStream(number) {
    const source = new this.#platform.eventSource(this.#subject.streamUrl);
    this.#streams.set(number, source);
    source.addEventListener("open", () => this.#handle({ type: "stream_open", stream: number }));
    source.addEventListener("error", () => this.#handle({ type: "stream_error", stream: number }));
    for (const name of STREAM_EVENTS)
      source.addEventListener(name, (event) => this.#onStreamEvent(number, name, event));
  }

  /** @param {number} number */
  #closeStream(number) {
    this.#streams.get(number)?.close();
    this.#streams.delete(number);
  }

  /** @param {number} stream @param {string} name @param {Event} event */
  #onStreamEvent(stream, name, event) {
    if (!this.#streams.has(stream)) return;
    const data = parse(/** @type {MessageEvent} */ (event).data);
    const job = name === "job" && data ? this.#subject.readJob(data) : null;
    if (!data || (name === "job" && !job))
      this.#handle({ type: "stream_error", stream }); // not the server's: treat the stream as broken
    else if (job) this.#handle({ type: "job", stream, job });
    else if (name === "heartbeat")
      this.#handle({
        type: "heartbeat",
        stream,
        seq: this.#subject.readHeartbeat(data),
        next_ms: nextHeartbeatMs(data),
      });
    else if (name === "leaving") this.#handle({ type: "leaving", stream, retry_ms: Number(data.retry_ms) || 0 });
    else if (name === "gone") this.#handle({ type: this.#subject.readGone(data) ? "gone" : "items", stream });
    else {
      this.#handle({ type: "items", stream });
      this.dispatchEvent(new CustomEvent("items", { detail: data }));
    }
  }

  // --- polls
  /** @param {number} poll @param {string} reason */
  async #poll(poll, reason) {
    if (reason === "manual") for (const check of this.#checks) check.poll ??= poll;
    const aborting = (this.#polling = new AbortController());
    const seqBefore = this.#state.seq;
    const event = await this.#request(poll, reason, aborting.signal);
    if (this.#closed || aborting.signal.aborted) return;
    this.#polling = null;
    if (event.type === "poll_ok" && event.job.seq !== seqBefore)
      this.#foundByPolling = reason === "watchdog" || reason === "late";
    if (event.type === "poll_failed")
      this.#checkAt = this.#readClock() + Math.max(CLICK_PAUSE_MS, askedPause(event));
    this.#handle(event);
    const changed = this.#state.seq !== seqBefore;
    this.#answerChecks(
      poll,
      this.#checkResult(event.type === "poll_failed" ? "failed" : changed ? "news" : "same"),
    );
  }

  /**
   * @param {number} poll
   * @param {string} reason
   * @param {AbortSignal} signal
   * @param {boolean} [bare] send no credentials
   * @returns {Promise<WatchEvent & {poll: number}>}
   */
  async #request(poll, reason, signal, bare = SILENT_STREAM_REASONS.has(reason) || this.#unanswered % 3 !== 0) {
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json", "X-Unstuck-Poll": reason };
    if (this.#etag && this.#etag.seq === this.#state.seq) headers["If-None-Match"] = this.#etag.tag;
    // Browsers use separate connections for requests without credentials. After an outage the connections with
    // credentials, which streams use too, can hang in TCP's back-off for a minute while the others work; so after
    // an unanswered poll two of three are sent without. When a stream falls silent, a poll with credentials would
    // use the same silent connection over HTTP/2, and wait 10 s in vain (measured).
    try {
      const credentials = bare ? "omit" : "same-origin";
      const response = await this.#platform.fetch(this.#subject.pollUrl, {
        headers,
        signal,
        cache: "no-store",
        credentials,
      });
      if (response.status === 304) return { type: "poll_not_modified", poll };
      const body = parse(await response.text());
      const job = response.ok && body ? this.#subject.readPoll(body) : null;
      if (bare && !job) {
        // possibly refused only for lack of credentials
        this.#unanswered = 0;
        return await this.#request(poll, reason, signal, false);
      }
      if (!response.ok) return pollFailure(poll, response, body, this.#platform.wall());
      // After a redirect, HTML is most likely a sign-in page.
      if (!job)
        return {
          type: "poll_failed",
          poll,
          status: response.redirected ? 401 : response.status,
          code: "not_our_answer",
        };
      const tag = response.headers.get("ETag");
      this.#etag = tag ? { tag, seq: job.seq } : null;
      return { type: "poll_ok", poll, job };
    } catch {
      // A redirect to the sign-in page of another site fails like this too. A poll that hung was aborted instead.
      if (bare && this.#unanswered === 0 && !signal.aborted) return this.#request(poll, reason, signal, false);
      this.#unanswered += 1;
      return { type: "poll_failed", poll, status: null, code: "no_answer" }; // shown as a lost connection
    }
  }

  /** @param {number} poll */
  #abortPoll(poll) {
    this.#polling?.abort();
    this.#polling = null;
    this.#answerChecks(poll, this.#checkResult("failed"));
  }

  /** @param {CheckResult["outcome"]} outcome @returns {CheckResult} */
  #checkResult(outcome) {
    return {
      outcome: this.#state.done ? "news" : outcome,
      status: this.#state.failure?.status ?? null,
      code: this.#state.failure?.code ?? null,
    };
  }

  /** @param {number | null} poll null for all @param {CheckResult} found */
  #answerChecks(poll, found) {
    const answered = this.#checks.filter((check) => poll === null || check.poll === poll);
    this.#checks = this.#checks.filter((check) => !answered.includes(check));
    for (const check of answered) check.resolve(found);
  }
}

/**
 * @param {number} poll
 * @param {Response} response
 * @param {any} body
 * @param {number} wall_ms
 * @returns {WatchEvent & {poll: number}}
 */
function pollFailure(poll, response, body, wall_ms) {
  return {
    type: "poll_failed",
    poll,
    status: response.status,
    code: typeof body?.code === "string" ? body.code : null,
    retry_after_ms: retryAfterMs(response.headers, wall_ms),
  };
}

/** Return the milliseconds until the next heartbeat, or null. @param {any} heartbeat @returns {number | null} */
function nextHeartbeatMs(heartbeat) {
  return typeof heartbeat.next_s === "number" ? heartbeat.next_s * 1_000 : null;
}

/** Parse an object; return null for anything else. @param {string} text */
function parse(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null; // the caller treats it as a broken answer
  }
}

/** @returns {Platform} */
function thisPlatform() {
  return {
    ...networkPlatform(),
    eventSource: SharedEventSource,
    document: typeof document === "undefined" ? null : document,
    window: typeof window === "undefined" ? null : window,
  };
}
