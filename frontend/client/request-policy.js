/*
 * Decides how long to wait after a request that failed: one rule for every request of a page, PROTOCOL.md, section 5.
 * It must not know what is requested, a clock, randomness or the network.
 * See also: watchdog.js, which applies it to polls; requests.js, which applies it to all other requests.
 */
const SECOND_MS = 1_000;
export const BACKOFF_MIN_MS = 2 * SECOND_MS;
export const BACKOFF_MAX_MS = 10 * SECOND_MS;
export const BACKOFF_UNANSWERED_MS = 4 * SECOND_MS; // an unanswered request loads no server
export const SIGNED_OUT_PAUSE_MS = 60 * SECOND_MS;
export const RETRY_AFTER_MAX_MS = 120 * SECOND_MS; // a server may not silence a client for longer
export const CLICK_PAUSE_MS = 1 * SECOND_MS; // after a failure: a key that is held down clicks 30 times a second
export const TIMEOUT_MS = 10 * SECOND_MS; // shorter timeouts made outages longer (measured)

/** @typedef {object} Failure
 * @property {number | null} status null if there was no answer
 * @property {number | null} [retry_after_ms] as the answer asked */

/** Return the pause before the same request is sent again, after this many failures in a row.
 * @param {Failure} failure @param {number} failures @param {number} random from 0 to 1 */
export function pauseAfter(failure, failures, random) {
  if (failure.status === 401 || failure.status === 403) return SIGNED_OUT_PAUSE_MS;
  const limit = failure.status === null ? BACKOFF_UNANSWERED_MS : BACKOFF_MAX_MS;
  return Math.max(backoff(failures, limit, random), askedPause(failure));
}

/** Return the pause that the server asked for, within bounds; 0 if it asked for none. @param {Failure} failure */
export function askedPause({ retry_after_ms }) {
  return Math.min(RETRY_AFTER_MAX_MS, Math.max(0, retry_after_ms ?? 0));
}

/** Read Retry-After, in seconds or as a date, or null.
 * @param {Headers} headers @param {number} wall_ms the time now, for an answer without its own */
export function retryAfterMs(headers, wall_ms) {
  const text = headers.get("Retry-After") ?? "";
  const seconds = Number(text);
  if (text.trim() && seconds >= 0) return seconds * SECOND_MS;
  const now = Date.parse(headers.get("Date") ?? "") || wall_ms; // the server's clock, if the answer tells
  return Date.parse(text) > now ? Date.parse(text) - now : null;
}

/** Return 2, 4, 8 … seconds up to the limit, each shortened by up to a quarter.
 * @param {number} failures @param {number} limit @param {number} random */
function backoff(failures, limit, random) {
  const pause = Math.min(limit, BACKOFF_MIN_MS * 2 ** Math.min(failures - 1, 10));
  return pause * (0.75 + random / 4);
}
