/*
 * Makes the moves of the watching policy: the changes that one step can make to the state, and their actions.
 * It must not know which event or timer calls for a move, nor a clock, randomness, the DOM or the network.
 * See also: watchdog.js, which decides; watch-state.js; server/unstuck/client/watch_step.py, its twin in Python.
 */
import * as w from "./watch-state.js";

/** @import { WatchState, WatchAction, WatchStream, Standing, PollReason } from "../wire" */

/** One call of `step` in watchdog.js: the state that it changes, and the actions so far. */
export class Step {
  /** @type {WatchAction[]} */ actions = [];

  /** @param {WatchState} state @param {number} now @param {number} random */
  constructor(state, now, random) {
    this.state = state;
    this.now = now;
    this.random = random;
  }

  // --- beginning and ending

  /** Start watching, with every count of failures at zero. */
  beginWatching() {
    const { state } = this;
    state.phase = "watching";
    state.give_up_at = this.now + w.GIVE_UP_MS;
    state.stream_failures = 0;
    state.poll_failures = 0;
    state.failure = null;
    state.polling = false;
    state.not_found_answers = 0;
    state.lower_seq_answers = 0;
    state.signed_out = false;
    state.browser_offline = false;
  }

  /** Stop watching: close everything. @param {"ended" | "not_found" | "gave_up"} phase */
  end(phase) {
    const { state } = this;
    if (state.stream) this.closeStream(state.stream);
    if (state.spare) this.closeStream(state.spare);
    if (state.poll) this.actions.push({ type: "abort_poll", poll: state.poll.number });
    state.phase = phase;
    state.stream = null;
    state.spare = null;
    state.poll = null;
    state.poll_at = null;
    state.poll_wanted = null;
    state.reopen_at = null;
    const minutes = Math.round((this.now - state.started_at) / (60 * w.SECOND_MS));
    this.actions.push({ type: "end", reason: phase, elapsed_minutes: minutes });
  }

  // --- the job

  /** Make this the job held, and show it. @param {Standing} job */
  acceptJob(job) {
    const { state } = this;
    state.seq = job.seq;
    state.lower_seq_answers = 0;
    const asked = job.poll_after_ms ?? w.POLL_AFTER_DEFAULT_MS;
    state.poll_after_ms = Math.min(w.POLL_AFTER_MAX_MS, Math.max(w.POLL_AFTER_MIN_MS, asked));
    this.actions.push({ type: "show" });
    this.confirm();
    if (job.done) {
      state.done = true;
      this.end("ended");
    }
  }

  /** Record that the state held is current: cancel the planned poll and reset the counts of failures. */
  confirm() {
    const { state } = this;
    state.confirmed_at = this.now;
    state.give_up_at = this.now + w.GIVE_UP_MS;
    state.poll_at = null;
    state.poll_failures = 0;
    state.failure = null;
    state.not_found_answers = 0;
    state.signed_out = false;
  }

  // --- streams

  /** Open a stream, as a spare if one is in use, unless another has yet to send its first event. */
  openStream({ evenIfLive = false } = {}) {
    const { state } = this;
    state.reopen_at = null;
    const live = w.isLive(state, this.now);
    const awaitsEvent = state.stream !== null && state.stream.first_event_at === null;
    if ((live && !evenIfLive) || state.spare || awaitsEvent) return;
    const stream = w.newStream(state.next_stream, this.now, state.seq);
    state.next_stream += 1;
    if (state.stream) state.spare = stream;
    else state.stream = stream;
    this.actions.push({ type: "open_stream", stream: stream.number });
  }

  /** @param {WatchStream} stream */
  closeStream(stream) {
    this.actions.push({ type: "close_stream", stream: stream.number });
  }

  /** Record an event of a stream, which is the one in use from now on. Return null if it was closed before.
   * @param {{stream: number}} event */
  touchStream(event) {
    const { state, now } = this;
    const stream = w.streamOf(state, event);
    if (!stream) return null;
    if (stream === state.spare) {
      state.spare = state.stream;
      state.stream = stream;
    }
    if (state.spare) this.closeStream(state.spare);
    stream.opened_at ??= now;
    stream.first_event_at ??= now;
    const spread = Math.round(this.random * w.HEARTBEAT_SPREAD_MS);
    stream.late_at = now + stream.heartbeat_ms + w.HEARTBEAT_SLACK_MS + spread;
    stream.suspect_at = stream.late_at + stream.heartbeat_ms + w.HEARTBEAT_SLACK_MS;
    state.spare = null;
    state.reopen_at = null;
    state.polling = false;
    state.signed_out = false;
    return stream;
  }

  /** Drop a stream that broke, was refused or never sent an event: reopen it after a pause, and poll meanwhile.
   * @param {WatchStream | null} lost */
  loseStream(lost) {
    const { state, now } = this;
    if (!lost) return;
    this.closeStream(lost);
    const wasInUse = lost === state.stream;
    if (wasInUse) state.stream = state.spare;
    state.spare = null;
    const settled = lost.first_event_at !== null && now - lost.first_event_at >= w.STREAM_SETTLED_MS;
    state.stream_failures = settled ? 1 : state.stream_failures + 1;
    const noneRequested = state.stream === null || state.stream.first_event_at !== null;
    if (noneRequested && !state.signed_out) state.reopen_at = now + w.streamPause(state, this.random);
    if (wasInUse && state.poll_failures === 0) this.planPoll(this.random * w.BREAK_SPREAD_MS, "fallback");
  }

  /** Suspect the late stream now: a poll returned what the stream should have sent. */
  suspectStream() {
    if (this.state.stream) this.state.stream.suspect_at = this.now;
    this.openStream();
  }

  // --- polls

  /** Poll now, or as soon as the poll in flight has ended. @param {PollReason} reason */
  requestPoll(reason) {
    const { state } = this;
    state.poll_at = null;
    if (state.poll) {
      state.poll_wanted = state.poll_wanted === "manual" ? "manual" : reason;
      return;
    }
    state.poll = { number: state.next_poll, reason, requested_at: this.now };
    state.next_poll += 1;
    this.actions.push({ type: "poll", poll: state.poll.number, reason });
  }

  /** Poll after a delay, unless a poll is in flight or planned for sooner.
   * @param {number} delayMs @param {PollReason} reason */
  planPoll(delayMs, reason) {
    const { state } = this;
    const at = Math.round(this.now + delayMs);
    if (state.poll || (state.poll_at !== null && state.poll_at <= at)) return;
    state.poll_at = at;
    state.poll_reason = reason;
  }

  /** End the poll in flight. Return the reason for another, if one was requested meanwhile, else null. */
  finishPoll() {
    const wanted = this.state.poll_wanted;
    this.state.poll = null;
    this.state.poll_wanted = null;
    return wanted;
  }
}
