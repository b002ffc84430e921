/*
 * Decides what a client that watches a job does next: PROTOCOL.md, section 5, as a state machine.
 * It must not know a clock, randomness, the DOM or the network: (state, event, now, random) → [state, actions].
 * See also: watch-step.js and watch-state.js; server/unstuck/client/watchdog.py, its twin in Python;
 * tests/vectors.
 *
 * The rules in prose:
 *  1. While it watches, there is a stream or a time at which one will be opened; without a live stream there is a
 *     poll in flight or a time for the next one. `ensureRetryPlanned` enforces both after every event, so no
 *     sequence of events can leave a client waiting for nothing.
 *  2. The highest `seq` is held. A lower one is believed in three cases only: it is in the first job of a stream,
 *     and nothing was accepted since that stream was requested; it comes with `done` (nothing follows a final
 *     state, so the state held comes from a history that no longer exists); or two polls in a row return it.
 *  3. `done` ends everything at once: streams, poll, timer. Nothing can undo it.
 *  4. A stream is live from its first named event; being open proves nothing, because a proxy may hold back its
 *     bytes. A stream without an event after 10 s is broken.
 *  5. A heartbeat says when the next one is due. A missed one is a reason to poll. If that poll returns what the
 *     stream did not send, or a second heartbeat is missed, the stream is suspected of being dead and a spare is
 *     opened. The suspect stays until the spare has sent an event, because it often recovers first.
 *  6. At most one poll is in flight, and none is aborted before 10 s. A poll without any answer is repeated after
 *     2 to 4 s, since only a new attempt notices soon that the network is back. Streams are tried less often then,
 *     and at once when a poll is answered. A poll that is requested during another follows it at once, whether
 *     that one was answered or failed, since it may be older than the reason for the new one.
 *  7. A page that is shown again, or an event long after the timer was due, means that the machine slept: poll at
 *     once, suspect no stream for 5 s (events that arrived meanwhile are delivered only now), and restart the
 *     give-up limit. When the network is back, older streams are not trusted: a spare is opened at once, and they
 *     are suspected after those 5 s.
 *  8. Giving up, an expired sign-in and an unknown job are different ends, and each has a way back.
 */
import { pauseAfter } from "./request-policy.js";
import * as w from "./watch-state.js";
import { Step } from "./watch-step.js";

/** @import { Phase, PollReason, Standing, WatchAction, WatchEvent, WatchState } from "../wire" */
/** @typedef {(step: Step, event: any) => void} Handler */

/** Event → phase → handler. In a phase that is not listed, the event is ignored.
 * @type {Record<WatchEvent["type"], Partial<Record<Phase, Handler>>>} */
const HANDLERS = {
  start: { new: onStart },
  stream_open: { watching: onStreamOpen },
  job: { watching: onJob },
  items: { watching: onItems },
  heartbeat: { watching: onHeartbeat },
  leaving: { watching: onLeaving },
  gone: { watching: onGone },
  stream_error: { watching: onStreamError },
  poll_ok: { watching: onPollAnswered },
  poll_not_modified: { watching: onPollAnswered },
  poll_failed: { watching: onPollFailed },
  job_answered: { watching: onJobAnswered },
  page_shown: { watching: wake, gave_up: resumeOnWake },
  online: { watching: wake, gave_up: resumeOnWake },
  offline: { watching: onOffline },
  manual_check: { watching: onManualCheck, gave_up: resumeOnRequest, not_found: resumeOnRequest },
  tick: {}, // runs the timers only
};

/** Deadline → handler, in this order. Every handler moves its own deadline.
 * @type {[due: (state: WatchState) => number | null, handler: (step: Step) => void][]} */
const TIMERS = [
  [w.giveUpAt, giveUp],
  [w.pollTimeoutAt, abortPoll],
  [w.streamTimeoutAt, loseMuteStream],
  [w.spareTimeoutAt, loseMuteSpare],
  [w.reopenAt, reopenStream],
  [w.replaceStreamAt, replaceStream],
  [w.latePollAt, pollLate],
  [w.plannedPollAt, pollAsPlanned],
  [w.silencePollAt, pollSilence],
];

/** Return the next state and the actions that follow from an event. `state` itself is not changed.
 * @param {WatchState} state @param {WatchEvent} event @param {number} now_ms @param {number} random from 0 to 1
 * @returns {[WatchState, WatchAction[]]} */
export function step(state, event, now_ms, random) {
  const handlers = HANDLERS[event.type];
  if (!handlers) {
    const known = Object.keys(HANDLERS).join(", ");
    throw new Error(`watchdog: unknown event '${event.type}'; the known ones are ${known}`);
  }
  const stream = state.stream && { ...state.stream };
  const spare = state.spare && { ...state.spare };
  const after = { ...state, stream, spare };
  const current = new Step(after, now_ms, random);
  const handler = handlers[state.phase];
  const slept = state.wake_at !== null && now_ms > state.wake_at + w.TIMER_LATE_MAX_MS;
  if (handler) handler(current, event);
  // Any event may be the first after sleep.
  if (slept && handler !== wake && after.phase === "watching") wake(current, event);
  runTimers(current);
  if (after.wake_at !== state.wake_at) current.actions.push({ type: "wake_at", at_ms: after.wake_at });
  return [after, current.actions];
}

/** Run the timers that are due, and set the time of the next one. @param {Step} step */
function runTimers(step) {
  const { state, now } = step;
  let ran = true;
  for (let pass = 0; ran && pass < 5; pass += 1) {
    ensureRetryPlanned(step);
    ran = false;
    for (const [due, handler] of TIMERS) {
      const at = state.phase === "watching" ? due(state) : null;
      if (at !== null && at <= now) {
        handler(step);
        ran = true; // a timer may make another one due
      }
    }
  }
  state.link = w.linkOf(state, now);
  if (state.phase === "watching") {
    const dues = TIMERS.map(([due]) => due(state) ?? Infinity);
    state.wake_at = Math.max(now + 1, Math.min(now + w.CHECK_EVERY_MS, ...dues));
  } else state.wake_at = null;
}

/** Rule 1: plan a stream if there is none, and a poll if no stream is live. @param {Step} step */
function ensureRetryPlanned(step) {
  const { state, now } = step;
  if (state.phase !== "watching") return;
  if (!state.stream && state.reopen_at === null && !state.signed_out) state.reopen_at = now;
  if (!w.isLive(state, now) && !state.poll && state.poll_at === null) {
    step.planPoll(state.poll_after_ms, "fallback");
  }
}

// --- beginning and ending
/** Start watching. `job` is one that the caller already holds, such as the answer to its submission.
 * @param {Step} step @param {{job?: Standing | null}} event */
function onStart(step, event) {
  step.state.started_at = step.now;
  step.beginWatching();
  if (event.job) step.acceptJob(event.job);
  if (step.state.done) return;
  step.openStream();
  step.planPoll(w.FIRST_POLL_MS, "fallback");
}

/** Accept the job from the answer to another request, such as cancel.
 * @param {Step} step @param {{job: Standing}} event */
function onJobAnswered(step, event) {
  if (event.job.seq >= step.state.seq || event.job.done) step.acceptJob(event.job);
}

/** @param {Step} step */
function resumeOnWake(step) {
  resume(step, "wake");
}

/** @param {Step} step */
function resumeOnRequest(step) {
  resume(step, "manual");
}

/** Watch again, after watching had ended although the job was not done.
 * @param {Step} step @param {PollReason} reason */
function resume(step, reason) {
  step.beginWatching();
  step.openStream();
  step.requestPoll(reason);
}

/** @param {Step} step */
function giveUp(step) {
  step.end("gave_up");
}

// --- streams
/** @param {Step} step @param {{stream: number}} event */
function onStreamOpen(step, event) {
  const stream = w.streamOf(step.state, event);
  if (!stream) return;
  stream.opened_at = step.now;
  step.requestPoll("reconnect");
}

/** @param {Step} step @param {{stream: number, job: Standing}} event */
function onJob(step, event) {
  const stream = step.touchStream(event);
  if (!stream) return;
  const { job } = event;
  const { seq } = step.state;
  const firstAndNothingNewer = stream.seq_at_request === seq;
  stream.seq_at_request = null;
  if (firstAndNothingNewer || job.seq >= seq || job.done) step.acceptJob(job); // rule 2
}

/** @param {Step} step @param {{stream: number}} event */
function onItems(step, event) {
  step.touchStream(event);
}

/** Confirm the state, or poll if it is behind. `seq` is this job's, or null if the heartbeat does not name it.
 * @param {Step} step @param {{stream: number, seq: number | null, next_ms?: number | null}} event */
function onHeartbeat(step, event) {
  const stream = w.streamOf(step.state, event);
  if (stream) stream.heartbeat_ms = w.heartbeatInterval(event.next_ms);
  if (!step.touchStream(event) || event.seq === null) return;
  step.confirm();
  if (event.seq > step.state.seq) step.requestPoll("behind");
}

/** Close a stream that the server is about to close, and reopen it after `retry_ms` to twice that time.
 * @param {Step} step @param {{stream: number, retry_ms: number}} event */
function onLeaving(step, event) {
  const stream = step.touchStream(event);
  if (!stream) return;
  step.closeStream(stream);
  const retryMs = Math.min(w.LEAVING_MAX_MS, Math.max(w.STREAM_BACKOFF_MIN_MS, event.retry_ms || 0));
  step.state.stream = null;
  step.state.stream_failures = 0;
  step.state.reopen_at = Math.round(step.now + retryMs * (1 + step.random));
  // All viewers of that server plan their first poll meanwhile at this moment, so it is spread too.
  const spreadMs = step.random * (step.state.poll_after_ms - w.POLL_AFTER_MIN_MS);
  step.planPoll(w.POLL_AFTER_MIN_MS + spreadMs, "fallback");
}

/** @param {Step} step @param {{stream: number}} event */
function onGone(step, event) {
  if (step.touchStream(event)) step.end("not_found");
}

/** @param {Step} step @param {{stream: number}} event */
function onStreamError(step, event) {
  step.loseStream(w.streamOf(step.state, event));
}

/** @param {Step} step */
function loseMuteStream(step) {
  step.loseStream(step.state.stream);
}

/** @param {Step} step */
function loseMuteSpare(step) {
  step.loseStream(step.state.spare);
}

/** @param {Step} step */
function reopenStream(step) {
  step.openStream();
}

/** Replace a stream that has missed two heartbeats. @param {Step} step */
function replaceStream(step) {
  step.requestPoll("watchdog");
  step.openStream();
}

// --- polls
/** Accept the job of a poll; `job` is missing if it was not modified.
 * @param {Step} step @param {{poll: number, job?: Standing}} event */
function onPollAnswered(step, event) {
  const { state } = step;
  if (!w.isInFlight(state, event)) return;
  const wanted = step.finishPoll();
  if (w.lastPollUnanswered(state) && state.reopen_at !== null) state.reopen_at = step.now; // the network is back
  let streamMissedIt = false;
  const { job } = event;
  if (job) {
    streamMissedIt = job.seq > state.seq && w.isLate(state, step.now);
    if (job.seq < state.seq) state.lower_seq_answers += 1;
    const believed = job.seq >= state.seq || job.done || state.lower_seq_answers >= w.LOWER_SEQ_ANSWERS; // rule 2
    if (believed) step.acceptJob(job);
  }
  if (state.phase !== "watching") return;
  if (streamMissedIt) step.suspectStream();
  state.polling = !w.isLive(state, step.now);
  step.confirm();
  if (wanted) step.requestPoll(wanted);
}

/** Plan another poll. `status` is null if there was no answer; `code` and `retry_after_ms` may be missing.
 * @param {Step} step
 * @param {{poll: number, status: number | null, code?: string | null, retry_after_ms?: number | null}} event */
function onPollFailed(step, event) {
  const { state } = step;
  if (!w.isInFlight(state, event)) return;
  const wanted = step.finishPoll();
  const { status, code = null } = event;
  state.failure = { status, code };
  if (code === "job_not_found" || code === "invalid_job_id") {
    step.end("not_found");
    return;
  }
  if (status === 404 || status === 410) state.not_found_answers += 1;
  state.signed_out = status === 401 || status === 403;
  state.poll_failures += 1;
  if (state.signed_out) state.reopen_at = null;
  if (wanted) step.requestPoll(wanted);
  else step.planPoll(pauseAfter(event, state.poll_failures, step.random), "fallback");
}

/** @param {Step} step */
function abortPoll(step) {
  const { poll } = step.state;
  if (!poll) return;
  step.actions.push({ type: "abort_poll", poll: poll.number });
  onPollFailed(step, { poll: poll.number, status: null, code: "timeout" });
}

/** @param {Step} step */
function pollLate(step) {
  step.requestPoll("late");
}

/** @param {Step} step */
function pollAsPlanned(step) {
  step.requestPoll(step.state.poll_reason);
}

/** Poll after silence: a live stream may never mention this job. @param {Step} step */
function pollSilence(step) {
  step.requestPoll("watchdog");
}

// --- the page and the user
/** Apply rule 7: the page was shown, the network is back, or the machine slept.
 * @param {Step} step @param {{type: string}} event */
function wake(step, event) {
  const { state, now } = step;
  const networkBack = event.type === "online";
  state.stream_failures = 0;
  state.browser_offline = false;
  state.give_up_at = now + w.GIVE_UP_MS;
  const { stream } = state;
  const graceEndsAt = now + w.WAKE_GRACE_MS;
  if (stream && stream.late_at !== null && stream.suspect_at !== null) {
    stream.late_at = networkBack ? graceEndsAt : Math.max(stream.late_at, graceEndsAt);
    stream.suspect_at = networkBack ? graceEndsAt : Math.max(stream.suspect_at, graceEndsAt);
  }
  if (state.reopen_at !== null) state.reopen_at = now;
  step.requestPoll("wake");
  if (networkBack && !state.signed_out) step.openStream({ evenIfLive: true });
}

/** @param {Step} step */
function onOffline(step) {
  step.state.browser_offline = true;
}

/** @param {Step} step */
function onManualCheck(step) {
  if (step.state.reopen_at !== null) step.state.reopen_at = step.now;
  step.requestPoll("manual");
}
