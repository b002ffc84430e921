/*
 * Plays events on the policy, one after another, and keeps the resulting actions.
 */
import * as w from "../../frontend/client/watch-state.js";
import { step } from "../../frontend/client/watchdog.js";

/** A watch that collects its actions, each with its time (`at`). */
export class Play {
  now = 1_000_000;
  state = w.newState();
  /** @type {any[]} */ log = [];
  /** @type {any[]} */ last = [];

  constructor(job = null, random = 0.5) {
    this.random = random;
    this.on({ type: "start", job });
  }
  on(event, after = 0) {
    this.now += after;
    const [state, actions] = step(this.state, event, this.now, this.random);
    this.state = state;
    this.last = actions.filter((action) => action.type !== "wake_at");
    this.log.push(...this.last.map((action) => ({ ...action, at: this.now })));
    return this;
  }
  /** Let time pass, and tick at the times that the policy asked for. */
  pass(ms) {
    const end = this.now + ms;
    while (this.state.wake_at !== null && this.state.wake_at <= end)
      this.on({ type: "tick" }, this.state.wake_at - this.now);
    this.now = end;
    return this;
  }
  live(seq = 5) {
    const stream = (this.state.spare ?? this.state.stream).number;
    this.on({ type: "stream_open", stream }).on({ type: "job", stream, job: { seq, done: false } });
    if (this.state.poll) this.on({ type: "poll_ok", poll: this.state.poll.number, job: { seq, done: false } });
    return this;
  }
  /** Let time pass until a stream is opened again, without answering polls. */
  reopened() {
    while (!this.state.stream) this.on({ type: "tick" }, this.state.wake_at - this.now);
    return this;
  }
  /** Let time pass while all polls fail. */
  passFailing(ms, status = null) {
    const end = this.now + ms;
    for (;;) {
      if (this.state.poll) this.on({ type: "poll_failed", poll: this.state.poll.number, status });
      if (this.state.wake_at === null || this.state.wake_at > end) break;
      this.on({ type: "tick" }, this.state.wake_at - this.now);
    }
    this.now = end;
    return this;
  }
  did(type) {
    return this.log.filter((action) => action.type === type);
  }
}
