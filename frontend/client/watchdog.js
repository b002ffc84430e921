/*
 * Decides what a client that watches a job does next: PROTOCOL.md, section 5, as a state machine.
 * It is given (state, event, now_ms, random 0..1) and answers [next state, actions]. It must not know
 * a clock, chance, the DOM or the network: plain data in, plain data out, so that its twin in Python can run
 * the same JSON vectors. Field names are snake_case for the same reason. Shapes and figures: watch.js.
 *
 * The rules in prose:
 *  1. While it watches, there is a stream or a time when one will be opened; without a stream that
 *     lives there is a poll in flight or a time for the next one. `keepTime` enforces both after
 *     every event, so no sequence of events can leave a client waiting for nothing.
 *  2. The highest `seq` is held. A lower one is believed in three cases only: it is the first job of a
 *     connection and nothing was taken since that was asked for; it says `done` (a final state has nothing
 *     after it, so what is held comes from a history that no longer exists); or two polls in a row say so.
 *  3. `done` ends everything at once: streams, poll, timer. Nothing can undo it.
 *  4. A stream has spoken when its first named event is there; being open proves nothing, a proxy may
 *     hold its bytes back. One that has not spoken after 10 s is broken.
 *  5. A beat says when the next one comes. One that is missed is a reason to poll, and if that brings what
 *     the stream did not, or a second beat is missed, the stream is doubted: a spare is opened. The doubted
 *     one stays until the spare has spoken, because it is often the first to heal (make before break).
 *  6. At most one poll is in flight, and none is aborted before 10 s. One that nobody answered is repeated
 *     after 2 to 4 s, since only a new attempt notices soon that the network is back; streams are tried
 *     less often then, and at once when a poll is answered. A poll asked for during another follows it at
 *     once, answered or failed, since the first may be older than the reason for the second.
 *  7. A page that was shown again, or an event long after the timer was due, means sleep: poll at once,
 *     doubt nothing for 5 s (what came in meanwhile comes only now), count anew until giving up. A stream
 *     of before the network came back is not relied upon: a spare at once, and doubt after those 5 s.
 *  8. Giving up, a sign-in that has run out and an unknown job are told apart, and each has a way back.
 */

import * as w from "./watch-state.js";
import { lives } from "./watch-state.js";

/** @import { WatchState, WatchEvent, WatchAction, WatchStream, Standing, PollReason } from "../wire" */
/** @typedef {{s: WatchState, actions: WatchAction[], now: number, random: number}} Turn */

const WATCHING = ["watching"];
const RESTING = ["gave_up", "not_found"];

/** What happens on which event, and in which phases it counts at all; elsewhere it is ignored.
 * @type {Record<string, [string[], (t: Turn, e: any) => void][]>} */
const ON = {
  start:             [[["new"], begin]],
  stream_open:       [[WATCHING, onStreamOpen]],
  job:               [[WATCHING, onJob]],
  items:             [[WATCHING, hear]],
  heartbeat:         [[WATCHING, onHeartbeat]],
  leaving:           [[WATCHING, onLeaving]],
  gone:              [[WATCHING, (t, e) => { if (hear(t, e)) end(t, "not_found"); }]],
  stream_error:      [[WATCHING, (t, e) => loseStream(t, w.streamOf(t.s, e))]],
  poll_ok:           [[WATCHING, onPollAnswered]],
  poll_not_modified: [[WATCHING, onPollAnswered]],
  poll_failed:       [[WATCHING, onPollFailed]],
  told:              [[WATCHING, (t, e) => { if (e.job.seq >= t.s.seq || e.job.done) take(t, e.job); }]], // the answer of another call, such as cancel
  page_shown:        [[WATCHING, wake], [["gave_up"], (t) => resume(t, "wake")]],
  online:            [[WATCHING, wake], [["gave_up"], (t) => resume(t, "wake")]],
  offline:           [[WATCHING, (t) => { t.s.browser_offline = true; }]],
  manual_check:      [[WATCHING, onManualCheck], [RESTING, (t) => resume(t, "manual")]],
  tick:              [[WATCHING, () => {}]],
};

/** What becomes due by the passing of time alone, in this order. Every deed moves its own due time.
 * @type {[due: (s: WatchState) => number | null, deed: (t: Turn) => void][]} */
const DUE = [
  [(s) => s.give_up_at,                                        (t) => end(t, "gave_up")],
  [(s) => s.poll && s.poll.asked_at + w.POLL_TIMEOUT_MS,         abortPoll],
  [(s) => w.muteUntil(s.stream),                                 (t) => loseStream(t, t.s.stream)],
  [(s) => w.muteUntil(s.spare),                                  (t) => loseStream(t, t.s.spare)],
  [(s) => s.reopen_at,                                         openStream],
  [(s) => (s.spare || s.reopen_at !== null || s.signed_out ? null : w.doubtAt(s)), (t) => { askPoll(t, "watchdog"); openStream(t); }],
  [(s) => w.unasked(s, w.lateAt(s)),                           (t) => askPoll(t, "late")],
  [(s) => (s.poll ? null : s.poll_at),                         (t) => askPoll(t, t.s.poll_reason)],
  [(s) => w.unasked(s, w.silentAt(s)),                         (t) => askPoll(t, "watchdog")], // a stream may live and not speak of the job
];

/** The one door: what follows from this event, now.
 * @param {WatchState} state @param {WatchEvent} event @param {number} now_ms @param {number} random from 0 to 1
 * @returns {[WatchState, WatchAction[]]} */
export function step(state, event, now_ms, random) {
  const rows = ON[event.type];
  if (!rows) throw new Error(`watchdog: there is no event '${event.type}'; it knows ${Object.keys(ON).join(", ")}`);
  const s = { ...state, stream: state.stream && { ...state.stream }, spare: state.spare && { ...state.spare } };
  /** @type {Turn} */
  const turn = { s, actions: [], now: now_ms, random };
  const [, deed = null] = rows.find(([phases]) => phases.includes(state.phase)) ?? [];
  const slept = state.wake_at !== null && now_ms > state.wake_at + w.LATE_TIMER_MS;
  if (deed) deed(turn, event);
  if (slept && deed !== wake && s.phase === "watching") wake(turn, event); // the first one after a sleep may be any
  keepTime(turn);
  if (s.wake_at !== state.wake_at) turn.actions.push({ type: "wake_at", at_ms: s.wake_at });
  return [s, turn.actions];
}

/** Do what is due, restore rule 1, and say when to look again. @param {Turn} t */
function keepTime(t) {
  const { s, now } = t;
  for (let pass = 0, busy = true; busy && pass < 5; pass += 1) {
    busy = false;
    if (s.phase === "watching" && !s.stream && s.reopen_at === null && !s.signed_out) s.reopen_at = now;
    if (s.phase === "watching" && !lives(s, now) && !s.poll && s.poll_at === null) planPoll(t, s.poll_after_ms, "fallback");
    for (const [due, deed] of DUE) {
      const at = s.phase === "watching" ? due(s) : null;
      if (at === null || at > now) continue;
      deed(t);
      busy = true;
    }
  }
  s.link = w.linkOf(s, now);
  if (s.phase !== "watching") s.wake_at = null;
  else s.wake_at = Math.max(now + 1, Math.min(now + w.CHECK_EVERY_MS, ...DUE.map(([due]) => due(s) ?? Infinity)));
}

// --- beginning and ending
/** @param {Turn} t @param {{job?: Standing | null}} e a job that the caller already holds, such as the answer of its submission */
function begin(t, e) {
  t.s.started_at = t.now;
  watch(t);
  if (e.job) take(t, e.job);
  if (t.s.done) return;
  openStream(t);
  planPoll(t, w.FIRST_POLL_MS, "fallback");
}

/** @param {Turn} t @param {"wake" | "manual"} reason */
function resume(t, reason) {
  watch(t);
  openStream(t);
  askPoll(t, reason);
}

/** @param {Turn} t */
function watch(t) {
  Object.assign(t.s, { phase: "watching", give_up_at: t.now + w.GIVE_UP_MS, stream_failures: 0, poll_failures: 0, failure: null,
    polling: false, not_found_answers: 0, lower_answers: 0, signed_out: false, browser_offline: false });
}

/** @param {Turn} t @param {"ended" | "not_found" | "gave_up"} phase */
function end(t, phase) {
  const { s, actions } = t;
  if (s.stream) actions.push({ type: "close_stream", stream: s.stream.number });
  if (s.spare) actions.push({ type: "close_stream", stream: s.spare.number });
  if (s.poll) actions.push({ type: "abort_poll", poll: s.poll.number });
  Object.assign(s, { phase, stream: null, spare: null, poll: null, poll_at: null, poll_wanted: null, reopen_at: null });
  actions.push({ type: "end", reason: phase, elapsed_minutes: Math.round((t.now - s.started_at) / (60 * w.SECOND_MS)) });
}

// --- the truth about the job
/** Hold this job and show it. @param {Turn} t @param {Standing} job */
function take(t, job) {
  Object.assign(t.s, { seq: job.seq, lower_answers: 0 });
  const asked = job.poll_after_ms ?? w.POLL_AFTER_DEFAULT_MS;
  t.s.poll_after_ms = Math.min(w.POLL_AFTER_MAX_MS, Math.max(w.POLL_AFTER_MIN_MS, asked));
  t.actions.push({ type: "show" });
  news(t);
  if (!job.done) return;
  t.s.done = true;
  end(t, "ended");
}

/** The state of the job is confirmed: what was planned to find it out is needless. @param {Turn} t */
function news(t) {
  Object.assign(t.s, { news_at: t.now, give_up_at: t.now + w.GIVE_UP_MS, poll_at: null, poll_failures: 0, failure: null,
    not_found_answers: 0, signed_out: false });
}

// --- streams
/** @param {Turn} t @param {boolean} [trusted] whether one that lives is enough */
function openStream(t, trusted = true) {
  const { s, now } = t;
  s.reopen_at = null;
  if ((trusted && lives(s, now)) || s.spare || (s.stream && s.stream.spoke_at === null)) return;
  const stream = { number: s.next_stream, asked_at: now, opened_at: null, spoke_at: null,
    beat_ms: w.HEARTBEAT_MS, late_at: null, doubt_at: null, held_before: s.seq };
  s.next_stream += 1;
  if (s.stream) s.spare = stream;
  else s.stream = stream;
  t.actions.push({ type: "open_stream", stream: stream.number });
}

/** @param {Turn} t @param {{stream: number}} e */
function onStreamOpen(t, e) {
  const stream = w.streamOf(t.s, e);
  if (!stream) return;
  stream.opened_at = t.now;
  askPoll(t, "reconnect");
}

/** A stream has spoken: it is the stream from now on. Answers null for one that was given up before.
 * @param {Turn} t @param {{stream: number}} e @returns {WatchStream | null} */
function hear(t, e) {
  const { s, now } = t;
  if (s.spare && s.spare.number === e.stream) [s.stream, s.spare] = [s.spare, s.stream];
  if (!s.stream || s.stream.number !== e.stream) return null;
  if (s.spare) t.actions.push({ type: "close_stream", stream: s.spare.number });
  s.stream.opened_at ??= now;
  s.stream.spoke_at ??= now;
  [s.stream.late_at, s.stream.doubt_at] = w.beatsMissed(s.stream.beat_ms, now, t.random);
  Object.assign(s, { spare: null, reopen_at: null, polling: false, signed_out: false });
  return s.stream;
}

/** @param {Turn} t @param {{stream: number, job: Standing}} e */
function onJob(t, e) {
  const stream = hear(t, e);
  if (!stream) return;
  const first = stream.held_before === t.s.seq;
  stream.held_before = null;
  if (first || e.job.seq >= t.s.seq || e.job.done) take(t, e.job);
}

/** @param {Turn} t @param {{stream: number, seq: number | null, next_ms?: number | null}} e `seq` of this job, null where the beat
 * does not name it; `next_ms` where it says when the next one comes */
function onHeartbeat(t, e) {
  const stream = w.streamOf(t.s, e);
  if (stream) stream.beat_ms = w.promised(e.next_ms);
  if (!hear(t, e) || e.seq === null) return;
  news(t);
  if (e.seq > t.s.seq) askPoll(t, "behind");
}

/** @param {Turn} t @param {{stream: number, retry_ms: number}} e */
function onLeaving(t, e) {
  const { s } = t;
  if (!hear(t, e) || !s.stream) return;
  t.actions.push({ type: "close_stream", stream: s.stream.number });
  const retry = Math.min(w.LEAVING_MAX_MS, Math.max(w.STREAM_BACKOFF_MIN_MS, e.retry_ms || 0));
  Object.assign(s, { stream: null, stream_failures: 0, reopen_at: Math.round(t.now + retry * (1 + t.random)) });
}

/** A stream broke, was refused, or never spoke. @param {Turn} t @param {WatchStream | null | undefined} lost */
function loseStream(t, lost) {
  const { s, now } = t;
  if (!lost) return;
  t.actions.push({ type: "close_stream", stream: lost.number });
  const main = lost === s.stream;
  if (main) s.stream = s.spare;
  s.spare = null;
  const settled = lost.spoke_at !== null && now - lost.spoke_at >= w.STREAM_SETTLED_MS;
  s.stream_failures = settled ? 1 : s.stream_failures + 1;
  const alone = s.stream === null || s.stream.spoke_at !== null;
  if (alone && !s.signed_out) s.reopen_at = now + w.streamPause(s, t.random);
  if (main && s.poll_failures === 0) planPoll(t, t.random * w.BREAK_SPREAD_MS, "fallback");
}

// --- polls
/** @param {Turn} t @param {PollReason} reason */
function askPoll(t, reason) {
  const { s, now } = t;
  s.poll_at = null;
  if (s.poll) s.poll_wanted = s.poll_wanted === "manual" ? "manual" : reason;
  else {
    const number = s.next_poll;
    Object.assign(s, { poll: { number, reason, asked_at: now }, next_poll: number + 1 });
    t.actions.push({ type: "poll", poll: number, reason });
  }
}

/** @param {Turn} t @param {number} delay @param {PollReason} reason */
function planPoll({ s, now }, delay, reason) {
  const at = Math.round(now + delay);
  if (s.poll || (s.poll_at !== null && s.poll_at <= at)) return;
  Object.assign(s, { poll_at: at, poll_reason: reason });
}

/** The poll in flight is over; null where the answer belongs to one that was aborted. @param {Turn} t @param {{poll: number}} e */
function settlePoll({ s }, e) {
  if (!s.poll || s.poll.number !== e.poll) return null;
  const settled = { wanted: s.poll_wanted };
  Object.assign(s, { poll: null, poll_wanted: null });
  return settled;
}

/** @param {Turn} t @param {{poll: number, job?: Standing}} e without a job where nothing was modified */
function onPollAnswered(t, e) {
  const [{ s }, settled] = [t, settlePoll(t, e)];
  if (!settled) return;
  if (w.unanswered(s) && s.reopen_at !== null) s.reopen_at = t.now; // the network is back
  const silent = e.job !== undefined && e.job.seq > s.seq && w.late(s, t.now);
  if (e.job && e.job.seq < s.seq) s.lower_answers += 1;
  if (e.job && (e.job.seq >= s.seq || e.job.done || s.lower_answers >= w.LOWER_ANSWERS)) take(t, e.job);
  if (s.phase !== "watching") return;
  if (silent) distrust(t);
  s.polling = !lives(s, t.now);
  news(t);
  if (settled.wanted) askPoll(t, settled.wanted);
}

/** @param {Turn} t @param {{poll: number, status: number | null, code?: string | null, retry_after_ms?: number | null}} e */
function onPollFailed(t, e) {
  const { s } = t;
  const settled = settlePoll(t, e);
  if (!settled) return;
  const code = e.code ?? null;
  s.failure = { status: e.status, code };
  if (code === "job_not_found" || code === "invalid_job_id") return end(t, "not_found");
  if (e.status === 404 || e.status === 410) s.not_found_answers += 1;
  s.signed_out = e.status === 401 || e.status === 403;
  s.poll_failures += 1;
  if (s.signed_out) s.reopen_at = null;
  if (settled.wanted) return askPoll(t, settled.wanted);
  if (s.signed_out) return planPoll(t, w.SLOW_POLL_MS, "fallback");
  const asked = Math.min(w.RETRY_AFTER_MAX_MS, e.retry_after_ms ?? 0);
  const limit = e.status === null ? w.UNANSWERED_MAX_MS : w.POLL_BACKOFF_MAX_MS;
  planPoll(t, Math.max(w.pollBackoff(s.poll_failures, limit, t.random), asked), "fallback");
}

/** @param {Turn} t */
function abortPoll(t) {
  const poll = t.s.poll?.number ?? 0; // due only while there is one
  t.actions.push({ type: "abort_poll", poll });
  onPollFailed(t, { poll, status: null, code: "timeout" });
}

/** The stream missed a beat, and a poll brought what it should have brought: no need to wait for a second. @param {Turn} t */
function distrust(t) {
  if (t.s.stream) t.s.stream.doubt_at = t.now;
  openStream(t);
}

// --- the page and the person
/** @param {Turn} t @param {{type: string}} e */
function wake(t, e) {
  const { s, now } = t;
  const networkBack = e.type === "online";
  Object.assign(s, { stream_failures: 0, browser_offline: false });
  s.give_up_at = now + w.GIVE_UP_MS;
  const until = now + w.WAKE_GRACE_MS;
  if (s.stream && s.stream.late_at !== null && s.stream.doubt_at !== null) {
    s.stream.late_at = networkBack ? until : Math.max(s.stream.late_at, until);
    s.stream.doubt_at = networkBack ? until : Math.max(s.stream.doubt_at, until);
  }
  if (s.reopen_at !== null) s.reopen_at = now;
  askPoll(t, "wake");
  if (networkBack && !s.signed_out) openStream(t, false);
}

/** @param {Turn} t */
function onManualCheck(t) {
  if (t.s.reopen_at !== null) t.s.reopen_at = t.now;
  askPoll(t, "manual");
}
