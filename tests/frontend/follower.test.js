/*
 * Tests the I/O around the policy: every event reaches it, and nothing is left open at the end.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { begin, job, nothingIsLeft, settle, URL_ } from "./platform.js";

test("a job from start to end: stream, catch-up poll, progress, done, and nothing is left open", async () => {
  const { platform, subject, follower, seen } = begin();
  assert.equal(platform.sources[0].url, `${URL_}/events`);
  platform.say("open");
  assert.equal(platform.requests[0].init.headers["X-Unstuck-Poll"], "reconnect");
  platform.say("job", job(1));
  platform.requests[0].answer(200, job(1));
  await settle();
  platform.say("job", job(2));
  platform.say("job", job(3, { done: true, state: "completed" }));
  assert.deepEqual([subject.job.seq, follower.link, seen.at(-1)], [3, "ended", ["ended", 3]]);
  platform.requests[0].done = true;
  nothingIsLeft(platform);
  await platform.pass(3_600_000);
  assert.deepEqual([platform.sources.length, platform.requests.length], [1, 1]);
});

test("a job that is known to be done opens nothing", () => {
  const { platform, follower } = begin(job(9, { done: true }));
  assert.deepEqual([platform.sources.length, follower.link], [0, "ended"]);
  nothingIsLeft(platform);
});

test("the stream's address is the one that the job names", () => {
  const { platform } = begin(job(1, { links: { events: "/other/events" } }));
  assert.equal(platform.sources[0].url, "http://host/other/events");
});

test("close() stops the stream, the poll, the timer and the listeners, and answers pending checks", async () => {
  const { platform, follower } = begin();
  platform.say("open");
  const check = follower.check();
  follower.close();
  follower.close();
  nothingIsLeft(platform);
  assert.equal((await check).outcome, "closed");
  assert.equal((await follower.check()).outcome, "closed");
});

test("an error closes the EventSource permanently, and the policy opens another one", async () => {
  const { platform } = begin();
  platform.say("error");
  assert.equal(platform.sources[0].closed, true);
  await platform.pass(2_000);
  assert.equal(platform.sources.length, 2);
  platform.say("job", job(5, { done: true }), platform.sources[0]);
  assert.equal(platform.sources[1].closed, false, "events of a closed stream are ignored");
});

test("garbage on the stream breaks it; garbage from a poll is a failed poll", async () => {
  const { platform, follower } = begin();
  for (const [name, data] of [
    ["job", "{not json"],
    ["job", { id: "7" }],
    ["heartbeat", "null"],
  ]) {
    platform.say(name, data);
    assert.equal(platform.sources.at(-1).closed, true, `${name} ${data}`);
    await platform.pass(45_000);
  }
  const other = begin();
  other.platform.say("error");
  await other.platform.pass(1_000);
  other.platform.requests[0].html();
  await settle();
  assert.deepEqual(
    [other.follower.link, other.follower.failure],
    ["offline", { status: 200, code: "not_our_answer" }],
  );
  follower.close();
});

test("a higher seq in a heartbeat causes a poll, which names its reason", async () => {
  const { platform, subject } = begin();
  platform.say("open");
  platform.say("job", job(4));
  platform.requests[0].answer(200, job(4));
  await settle();
  platform.say("heartbeat", { server_time: "", jobs: { 7: 4 } });
  assert.equal(platform.requests.length, 1);
  platform.say("heartbeat", { server_time: "", jobs: { 7: 6 } });
  assert.equal(platform.requests[1].init.headers["X-Unstuck-Poll"], "behind");
  platform.requests[1].answer(200, job(6));
  await settle();
  assert.equal(subject.job.seq, 6);
});

test("the events leaving, gone and items are handled", async () => {
  const { platform, follower } = begin();
  platform.say("job", job(1));
  const items = [];
  follower.addEventListener("items", (/** @type {any} */ event) => items.push(event.detail.items.length));
  platform.say("items", { job_id: "7", seq: 2, items: [{}, {}], more: false });
  assert.deepEqual(items, [2]);
  platform.say("leaving", { reason: "shutdown", retry_ms: 1_000 });
  assert.equal(platform.sources[0].closed, true);
  await platform.pass(1_500);
  assert.equal(platform.sources.length, 2);
  platform.say("gone", { job_id: "7", code: "job_not_found" });
  assert.equal(follower.link, "not_found");
  follower.close();
  nothingIsLeft(platform);
});

test("the ETag is sent only while it is that of the state held", async () => {
  const { platform, follower, subject } = begin();
  platform.say("open");
  platform.requests[0].answer(200, job(4), { ETag: 'W/"4-ok"' });
  await settle();
  const check = follower.check();
  assert.equal(platform.requests[1].init.headers["If-None-Match"], 'W/"4-ok"');
  platform.requests[1].answer(304, null);
  assert.equal((await check).outcome, "same");
  platform.say("job", job(5));
  void follower.check();
  assert.equal(platform.requests[2].init.headers["If-None-Match"], undefined);
  assert.equal(subject.job.seq, 5);
  follower.close();
});

test("failures are distinguished: 404 of the server, 401, 503 with Retry-After, no answer at all", async () => {
  for (const [answer, link, failure] of /** @type {[(request: any) => void, string, object][]} */ ([
    [
      (request) => request.answer(404, { code: "job_not_found" }),
      "not_found",
      { status: 404, code: "job_not_found" },
    ],
    [(request) => request.answer(401, null), "signed_out", { status: 401, code: null }],
    [
      (request) => request.answer(503, { code: "store_unavailable" }, { "Retry-After": "20" }),
      "offline",
      { status: 503, code: "store_unavailable" },
    ],
    [(request) => request.fail(), "offline", { status: null, code: "no_answer" }],
  ])) {
    const { platform, follower } = begin();
    platform.say("error");
    await platform.pass(1_000);
    answer(platform.requests[0]);
    await settle();
    assert.deepEqual([follower.link, follower.failure], [link, failure]);
    follower.close();
  }
});

/** Begin with one unanswered poll, so that the next one uses the other pool of connections. */
async function unanswered() {
  const begun = begin();
  begun.platform.say("open");
  begun.platform.requests[0].fail();
  await settle();
  await begun.platform.pass(2_000);
  assert.deepEqual(
    begun.platform.requests.map(({ init }) => init.credentials),
    ["same-origin", "omit"],
  );
  return begun;
}

test("two of three unanswered polls are sent without credentials; the next one is like the answered one", async () => {
  const { platform, subject } = await unanswered();
  await platform.pass(14_000); // one poll is aborted, and another follows
  platform.requests[2].fail();
  await settle();
  await platform.pass(4_000);
  platform.requests[3].answer(200, job(3));
  await settle();
  await platform.pass(2_000);
  assert.deepEqual(
    platform.requests.slice(2).map(({ init }) => init.credentials),
    ["omit", "same-origin", "same-origin"],
  );
  assert.equal(subject.job.seq, 3);
});

for (const refuse of [
  (request) => request.answer(401, { code: "signed_out" }),
  (request) => request.answer(404, { code: "job_not_found" }),
  (request) => request.html(),
])
  test(`a poll refused without credentials is repeated with them at once: ${refuse}`, async () => {
    const { platform, follower } = await unanswered();
    refuse(platform.requests[1]);
    await settle();
    assert.deepEqual(
      [follower.link, platform.requests.length, platform.requests[2].init.credentials],
      ["offline", 3, "same-origin"],
    );
  });

for (const [name, refuse] of /** @type {[string, (request: any) => void][]} */ ([
  ["refused", (request) => request.answer(401, { code: "signed_out" })],
  ["failing", (request) => request.fail()],
]))
  test(`a poll during silence avoids the stream's connection; if ${name}, it is repeated there`, async () => {
    const { platform, subject, follower } = begin();
    platform.say("open");
    platform.say("job", job(4));
    platform.requests[0].answer(200, job(4));
    await settle();
    await platform.pass(20_000);
    refuse(platform.requests[1]);
    await settle();
    platform.requests[2].answer(200, job(6));
    await settle();
    assert.deepEqual(
      platform.requests.map(({ init }) => init.credentials),
      ["same-origin", "omit", "same-origin"],
    );
    assert.equal(subject.job.seq, 6);
    follower.close();
  });

test("a manual check is answered whatever happens", async () => {
  const found = async (then) => {
    const { platform, follower } = begin();
    platform.say("open");
    platform.say("job", job(4));
    platform.requests[0].answer(200, job(4));
    await settle();
    const check = follower.check();
    await then(platform);
    const answer = await check;
    follower.close();
    return [answer.outcome, answer.status];
  };
  assert.deepEqual(await found((platform) => platform.requests[1].answer(200, job(9))), ["news", null]);
  assert.deepEqual(await found((platform) => platform.requests[1].answer(200, job(4))), ["same", null]);
  assert.deepEqual(await found((platform) => platform.requests[1].answer(502, null)), ["failed", 502]);
  assert.deepEqual(await found((platform) => platform.requests[1].answer(404, { code: "job_not_found" })), [
    "failed",
    404,
  ]);
  assert.deepEqual(await found((platform) => platform.pass(10_000)), ["failed", null]);
  assert.deepEqual(await found((platform) => platform.say("job", job(5, { done: true }))), ["news", null]);
});

test("a check during a poll waits for its own poll", async () => {
  const { platform, follower } = begin();
  platform.say("open");
  const check = follower.check();
  assert.equal(platform.requests.length, 1);
  platform.requests[0].answer(200, job(1));
  await settle();
  assert.equal(platform.requests[1].init.headers["X-Unstuck-Poll"], "manual");
  platform.requests[1].answer(200, job(1));
  assert.equal((await check).outcome, "same");
  follower.close();
});

test("events of the page cause a poll at once", async () => {
  for (const [target, name, properties] of /** @type {[string, string, object][]} */ ([
    ["document", "visibilitychange", {}],
    ["document", "resume", {}],
    ["window", "pageshow", { persisted: true }],
    ["window", "online", {}],
  ])) {
    const { platform, follower } = begin();
    platform.page(target, name, properties);
    assert.equal(platform.requests[0]?.init.headers["X-Unstuck-Poll"], "wake", name);
    follower.close();
  }
  const { platform, follower } = begin();
  platform.page("window", "pageshow", { persisted: false });
  platform.page("window", "offline");
  assert.deepEqual([platform.requests.length, follower.link], [0, "offline"]);
  follower.close();
});

test("sleep is noticed by the clocks, and causes a poll before the stream is suspected", async () => {
  const { platform, follower } = begin();
  platform.say("open");
  platform.say("job", job(4));
  platform.requests[0].answer(200, job(4));
  await settle();
  platform.slept = 8 * 3_600_000;
  await platform.pass(15_000);
  assert.equal(platform.requests[1].init.headers["X-Unstuck-Poll"], "wake");
  assert.equal(platform.sources[0].closed, false);
  assert.notEqual(follower.link, "gave_up");
  follower.close();
});

test("a clock that is set back does no harm", async () => {
  const { platform, follower } = begin();
  platform.say("job", job(4));
  platform.slept = -3_600_000;
  platform.say("heartbeat", { jobs: { 7: 4 } });
  assert.ok(follower.newsAgeMs >= 0 && follower.newsAgeMs < 1_000);
  await platform.pass(36_000);
  assert.equal(platform.sources.length, 2, "two missed heartbeats are still noticed");
  follower.close();
});

test("there is never more than one timer, and it is due within fifteen seconds", async () => {
  const { platform, follower } = begin();
  platform.say("open");
  platform.say("job", job(1));
  for (let round = 0; round < 200; round += 1) {
    assert.equal(platform.timers.size, 1);
    assert.ok([...platform.timers.values()][0].at - platform.time <= 15_000);
    await platform.pass(1_000);
    for (const request of platform.requests.splice(0)) request.fail();
    await settle();
  }
  follower.close();
  assert.equal(platform.timers.size, 0);
});

test("the answer to another request is applied, and may end the watch", () => {
  const { platform, follower, subject } = begin();
  platform.say("job", job(4));
  follower.applyAnswer(job(5, { cancel_requested: true }));
  assert.equal(subject.job.cancel_requested, true);
  follower.applyAnswer({ nonsense: true });
  follower.applyAnswer(job(6, { done: true, state: "cancelled" }));
  assert.equal(follower.link, "ended");
  nothingIsLeft(platform);
});

test("a state found by a watchdog poll is marked until the stream sends the job again", async () => {
  const { platform, follower } = begin();
  platform.say("open");
  platform.say("job", job(4));
  platform.requests[0].answer(200, job(4));
  await settle();
  assert.equal(follower.foundByPolling, false);
  await platform.pass(20_000);
  platform.requests[1].fail(); // sent without credentials, so it is repeated with them
  await settle();
  assert.deepEqual(
    platform.requests.map(({ init }) => [init.headers["X-Unstuck-Poll"], init.credentials]).slice(1),
    [
      ["late", "omit"],
      ["late", "same-origin"],
    ],
  );
  platform.requests[2].answer(200, job(6));
  await settle();
  assert.equal(follower.foundByPolling, true);
  platform.say("heartbeat", { jobs: { 7: 6 } });
  assert.equal(follower.foundByPolling, true);
  platform.say("job", job(7));
  assert.equal(follower.foundByPolling, false);
});

test("giving up names the job and the minutes, and watching can be resumed", async () => {
  const { platform, follower } = begin();
  const errors = [];
  follower.addEventListener("timeout", (/** @type {any} */ event) => errors.push(event.detail));
  for (let minute = 0; minute < 31; minute += 1) {
    await platform.pass(60_000);
    for (const request of platform.requests.splice(0)) request.fail();
    await settle();
  }
  assert.deepEqual([errors.length, follower.link], [1, "gave_up"]);
  assert.deepEqual([errors[0].name, errors[0].jobId, errors[0].elapsedMinutes], ["JobTimeoutError", "7", 30]);
  const check = follower.check();
  platform.requests.at(-1).answer(200, job(3));
  assert.equal((await check).outcome, "news");
  follower.close();
});
