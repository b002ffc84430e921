/*
 * Plays the policy through random outages and checks only its promise: once the network is back, the truth is
 * shown in time, and the end is final.
 * It must not know how the policy keeps that promise.
 * See also: watchdog.test.js; tests/faults/virtual_play.py, which plays the Python twin against the real hub.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { TIMEOUT_MS } from "../../frontend/client/request-policy.js";
import * as w from "../../frontend/client/watch-state.js";
import { step } from "../../frontend/client/watchdog.js";

/** Make a small random generator, so that a failing seed can be replayed. */
function dice(seed) {
  let value = seed >>> 0;
  return () => {
    value = (Math.imul(value, 1_664_525) + 1_013_904_223) >>> 0;
    return value / 2 ** 32;
  };
}

/** A server, an unreliable network and a client, in steps of 100 ms. */
class World {
  constructor(seed) {
    this.chance = dice(seed);
    this.now = 5_000_000;
    this.truth = 1;
    this.done = false;
    this.up = true;
    this.streams = new Map();
    this.polls = new Map();
    this.shown = -1;
    this.shownDone = false;
    this.state = w.newState();
    this.on({ type: "start" });
  }
  on(event) {
    const [state, actions] = step(this.state, event, this.now, this.chance());
    this.state = state;
    for (const action of actions) this.act(action, event);
    this.check();
  }
  act(action, event) {
    if (action.type === "open_stream") {
      this.streams.set(action.stream, { alive: this.up, opened: false, sent: -1, heartbeat_at: this.now });
    }
    if (action.type === "close_stream") this.streams.delete(action.stream);
    if (action.type === "poll") {
      const lost = !this.up || this.chance() < 0.05;
      this.polls.set(action.poll, { at: this.now, lost, refused: this.chance() < 0.1 });
    }
    if (action.type === "abort_poll") {
      if (!this.done) assert.ok(this.now - this.polls.get(action.poll).at >= TIMEOUT_MS, "aborted too early");
      this.polls.delete(action.poll);
    }
    if (action.type === "show") {
      assert.ok(!this.shownDone, "a final state was undone");
      assert.ok(event.job.seq >= this.shown, "the screen went back");
      this.shown = event.job.seq;
      this.shownDone = event.job.done;
    }
  }
  check() {
    assert.ok(this.polls.size <= 1, "two polls in flight");
    assert.ok(this.streams.size <= 2, "more than a stream and its spare");
    const { phase, wake_at } = this.state;
    if (phase === "watching") {
      assert.ok(wake_at > this.now && wake_at <= this.now + w.CHECK_EVERY_MS, "nothing to wait for");
    } else {
      const nothingOpen = this.streams.size === 0 && this.polls.size === 0 && wake_at === null;
      assert.ok(nothingOpen, "something was left open");
    }
  }
  tick(faults) {
    this.now += 100;
    if (!this.done && this.chance() < 0.02) this.truth += 1;
    if (faults && this.chance() < 0.003) this.setUp(!this.up);
    for (const [number, stream] of [...this.streams]) {
      if (this.streams.has(number)) this.serve(number, stream, faults);
    }
    for (const [number, poll] of [...this.polls]) {
      if (this.polls.has(number)) this.answer(number, poll);
    }
    if (this.state.wake_at !== null && this.state.wake_at <= this.now) this.on({ type: "tick" });
  }
  setUp(up) {
    this.up = up;
    if (up) return;
    // An outage cuts open streams with an error, or leaves them half-open permanently.
    for (const [number, stream] of [...this.streams]) {
      stream.alive = false;
      if (this.chance() < 0.4) this.on({ type: "stream_error", stream: number });
    }
  }
  serve(number, stream, faults) {
    if (!stream.alive || !this.up) return;
    if (faults && this.chance() < 0.002) return this.on({ type: "stream_error", stream: number });
    if (!stream.opened) {
      stream.opened = true;
      this.on({ type: "stream_open", stream: number });
      if (!this.streams.has(number)) return;
    }
    const lost = faults && this.chance() < 0.2; // the broadcast failed; a heartbeat will reveal it
    if (stream.sent < this.truth || this.done) {
      stream.sent = this.truth;
      const job = { seq: this.truth, done: this.done };
      if (!lost || stream.sent === -1) this.on({ type: "job", stream: number, job });
    } else if (this.now - stream.heartbeat_at >= w.HEARTBEAT_DEFAULT_MS) {
      stream.heartbeat_at = this.now;
      this.on({ type: "heartbeat", stream: number, seq: this.truth });
    }
  }
  answer(number, poll) {
    if (poll.lost || this.now - poll.at < 200) return;
    this.polls.delete(number);
    if (poll.refused) this.on({ type: "poll_failed", poll: number, status: 503 });
    else this.on({ type: "poll_ok", poll: number, job: { seq: this.truth, done: this.done } });
  }
}

test("whatever breaks, the truth is shown within 45 s after the network is back, and the end is final", () => {
  for (let seed = 1; seed <= 150; seed += 1) {
    const world = new World(seed);
    for (let step = 0; step < 4_000; step += 1) world.tick(true);
    if (world.state.phase === "gave_up") world.on({ type: "online" });
    world.setUp(true);
    world.truth += 1;
    world.done = true;
    const healed = world.now;
    while (world.state.phase === "watching" && world.now - healed < 120_000) world.tick(false);
    assert.ok(
      world.shownDone && world.shown === world.truth,
      `seed ${seed}: shows ${world.shown}, truth ${world.truth}`,
    );
    assert.ok(world.now - healed <= 45_000, `seed ${seed}: ${world.now - healed} ms`);
  }
});
