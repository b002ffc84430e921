/*
 * The state of a client that watches a job: its shape, the times it goes by, and what is true of it.
 * The twin of watch.py, as watchdog.js is that of watchdog.py, with the same names and figures. Plain data: a state can be written as JSON and read again. It must not know a clock, chance,
 * the network, any other file, or what happens next.
 */

/** @import { WatchState, WatchStream, Link } from "../wire" */

export const SECOND_MS = 1_000;
export const HEARTBEAT_MS = 15 * SECOND_MS; // the next beat, where the last one did not say when it comes
export const BEAT_MIN_MS = 1 * SECOND_MS; // bounds for what it says
export const BEAT_MAX_MS = 30 * SECOND_MS;
export const BEAT_LATE_MS = 2 * SECOND_MS; // what a slow network may add to one beat, and again to the second
export const BEAT_SPREAD_MS = 2 * SECOND_MS; // when a path dies, its viewers do not all ask in one moment
export const SPEAK_WITHIN_MS = 10 * SECOND_MS; // asked for (or open) and still no event: broken or buffered
export const STREAM_BACKOFF_MIN_MS = 500;
export const STREAM_BACKOFF_MAX_MS = 30 * SECOND_MS;
export const STREAM_UNANSWERED_MS = 60 * SECOND_MS; // while polls are not answered either, places in the pool are for them
export const STREAM_SETTLED_MS = 10 * SECOND_MS; // a stream that lived so long starts the back-off anew
export const LEAVING_MAX_MS = 60 * SECOND_MS; // a server may not send us away for longer
export const FIRST_POLL_MS = 1 * SECOND_MS; // the first stream is usually quicker; if not, ask
export const BREAK_SPREAD_MS = 1 * SECOND_MS; // when a server dies, its viewers do not all ask in one moment
export const POLL_TIMEOUT_MS = 10 * SECOND_MS; // aborting sooner made outages longer (measured)
export const POLL_BACKOFF_MIN_MS = 2 * SECOND_MS;
export const POLL_BACKOFF_MAX_MS = 10 * SECOND_MS;
export const UNANSWERED_MAX_MS = 4 * SECOND_MS; // nobody is there to be spared, and nothing tells when somebody is
export const POLL_AFTER_MIN_MS = 1 * SECOND_MS; // bounds for the server's poll_after_ms
export const POLL_AFTER_MAX_MS = 60 * SECOND_MS;
export const POLL_AFTER_DEFAULT_MS = 5 * SECOND_MS;
export const RETRY_AFTER_MAX_MS = 120 * SECOND_MS; // a server may not silence us for longer
export const SLOW_POLL_MS = 60 * SECOND_MS; // signed out
export const SILENCE_LIMIT_MS = 60 * SECOND_MS;
export const CHECK_EVERY_MS = 15 * SECOND_MS; // no timer is set further ahead than this
export const LATE_TIMER_MS = 75 * SECOND_MS; // hidden pages get timers up to 60 s late; beyond that the page slept
export const WAKE_GRACE_MS = 5 * SECOND_MS; // what came in during sleep is delivered within this
export const GIVE_UP_MS = 30 * 60 * SECOND_MS; // without any news of the job, and without a sleep
export const NOT_FOUND_ANSWERS = 3; // a proxy without a backend also says 404, so do not believe one
export const LOWER_ANSWERS = 2;

/** @returns {WatchState} */
export function newState() {
  return {
    phase: "new", link: "connecting", seq: -1, done: false, started_at: 0, news_at: null, give_up_at: 0, wake_at: null,
    stream: null, spare: null, next_stream: 1, stream_failures: 0, reopen_at: null,
    poll: null, next_poll: 1, poll_at: null, poll_reason: "fallback", poll_wanted: null,
    poll_failures: 0, poll_after_ms: POLL_AFTER_DEFAULT_MS, polling: false, failure: null,
    browser_offline: false, signed_out: false, not_found_answers: 0, lower_answers: 0,
  };
}

// --- what is true of a state
/** @param {WatchState} s @param {number} now */
export const lives = (s, now) => now < (doubtAt(s) ?? -Infinity);

/** @param {WatchState} s */
export const doubtAt = (s) => s.stream && s.stream.doubt_at;

/** @param {WatchState} s */
export const lateAt = (s) => s.stream && s.stream.late_at;

/** This time, unless a poll is under way or planned, or the state of the job was confirmed since. @param {WatchState} s @param {number | null} at */
export const unasked = (s, at) =>
  s.poll || s.poll_at !== null || at === null || (s.news_at !== null && s.news_at >= at) ? null : at;

/** A beat was missed, and the stream is not doubted yet. @param {WatchState} s @param {number} now */
export const late = (s, now) => (lateAt(s) ?? Infinity) <= now && lives(s, now);

/** @param {WatchState} s */
export const silentAt = (s) => Math.max(s.started_at, s.news_at ?? 0) + SILENCE_LIMIT_MS;

/** @param {WatchStream | null} stream */
export const muteUntil = (stream) =>
  stream && stream.spoke_at === null ? (stream.opened_at ?? stream.asked_at) + SPEAK_WITHIN_MS : null;

/** @param {WatchState} s @param {{stream: number}} e */
export const streamOf = (s, e) => [s.stream, s.spare].find((one) => one?.number === e.stream);

/** @param {WatchState} s @param {number} now @returns {Link} */
export function linkOf(s, now) {
  if (s.phase !== "watching") return s.phase === "new" ? "connecting" : s.phase;
  if (s.signed_out) return "signed_out";
  if (lives(s, now)) return s.poll && ["behind", "late", "wake"].includes(s.poll.reason) ? "catching_up" : "live";
  if (s.not_found_answers >= NOT_FOUND_ANSWERS) return "not_found";
  if (s.browser_offline || s.poll_failures > 0) return "offline";
  if (s.polling) return "polling";
  const opened = s.stream !== null && s.stream.opened_at !== null && s.stream.spoke_at === null;
  return opened && s.news_at !== null ? "catching_up" : "connecting";
}

/** Nobody answered the last poll, neither well nor badly. @param {WatchState} s */
export const unanswered = (s) => s.failure !== null && s.failure.status === null;

/** When the next beat is late, and when a second one is, if nothing is heard from now on.
 * @param {number} beatMs @param {number} now @param {number} random @returns {[number, number]} */
export function beatsMissed(beatMs, now, random) {
  const late = now + beatMs + BEAT_LATE_MS + Math.round(random * BEAT_SPREAD_MS);
  return [late, late + beatMs + BEAT_LATE_MS];
}

/** The time within which the next beat comes, as the last one said. @param {number | null | undefined} nextMs */
export const promised = (nextMs) => (nextMs == null ? HEARTBEAT_MS : Math.round(Math.min(BEAT_MAX_MS, Math.max(BEAT_MIN_MS, nextMs))));

/** Until the next stream is tried. @param {WatchState} s @param {number} random */
export const streamPause = (s, random) =>
  unanswered(s) ? Math.round(STREAM_UNANSWERED_MS * (0.75 + random / 4)) : streamBackoff(s.stream_failures, random);

/** Full jitter: anything between the shortest pause and a limit that doubles.
 * @param {number} failures @param {number} random */
function streamBackoff(failures, random) {
  const limit = Math.min(STREAM_BACKOFF_MAX_MS, STREAM_BACKOFF_MIN_MS * 2 ** Math.min(failures, 10));
  return Math.round(STREAM_BACKOFF_MIN_MS + random * (limit - STREAM_BACKOFF_MIN_MS));
}

/** 2, 4, 8 … seconds up to the limit, each up to a quarter shorter. @param {number} failures @param {number} limit @param {number} random */
export const pollBackoff = (failures, limit, random) =>
  Math.min(limit, POLL_BACKOFF_MIN_MS * 2 ** Math.min(failures - 1, 10)) * (0.75 + random / 4);
