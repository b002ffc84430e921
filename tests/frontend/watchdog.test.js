/*
 * Tests the policy over stretches of time: growing pauses, bounds, and sequences too long for a script.
 * It must not repeat the scripts of tests/vectors, which vectors.test.js plays.
 * See also: PROTOCOL.md, section 5; outages.test.js, which plays random outages.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BACKOFF_UNANSWERED_MS, TIMEOUT_MS } from "../../frontend/client/request-policy.js";
import * as w from "../../frontend/client/watch-state.js";
import { step } from "../../frontend/client/watchdog.js";
import { Play } from "./play.js";

/** @import { WatchEvent } from "../../frontend/wire" */

const types = (actions) => actions.map((action) => action.type);

test("a live stream needs no polls", () => {
  const play = new Play().live();
  for (let count = 0; count < 40; count += 1)
    play.pass(w.HEARTBEAT_DEFAULT_MS).on({ type: "heartbeat", stream: 1, seq: 5 });
  assert.equal(play.did("poll").length, 1);
  assert.equal(play.state.link, "live");
});

test("a heartbeat that does not name the job keeps the stream live, but confirms nothing", () => {
  const play = new Play().live();
  const before = play.state.confirmed_at;
  play.pass(w.HEARTBEAT_DEFAULT_MS).on({ type: "heartbeat", stream: 1, seq: null });
  assert.deepEqual(
    [play.state.confirmed_at, play.state.stream.late_at - play.now],
    [before, w.HEARTBEAT_DEFAULT_MS + 3_000],
  );
});

test("the highest seq is held", () => {
  const play = new Play().live(5).on({ type: "job", stream: 1, job: { seq: 4, done: false } });
  assert.deepEqual([types(play.last), play.state.seq], [[], 5]);
  play.on({ type: "job_answered", job: { seq: 3, done: false } });
  assert.equal(play.state.seq, 5);
});

test("the first job of a stream is believed even if its seq is lower", () => {
  const play = new Play().live(50).on({ type: "stream_error", stream: 1 }).pass(5_000);
  play.on({ type: "job", stream: 2, job: { seq: 7, done: false } });
  assert.deepEqual([play.state.seq, types(play.last).includes("show")], [7, true]);
  play.on({ type: "job", stream: 2, job: { seq: 6, done: false } });
  assert.equal(play.state.seq, 7);
});

test("a lower seq from a poll is believed if it says done, or twice in a row", () => {
  const lower = (done) => ({ type: "poll_ok", poll: 0, job: { seq: 7, done } });
  const ask = (play, event) => play.on({ type: "manual_check" }).on({ ...event, poll: play.state.next_poll - 1 });
  const play = new Play().live(50);
  ask(play, lower(false));
  assert.equal(play.state.seq, 50);
  ask(play, lower(false));
  assert.equal(play.state.seq, 7);
  const other = new Play().live(50);
  ask(other, lower(true));
  assert.equal(other.state.link, "ended");
});

test("done closes the stream and the poll, and nothing can undo it", () => {
  const play = new Play().live(5).on({ type: "page_shown" });
  play.on({ type: "job", stream: 1, job: { seq: 6, done: true } });
  assert.deepEqual(types(play.last), ["show", "close_stream", "abort_poll", "end"]);
  for (const type of ["tick", "online", "page_shown", "manual_check"]) play.on({ type }, 100_000);
  play
    .on({ type: "job", stream: 1, job: { seq: 7, done: false } })
    .on({ type: "poll_ok", poll: 2, job: { seq: 8, done: false } });
  assert.deepEqual([play.last, play.state.done, play.state.seq, play.state.wake_at], [[], true, 6, null]);
});

test("a stream that does not open, or opens and sends nothing, counts as broken after ten seconds", () => {
  const silent = new Play().pass(w.FIRST_EVENT_TIMEOUT_MS);
  assert.deepEqual(
    silent.did("close_stream").map(({ at }) => at - 1_000_000),
    [w.FIRST_EVENT_TIMEOUT_MS],
  );
  const buffered = new Play().on({ type: "stream_open", stream: 1 }, 9_000);
  buffered.on({ type: "poll_ok", poll: 1, job: { seq: 3, done: false } }).passFailing(9_900);
  assert.equal(buffered.did("close_stream").length, 0);
  buffered.passFailing(100);
  assert.equal(buffered.did("close_stream").length, 1);
});

test("two missed heartbeats: poll, open a spare, and close the old stream at the spare's first event", () => {
  const play = new Play().live().pass(w.HEARTBEAT_DEFAULT_MS + 3_000);
  assert.deepEqual(play.last, [{ type: "poll", poll: 2, reason: "late" }]);
  play.on({ type: "poll_not_modified", poll: 2 }).pass(w.HEARTBEAT_DEFAULT_MS + 2_000 - 1);
  assert.equal(play.did("open_stream").length, 1);
  play.pass(1);
  assert.equal(play.state.link, "connecting");
  assert.deepEqual(play.did("poll").at(-1).reason, "watchdog");
  assert.deepEqual(
    play.did("open_stream").map(({ stream }) => stream),
    [1, 2],
  );
  play.on({ type: "stream_open", stream: 2 });
  assert.equal(play.did("close_stream").length, 0);
  play.on({ type: "job", stream: 2, job: { seq: 9, done: false } });
  assert.deepEqual(
    play.did("close_stream").map(({ stream }) => stream),
    [1],
  );
  assert.deepEqual([play.state.stream.number, play.state.spare], [2, null]);
});

test("a spare is closed if the old stream sends an event first", () => {
  const play = new Play().live().passFailing(2 * w.HEARTBEAT_DEFAULT_MS + 8_000);
  play.on({ type: "heartbeat", stream: 1, seq: 5 });
  assert.deepEqual(
    play.did("close_stream").map(({ stream }) => stream),
    [2],
  );
  assert.equal(play.state.link, "live");
});

test("while polls are refused, the old stream is kept and spares are tried with growing pauses", () => {
  const play = new Play(null, 1).live().passFailing(300_000, 503);
  const opened = play
    .did("open_stream")
    .slice(1)
    .map(({ at }) => at);
  const pauses = opened.slice(1).map((at, place) => at - opened[place]);
  assert.ok(
    pauses.every((pause) => pause >= w.FIRST_EVENT_TIMEOUT_MS + w.STREAM_BACKOFF_MIN_MS),
    `${pauses}`,
  );
  assert.ok(pauses.at(-1) === w.FIRST_EVENT_TIMEOUT_MS + w.STREAM_BACKOFF_MAX_MS, `${pauses}`);
  assert.equal(play.state.stream.number, 1);
});

test("a broken stream is reopened with full jitter, and polls continue meanwhile", () => {
  for (const [random, pause] of [
    [0, 500],
    [1, 1_000],
  ]) {
    const play = new Play(null, random).live().on({ type: "stream_error", stream: 1 });
    assert.ok(types(play.last).includes("close_stream"));
    assert.equal(play.state.reopen_at - play.now, pause);
    play.pass(w.BREAK_SPREAD_MS);
    assert.equal(play.did("poll").at(-1).reason, "fallback");
  }
  const play = new Play(null, 1).live();
  for (let failure = 0; failure < 20; failure += 1)
    play.passFailing(40_000).on({ type: "stream_error", stream: play.state.stream?.number ?? 0 });
  assert.ok(play.did("open_stream").length > 5, "it never stops trying");
});

test("a stream that lasted for a while resets the back-off; one that broke at once does not", () => {
  const play = new Play(null, 1).live();
  for (let round = 0; round < 4; round += 1)
    play.on({ type: "stream_error", stream: play.state.stream.number }).reopened().live();
  assert.equal(play.state.stream_failures, 4);
  play.pass(w.STREAM_SETTLED_MS).on({ type: "stream_error", stream: play.state.stream.number });
  assert.equal(play.state.stream_failures, 1);
});

test("after leaving, the stream is reopened after the time that the server says, jittered and bounded", () => {
  for (const [retry_ms, random, expected] of [
    [2_000, 0, 2_000],
    [2_000, 1, 4_000],
    [0, 0, 500],
    [99_999_999_999, 0, 60_000],
  ]) {
    const play = new Play(null, random).live().on({ type: "leaving", stream: 1, retry_ms });
    assert.deepEqual(types(play.last), ["close_stream"]);
    assert.equal(play.state.reopen_at - play.now, expected);
  }
});

test("failed polls back off to ten seconds and never stop", () => {
  const play = new Play(null, 1).on({ type: "stream_error", stream: 1 }).passFailing(29 * 60_000, 503);
  const at = play.did("poll").map((poll) => poll.at);
  assert.deepEqual(
    at.slice(1, 7).map((time, place) => time - at[place]),
    [2_000, 4_000, 8_000, 10_000, 10_000, 10_000],
  );
  assert.deepEqual([play.state.link, play.state.failure], ["offline", { status: 503, code: null }]);
  assert.ok(play.now - at.at(-1) <= 10_000);
});

test("no poll is aborted before ten seconds, and the next one follows within four", () => {
  const play = new Play().on({ type: "stream_error", stream: 1 }).pass(120_000);
  const polls = play.did("poll");
  const aborted = play.did("abort_poll");
  assert.ok(aborted.length >= 3);
  aborted.forEach(({ poll, at }, place) => {
    assert.equal(at - polls[place].at, TIMEOUT_MS);
    assert.equal(poll, polls[place].poll);
    const next = polls[place + 1];
    if (next) assert.ok(next.at - at >= 1_500 && next.at - at <= BACKOFF_UNANSWERED_MS);
  });
});

test("a sign that the network is back ends the pause", () => {
  const play = new Play().on({ type: "stream_error", stream: 1 }).pass(11_000);
  assert.equal(play.did("abort_poll").length, 1);
  play.on({ type: "online" }, 100);
  assert.equal(play.last.find((action) => action.type === "poll").reason, "wake");
  assert.ok(types(play.last).includes("poll"));
});

test("an answer to an aborted poll and an event of a closed stream are ignored", () => {
  const play = new Play().live(5).on({ type: "stream_error", stream: 1 }).pass(12_000);
  const before = play.state.seq;
  play
    .on({ type: "poll_ok", poll: 2, job: { seq: 99, done: true } })
    .on({ type: "job", stream: 1, job: { seq: 99, done: true } });
  assert.deepEqual([play.state.seq, play.state.done], [before, false]);
});

test("without a stream, polls keep the pace that the server asks for, within bounds", () => {
  for (const [asked, expected] of [
    [2_000, 2_000],
    [1, 1_000],
    [9_999_999, 60_000],
    [null, 5_000],
  ]) {
    const play = new Play(null, 0).on({ type: "stream_error", stream: 1 }).pass(0);
    play.on({ type: "poll_ok", poll: 1, job: { seq: 1, done: false, poll_after_ms: asked } });
    assert.equal(play.state.poll_at - play.now, expected);
    assert.equal(play.state.link, "polling");
  }
});

test("the server's own 404 ends the watch, and a check resumes it", () => {
  const play = new Play().on({ type: "stream_error", stream: 1 }).pass(1_000);
  play.on({ type: "poll_failed", poll: 1, status: 404, code: "job_not_found" });
  assert.deepEqual(
    [play.did("end")[0].reason, play.state.link, play.state.wake_at],
    ["not_found", "not_found", null],
  );
  play.on({ type: "page_shown" });
  assert.deepEqual(play.last, []);
  play.on({ type: "manual_check" });
  assert.deepEqual(types(play.last), ["open_stream", "poll"]);
  const gone = new Play().on({ type: "gone", stream: 1 });
  assert.equal(gone.state.link, "not_found");
});

test("a 404 of a proxy is believed only the third time, and is polled again like any failure", () => {
  const play = new Play().on({ type: "stream_error", stream: 1 });
  for (const expected of ["offline", "offline", "not_found"]) {
    while (!play.state.poll) play.on({ type: "tick" }, play.state.wake_at - play.now);
    play.on({ type: "poll_failed", poll: play.state.poll.number, status: 404 });
    assert.equal(play.state.link, expected);
  }
  assert.equal(play.state.poll_at - play.now, 0.875 * 8_000);
  play
    .on({ type: "manual_check" })
    .on({ type: "poll_ok", poll: play.state.next_poll - 1, job: { seq: 1, done: false } });
  assert.equal(play.state.link, "polling");
});

test("an expired sign-in is shown, and polled every minute without opening streams", () => {
  const play = new Play()
    .on({ type: "stream_error", stream: 1 })
    .pass(1_000)
    .on({ type: "poll_failed", poll: 1, status: 401 });
  assert.equal(play.state.link, "signed_out");
  play.passFailing(5 * 60_000, 401);
  assert.equal(
    play.did("open_stream").length,
    2,
    "one at the start, and one before the sign-in was known to have expired",
  );
  assert.ok(play.did("poll").length >= 5 && play.did("poll").length <= 7);
  play
    .on({ type: "page_shown" })
    .on({ type: "poll_ok", poll: play.state.next_poll - 1, job: { seq: 1, done: false } });
  assert.deepEqual([play.state.signed_out, types(play.last).includes("open_stream")], [false, true]);
});

test("a shown page and a network that is back cause a poll; offline only changes what is shown", () => {
  const play = new Play().live().on({ type: "page_shown" });
  assert.deepEqual(play.last, [{ type: "poll", poll: 2, reason: "wake" }]);
  const other = new Play().live().on({ type: "stream_error", stream: 1 }).on({ type: "offline" });
  assert.equal(other.state.link, "offline");
  other.on({ type: "online" });
  assert.deepEqual(types(other.last).sort(), ["open_stream", "poll"]);
});

test("after sleep the stream has five seconds to deliver queued events, so there is no false alarm", () => {
  const play = new Play().live().on({ type: "tick" }, 10 * 60_000);
  assert.deepEqual(types(play.last), ["poll"]);
  assert.equal(play.state.link, "catching_up");
  play.on({ type: "job", stream: 1, job: { seq: 8, done: false } }, 1_000);
  assert.equal(play.did("open_stream").length, 1);
  const dead = new Play()
    .live()
    .on({ type: "page_shown" }, 10 * 60_000)
    .passFailing(w.WAKE_GRACE_MS);
  assert.equal(dead.did("open_stream").length, 2);
});

test("after thirty minutes without a confirmation everything is closed, with a way back", () => {
  const play = new Play().live().passFailing(w.GIVE_UP_MS);
  assert.deepEqual(
    [play.state.link, play.state.wake_at, play.last.at(-1)],
    ["gave_up", null, { type: "end", reason: "gave_up", elapsed_minutes: 30 }],
  );
  for (const type of ["manual_check", "online", "page_shown"]) {
    const again = new Play().live().passFailing(w.GIVE_UP_MS).on({ type });
    assert.deepEqual(types(again.last), ["open_stream", "poll"]);
  }
});

test("an unknown event raises an error that names the known ones", () => {
  assert.throws(
    () => step(w.newState(), /** @type {any} */ ({ type: "nonsense" }), 0, 0),
    /unknown event 'nonsense'.*heartbeat/,
  );
});

test("a state is plain data, and step does not change its arguments", () => {
  const before = new Play().live().state;
  const copy = structuredClone(before);
  assert.deepEqual(JSON.parse(JSON.stringify(before)), before);
  const events = /** @type {WatchEvent[]} */ ([
    { type: "tick" },
    { type: "page_shown" },
    { type: "heartbeat", stream: 1, seq: 9 },
    { type: "stream_error", stream: 1 },
  ]);
  for (const event of events) {
    step(before, event, 9_999_999, 0.5);
    assert.deepEqual(before, copy);
  }
});
