/*
 * Sends the requests of a page that are no polls of a follower, and holds back those that come too soon: whatever
 * asks, and however often, a request that failed is repeated only after its pause.
 * It must not know what is requested, nor texts or the DOM.
 * See also: request-policy.js, which decides the pauses; follower.js for streams and their polls.
 */
import { networkPlatform } from "./platform.js";
import { askedPause, CLICK_PAUSE_MS, pauseAfter, retryAfterMs, TIMEOUT_MS } from "./request-policy.js";

/**
 * An answer: `ok` if it is a JSON object with a status below 300. `status` is null if there was none.
 * @typedef {{ok: boolean, status: number | null, body: any, retry_after_ms: number | null}} Answer
 */

/** @import { NetworkPlatform } from "./platform.js" */

/**
 * What is known of a key: whether a request is in flight, and until when (steady clock) the next one waits.
 * @typedef {{inFlight: boolean, failures: number, pollAt: number, sendAt: number, last: Answer | null}} Known
 */

const CLICK_TIMEOUT_MS = 30_000; // a change, such as a retry of 10,000 files, may take longer than a poll

const ACCEPT = { Accept: "application/json" };
/** @type {Answer} */
const UNANSWERED = { ok: false, status: null, body: null, retry_after_ms: null };

/** The requests of a page, or of one element. Those with the same key share one pause, and one is in flight. */
export class Requests {
  /** @type {NetworkPlatform} */ #platform;
  /** @type {Map<string, Known>} */ #known = new Map();

  /** @param {Partial<NetworkPlatform>} [given] */
  constructor(given = {}) {
    this.#platform = { ...networkPlatform(), ...given };
  }

  /** Return the milliseconds until `poll` with this key sends again. @param {string} key */
  wait(key) {
    return Math.max(0, (this.#known.get(key)?.pollAt ?? 0) - this.#platform.steady());
  }

  /**
   * Fetch what the page needs by itself, one URL after another until one fails.
   *
   * Resolves to the answers, or to null if nothing was sent because one with this key is in flight, or its pause
   * lasts.
   * @param {string} key
   * @param {...string} urls
   * @returns {Promise<Answer[] | null>}
   */
  async poll(key, ...urls) {
    const known = this.#knownOf(key);
    if (known.inFlight || this.wait(key) > 0) return null;
    /** @type {Answer[]} */
    const answers = [];
    known.inFlight = true;
    for (const url of urls) {
      const answer = await this.#request(url, { headers: ACCEPT }, TIMEOUT_MS);
      answers.push(answer);
      if (!answer.ok) break;
    }
    known.inFlight = false;
    this.#record(key, known, answers.at(-1) ?? null);
    return answers;
  }

  /**
   * Send the request of a click.
   *
   * If the last one failed just now, it waits a moment. While a pause lasts that the server asked for, nothing is
   * sent, and its answer is given again. Resolves to null if the same request is in flight.
   * @param {string} url
   * @param {RequestInit} [init]
   * @returns {Promise<Answer | null>}
   */
  async send(url, init = {}) {
    const key = `${init.method ?? "GET"} ${url}`;
    const known = this.#knownOf(key);
    if (known.inFlight) return null;
    const wait = known.sendAt - this.#platform.steady();
    if (known.last && wait > CLICK_PAUSE_MS) return known.last;
    known.inFlight = true;
    if (wait > 0) await new Promise((resolve) => this.#platform.setTimeout(() => resolve(null), wait));
    const headers = { ...ACCEPT, .../** @type {Record<string, string>} */ (init.headers) };
    const answer = await this.#request(url, { ...init, headers }, CLICK_TIMEOUT_MS);
    known.inFlight = false;
    this.#record(key, known, answer);
    return answer;
  }

  /** @param {string} key @returns {Known} */
  #knownOf(key) {
    const known = this.#known.get(key) ?? { inFlight: false, failures: 0, pollAt: 0, sendAt: 0, last: null };
    this.#known.set(key, known);
    return known;
  }

  /** @param {string} key @param {Known} known @param {Answer | null} answer */
  #record(key, known, answer) {
    if (!answer || answer.ok) {
      this.#known.delete(key);
      return;
    }
    const now = this.#platform.steady();
    known.failures += 1;
    known.last = answer;
    known.pollAt = now + pauseAfter(answer, known.failures, this.#platform.random());
    known.sendAt = now + Math.max(CLICK_PAUSE_MS, askedPause(answer));
  }

  /** @param {string} url @param {RequestInit} init @param {number} timeoutMs @returns {Promise<Answer>} */
  async #request(url, init, timeoutMs) {
    const { fetch, wall, setTimeout, clearTimeout } = this.#platform;
    const aborting = new AbortController();
    const timer = setTimeout(() => aborting.abort(), timeoutMs);
    try {
      const response = await fetch(url, { ...init, signal: aborting.signal });
      const body = await response.json().catch(() => null);
      if (aborting.signal.aborted) return UNANSWERED;
      const ok = response.ok && body !== null && typeof body === "object";
      return { ok, status: response.status, body, retry_after_ms: retryAfterMs(response.headers, wall()) };
    } catch {
      return UNANSWERED; // shown by the caller
    } finally {
      clearTimeout(timer);
    }
  }
}
