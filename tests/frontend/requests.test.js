/*
 * Counts the requests of every part of the page while a server is in trouble, over virtual time: one policy holds
 * for all of them, however often a redraw or a finger asks.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { retryAfterMs } from "../../frontend/client/request-policy.js";
import { Requests } from "../../frontend/client/requests.js";
import { Follower } from "../../frontend/client/follower.js";
import { JobSubject } from "../../frontend/client/job-subject.js";
import { JobList } from "../../frontend/page/job-list.js";
import { Platform, settle, URL_ } from "./platform.js";

const MINUTE_MS = 60_000;

/** How a server in trouble answers. @type {Record<string, (request: any) => void>} */
const TROUBLES = {
  "answers 503": (request) => request.answer(503, { code: "store_unavailable" }),
  "answers 429 and asks for 20 s": (request) => request.answer(429, null, { "Retry-After": "20" }),
  "answers 401": (request) => request.answer(401, null),
  "answers with a page": (request) => request.html(),
  "refuses connections": (request) => request.fail(),
  "never answers": () => {},
};

/** Per minute: one every 1.5 s to 10 s, or as the server asked. */
const MOST = {
  "answers 503": 9,
  "answers 429 and asks for 20 s": 3,
  "answers 401": 2,
  "answers with a page": 9,
  "refuses connections": 20,
  "never answers": 6,
};

/** Let time pass in steps, and give every request its answer. */
async function pass(platform, ms, answer, everyStep = () => {}) {
  let answered = platform.requests.length;
  for (let step = 0; step < ms / 100; step += 1) {
    everyStep();
    await settle();
    for (; answered < platform.requests.length; answered += 1) answer(platform.requests[answered]);
    await settle();
    await platform.pass(100);
  }
}

for (const [trouble, answer] of Object.entries(TROUBLES)) {
  test(`a server that ${trouble} is not asked at each redraw`, async () => {
    const platform = new Platform();
    const requests = new Requests(platform.given);
    const draw = () => void requests.poll("stuck 7", URL_, `${URL_}/items`);
    await pass(platform, MINUTE_MS, answer, draw);
    const sent = platform.requests.length;
    assert.ok(sent >= 1 && sent <= MOST[trouble], `${sent} requests`);
    await pass(platform, 5 * MINUTE_MS, answer, draw);
    assert.ok(platform.requests.length > sent, "it is asked again");
  });

  test(`a server that ${trouble} is not asked at each press of a key that is held down`, async () => {
    const platform = new Platform();
    const requests = new Requests(platform.given);
    /** @type {any[]} */ const found = [];
    const press = () => requests.send(URL_, { method: "POST" }).then((one) => one && found.push(one));
    await pass(platform, MINUTE_MS, answer, press);
    const most = trouble.includes("429") ? 4 : 61; // one a second from the first on, and with Retry-After as asked
    assert.ok(platform.requests.length <= most, `${platform.requests.length} requests`);
    assert.ok(found.length > 0 && found.every((one) => !one.ok), "every press has an answer");
  });

  for (const [name, subject] of /** @type {[string, () => any][]} */ ([
    ["job", () => new JobSubject(URL_)],
    ["list", () => new JobList(new URL("http://host/api/"))],
  ]))
    test(`a server that ${trouble} is not asked for the ${name} without pause, whatever is pressed`, async () => {
      const platform = new Platform();
      const follower = new Follower({ subject: subject(), ...platform.given }).start();
      platform.say("error");
      await pass(platform, MINUTE_MS, answer);
      const doubled = trouble === "answers 401" || trouble === "answers with a page" ? 3 : 2; // without credentials first
      const byItself = platform.requests.length;
      assert.ok(byItself <= doubled * MOST[trouble] + 4, `${byItself} requests`);
      await pass(platform, MINUTE_MS, answer, () => void follower.check());
      const most = trouble.includes("429") ? 8 : 60 * doubled + 20;
      assert.ok(
        platform.requests.length - byItself <= most,
        `${platform.requests.length - byItself} with a key held`,
      );
      follower.close();
    });
}

test("after an answer nothing waits, and requests of other keys never do", async () => {
  const platform = new Platform();
  const requests = new Requests(platform.given);
  void requests.poll("a", `${URL_}/a`);
  await settle();
  platform.requests[0].fail();
  await settle();
  assert.ok(requests.wait("a") >= 1_500);
  assert.equal(await requests.poll("a", `${URL_}/a`), null);
  void requests.poll("b", `${URL_}/b`);
  assert.equal(platform.requests.length, 2);
  await platform.pass(4_000);
  const again = requests.poll("a", `${URL_}/a`, `${URL_}/a2`);
  assert.equal(await requests.poll("a", `${URL_}/a`), null, "one is in flight");
  platform.requests[2].answer(200, { here: 1 });
  await settle();
  platform.requests[3].answer(200, { there: 1 });
  assert.deepEqual(
    (await again)?.map(({ body }) => body),
    [{ here: 1 }, { there: 1 }],
  );
  assert.equal(requests.wait("a"), 0);
  assert.equal(platform.timers.size, 1, "the time limit of b alone is left");
});

test("a series ends with its first failure, and fails as a whole", async () => {
  const platform = new Platform();
  const requests = new Requests(platform.given);
  const answering = requests.poll("a", `${URL_}/a`, `${URL_}/never`);
  await settle();
  platform.requests[0].answer(503, null, { "Retry-After": "30" });
  assert.deepEqual(
    (await answering)?.map(({ status }) => status),
    [503],
  );
  assert.equal(platform.requests.length, 1);
  assert.equal(requests.wait("a"), 30_000);
});

test("Retry-After is read as seconds or as a date, by the server's own clock", () => {
  const read = (headers) => retryAfterMs(new Headers(headers), Date.parse("2026-03-01T10:00:00Z"));
  assert.equal(read({ "Retry-After": "20" }), 20_000);
  assert.equal(read({ "Retry-After": "0" }), 0);
  assert.equal(read({ "Retry-After": "Sun, 01 Mar 2026 10:00:30 GMT" }), 30_000);
  assert.equal(
    read({ "Retry-After": "Sun, 01 Mar 2026 12:00:30 GMT", Date: "Sun, 01 Mar 2026 12:00:00 GMT" }),
    30_000,
  );
  for (const other of [{}, { "Retry-After": "soon" }, { "Retry-After": "-1" }, { "Retry-After": "" }])
    assert.equal(read(other), null, JSON.stringify(other));
});
