/*
 * Holds the state of a client that watches a job: its fields, its deadlines, and what they mean. The fields are in
 * snake_case, as in tests/vectors.
 * It must not decide anything, nor know a clock, randomness or the network.
 * See also: request-policy.js for the pauses after a failed poll; watch-step.js and watchdog.js, which change it; server/unstuck/client/watch_state.py, its twin in
 * Python.
 */
import { TIMEOUT_MS } from "./request-policy.js";

/** @import { WatchState, WatchStream, Link } from "../wire" */

export const SECOND_MS = 1_000;
export const HEARTBEAT_DEFAULT_MS = 15 * SECOND_MS; // until the next heartbeat, unless the last one says otherwise
export const HEARTBEAT_MIN_MS = 1 * SECOND_MS; // bounds for the interval that a heartbeat announces
export const HEARTBEAT_MAX_MS = 30 * SECOND_MS;
export const HEARTBEAT_SLACK_MS = 2 * SECOND_MS; // for a slow network
export const HEARTBEAT_SPREAD_MS = 2 * SECOND_MS; // when a path dies, its viewers must not all poll at once
export const FIRST_EVENT_TIMEOUT_MS = 10 * SECOND_MS; // after the request (or opening) of a stream
export const STREAM_BACKOFF_MIN_MS = 500;
export const STREAM_BACKOFF_MAX_MS = 30 * SECOND_MS;
export const STREAM_PAUSE_UNANSWERED_MS = 60 * SECOND_MS; // while polls are unanswered: they need the connections
export const STREAM_SETTLED_MS = 10 * SECOND_MS; // a stream that lasted this long resets the back-off
export const LEAVING_MAX_MS = 60 * SECOND_MS; // a server may not send a client away for longer
export const FIRST_POLL_MS = 1 * SECOND_MS; // the first stream is usually faster
export const BREAK_SPREAD_MS = 1 * SECOND_MS; // when a server dies, its viewers must not all poll at once
export const POLL_AFTER_MIN_MS = 1 * SECOND_MS; // bounds for the server's poll_after_ms
export const POLL_AFTER_MAX_MS = 60 * SECOND_MS;
export const POLL_AFTER_DEFAULT_MS = 5 * SECOND_MS;
export const SILENCE_LIMIT_MS = 60 * SECOND_MS;
export const CHECK_EVERY_MS = 15 * SECOND_MS; // no timer is set further ahead than this
export const TIMER_LATE_MAX_MS = 75 * SECOND_MS; // timers of hidden pages are up to 60 s late; later: sleep
export const WAKE_GRACE_MS = 5 * SECOND_MS; // events that arrived during sleep are delivered within this time
export const GIVE_UP_MS = 30 * 60 * SECOND_MS; // without a confirmation of the job's state; sleep does not count
export const NOT_FOUND_ANSWERS = 3; // a proxy without a backend also answers 404, so one is not believed
export const LOWER_SEQ_ANSWERS = 2;

/** Return the state before the first event. @returns {WatchState} */
export function newState() {
  return {
    phase: "new",
    link: "connecting",
    seq: -1,
    done: false,
    started_at: 0,
    confirmed_at: null,
    give_up_at: 0,
    wake_at: null,
    stream: null,
    spare: null,
    next_stream: 1,
    stream_failures: 0,
    reopen_at: null,
    poll: null,
    next_poll: 1,
    poll_at: null,
    poll_reason: "fallback",
    poll_wanted: null,
    poll_failures: 0,
    poll_after_ms: POLL_AFTER_DEFAULT_MS,
    polling: false,
    failure: null,
    browser_offline: false,
    signed_out: false,
    not_found_answers: 0,
    lower_seq_answers: 0,
  };
}

/** @param {number} number @param {number} requested_at @param {number} seq_at_request @returns {WatchStream} */
export function newStream(number, requested_at, seq_at_request) {
  return {
    number,
    requested_at,
    seq_at_request,
    opened_at: null,
    first_event_at: null,
    heartbeat_ms: HEARTBEAT_DEFAULT_MS,
    late_at: null,
    suspect_at: null,
  };
}

// --- streams
/** Return the time at which the stream in use has missed two heartbeats.
 * @param {WatchState} state @returns {number | null} */
export function suspectAt(state) {
  return state.stream && state.stream.suspect_at;
}

/** Return the time at which the stream in use has missed one heartbeat.
 * @param {WatchState} state @returns {number | null} */
export function lateAt(state) {
  return state.stream && state.stream.late_at;
}

/** Return whether the stream in use has sent an event and is not suspected of being dead.
 * @param {WatchState} state @param {number} now */
export function isLive(state, now) {
  const at = suspectAt(state);
  return at !== null && now < at;
}

/** Return whether the stream in use has missed one heartbeat but is not suspected of being dead yet.
 * @param {WatchState} state @param {number} now */
export function isLate(state, now) {
  const at = lateAt(state);
  return at !== null && at <= now && isLive(state, now);
}

/** Return the stream that an event came from, or null if it was closed before.
 * @param {WatchState} state @param {{stream: number}} event @returns {WatchStream | null} */
export function streamOf(state, event) {
  for (const stream of [state.stream, state.spare]) {
    if (stream !== null && stream.number === event.stream) return stream;
  }
  return null;
}

// --- polls
/** Return whether the poll is in flight: the answer to an aborted one does not count.
 * @param {WatchState} state @param {{poll: number}} event */
export function isInFlight(state, event) {
  return state.poll !== null && state.poll.number === event.poll;
}

/** Return whether the last poll got no answer at all, not even an error. @param {WatchState} state */
export function lastPollUnanswered(state) {
  return state.failure !== null && state.failure.status === null;
}

// --- deadlines: the time at which each timer of the policy is due, or null while it is not set
/** @param {WatchState} state */
export function giveUpAt(state) {
  return state.give_up_at;
}

/** @param {WatchState} state */
export function pollTimeoutAt(state) {
  return state.poll && state.poll.requested_at + TIMEOUT_MS;
}

/** @param {WatchState} state */
export function streamTimeoutAt(state) {
  return firstEventDueAt(state.stream);
}

/** @param {WatchState} state */
export function spareTimeoutAt(state) {
  return firstEventDueAt(state.spare);
}

/** Return the time at which a stream without an event counts as broken. It restarts when the stream opens.
 * @param {WatchStream | null} stream */
function firstEventDueAt(stream) {
  if (stream === null || stream.first_event_at !== null) return null;
  return (stream.opened_at ?? stream.requested_at) + FIRST_EVENT_TIMEOUT_MS;
}

/** @param {WatchState} state */
export function reopenAt(state) {
  return state.reopen_at;
}

/** Return the time to open a spare, or null if there is one, one is planned, or it would be refused.
 * @param {WatchState} state */
export function replaceStreamAt(state) {
  if (state.spare || state.reopen_at !== null || state.signed_out) return null;
  return suspectAt(state);
}

/** Return the time at which a missed heartbeat is a reason to poll. @param {WatchState} state */
export function latePollAt(state) {
  return pollNeededAt(state, lateAt(state));
}

/** @param {WatchState} state */
export function plannedPollAt(state) {
  return state.poll ? null : state.poll_at;
}

/** Return the time at which the silence limit is reached. @param {WatchState} state */
export function silencePollAt(state) {
  const silentSince = Math.max(state.started_at, state.confirmed_at ?? 0);
  return pollNeededAt(state, silentSince + SILENCE_LIMIT_MS);
}

/** Return the time, or null if a poll is in flight or planned, or the job's state was confirmed since.
 * @param {WatchState} state @param {number | null} at */
function pollNeededAt(state, at) {
  if (state.poll || state.poll_at !== null || at === null) return null;
  return state.confirmed_at !== null && state.confirmed_at >= at ? null : at;
}

// --- what is shown
/** @param {WatchState} state @param {number} now @returns {Link} */
export function linkOf(state, now) {
  if (state.phase !== "watching") return state.phase === "new" ? "connecting" : state.phase;
  if (state.signed_out) return "signed_out";
  if (isLive(state, now)) {
    return state.poll && ["behind", "late", "wake"].includes(state.poll.reason) ? "catching_up" : "live";
  }
  if (state.not_found_answers >= NOT_FOUND_ANSWERS) return "not_found";
  if (state.browser_offline || state.poll_failures > 0) return "offline";
  if (state.polling) return "polling";
  const { stream } = state;
  const awaitsEvent = stream !== null && stream.opened_at !== null && stream.first_event_at === null;
  return awaitsEvent && state.confirmed_at !== null ? "catching_up" : "connecting";
}

// --- pauses and intervals, milliseconds
/** Return the time until the next heartbeat, as the last one announced it, within bounds.
 * @param {number | null | undefined} nextMs */
export function heartbeatInterval(nextMs) {
  if (nextMs == null) return HEARTBEAT_DEFAULT_MS;
  return Math.round(Math.min(HEARTBEAT_MAX_MS, Math.max(HEARTBEAT_MIN_MS, nextMs)));
}

/** Return the pause before the next stream is tried. @param {WatchState} state @param {number} random */
export function streamPause(state, random) {
  if (lastPollUnanswered(state)) return Math.round(STREAM_PAUSE_UNANSWERED_MS * (0.75 + random / 4));
  return streamBackoff(state.stream_failures, random);
}

/** Return a pause with full jitter, between the shortest pause and a limit that doubles.
 * @param {number} failures @param {number} random */
function streamBackoff(failures, random) {
  const limit = Math.min(STREAM_BACKOFF_MAX_MS, STREAM_BACKOFF_MIN_MS * 2 ** Math.min(failures, 10));
  return Math.round(STREAM_BACKOFF_MIN_MS + random * (limit - STREAM_BACKOFF_MIN_MS));
}
