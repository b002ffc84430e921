/*
 * Tests the shared stream without tabs: what it opens and closes as subscriptions change, and which of them fail.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MultiplexedStream, withoutItems } from "../../frontend/client/multiplexed-stream.js";
import { ALL, Browser, ID, job, say } from "./tabs.js";

function oneStream() {
  const browser = new Browser();
  const delivered = [];
  const stream = new MultiplexedStream(
    ALL,
    browser.tab("a").platform,
    (keys, name) => keys.length && delivered.push(`${keys.join("+")} ${name}`),
  );
  return { browser, stream, delivered };
}

test("more than a hundred jobs use the stream of all jobs", () => {
  const { browser, stream } = oneStream();
  for (let number = 0; number < 101; number += 1) stream.subscribe(`a/${number}`, ID(number));
  say(browser.open[0], "job", job(0, 1));
  say(browser.open.at(-1), "job", job(0, 1));
  assert.deepEqual(
    browser.open.map((source) => source.url),
    [withoutItems(ALL)],
  );
  stream.unsubscribe("a/0");
  assert.equal(new URL(browser.open.at(-1).url).searchParams.getAll("job").length, 100);
  stream.close();
  assert.equal(browser.open.length, 0);
});

test("a mute next stream is replaced by the next subscription, and closed without subscriptions", () => {
  const { browser, stream } = oneStream();
  stream.subscribe("a/1", ID(1));
  browser.time = 10_000;
  stream.subscribe("a/2", ID(2));
  assert.deepEqual(
    browser.sources.map((source) => source.closed),
    [true, false],
  );
  stream.unsubscribe("a/1");
  stream.unsubscribe("a/2");
  assert.equal(browser.open.length, 0);
});

test("when the next stream fails, subscriptions on the current one do not notice", () => {
  const { browser, stream, delivered } = oneStream();
  stream.subscribe("a/1", ID(1));
  say(browser.open[0], "job", job(1, 1));
  stream.subscribe("b/1", ID(2));
  say(browser.open[1], "error");
  assert.deepEqual([delivered, browser.open.length], [["a/1 job", "b/1 error"], 1]);
});

test("garbage is delivered to every subscription: each policy treats it as a broken stream", () => {
  const { browser, stream, delivered } = oneStream();
  stream.subscribe("a/1", ID(1));
  stream.subscribe("b/1", null);
  say(browser.open[0], "job", job(1, 1));
  say(browser.open.at(-1), "job", job(1, 1));
  browser.open[0].dispatchEvent(new MessageEvent("job", { data: "{not json" }));
  assert.equal(delivered.at(-1), "a/1+b/1 job");
});
