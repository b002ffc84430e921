/*
 * Tests several tabs in one process: there is one stream, no event is lost when it changes hands, each tab gets
 * only the events that concern it, and nothing is left open at the end.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseStreamUrl } from "../../frontend/client/shared-event-source.js";
import { withoutItems } from "../../frontend/client/multiplexed-stream.js";
import { ALL, API, Browser, ID, begins, eventsOf, job, say, settle } from "./tabs.js";

test("a stream that can be shared is recognized by its address", () => {
  assert.deepEqual(parseStreamUrl(eventsOf(1)), { base: API, job: ID(1) });
  assert.deepEqual(parseStreamUrl(eventsOf(1).replace(ID(1), "0000000A-0000-4000-8000-000000000001")), {
    base: API,
    job: "0000000a-0000-4000-8000-000000000001",
  });
  assert.deepEqual(parseStreamUrl(ALL), { base: API, job: null });
  for (const other of [`${API}jobs/7/events`, `${eventsOf(1)}?token=1`, `${ALL}?job=${ID(1)}`, "http://host/live"])
    assert.equal(parseStreamUrl(other), null, other);
});

test("one tab with one job behaves like an EventSource, and leaves nothing open", async () => {
  const browser = new Browser();
  const tab = browser.tab("a");
  const one = tab.follow(eventsOf(1));
  const source = await begins(browser, job(1, 3));
  assert.equal(source.url, withoutItems(`${ALL}?job=${ID(1)}`));
  say(source, "heartbeat", { jobs: {} });
  say(source, "leaving", { retry_ms: 1 });
  assert.deepEqual(one.received, ["open", "job 3", "heartbeat", "leaving"]);
  one.close();
  one.close();
  await settle();
  browser.nothingIsLeft(tab);
});

test("twenty tabs share one stream: each gets its own job, and a list gets all of them", async () => {
  const browser = new Browser();
  const tabs = Array.from({ length: 20 }, (_, number) => browser.tab(`t${number}`));
  const followed = tabs.map((tab, number) => tab.follow(number === 7 ? ALL : eventsOf(number % 2)));
  let source = await begins(browser, job(0, 1));
  assert.equal(browser.open.length, 2, "later tabs wait for the next stream, which has been requested");
  source = await begins(browser, job(0, 1), job(1, 1));
  assert.equal(browser.open.length, 1);
  assert.equal(source.url, withoutItems(ALL));
  say(source, "job", job(1, 2));
  say(source, "heartbeat", { jobs: {} });
  await settle();
  followed.forEach(({ received }, number) => {
    assert.equal(received[0], "open");
    assert.equal(received.includes("job 2"), number === 7 || number % 2 === 1, `tab ${number}`);
    assert.equal(received.at(-1), "heartbeat");
  });
  for (const one of followed) one.close();
  await settle();
  browser.nothingIsLeft(...tabs);
});

test("a tab that joins gets the state from a new stream; the old one stays until its first event", async () => {
  const browser = new Browser();
  const [a, b] = [browser.tab("a"), browser.tab("b")];
  const one = a.follow(eventsOf(1));
  const first = await begins(browser, job(1, 3));
  const two = b.follow(eventsOf(2));
  await settle();
  const second = browser.open.at(-1);
  assert.equal(second.url, withoutItems(`${ALL}?job=${ID(1)}&job=${ID(2)}`));
  say(second, "open");
  say(first, "job", job(1, 4));
  await settle();
  assert.deepEqual([first.closed, one.received, two.received], [false, ["open", "job 3", "job 4"], ["open"]]);
  say(second, "job", job(2, 9));
  say(second, "job", job(1, 4));
  say(first, "job", job(1, 99));
  await settle();
  assert.deepEqual([first.closed, one.received.at(-1), two.received], [true, "job 4", ["open", "job 9"]]);
  one.close();
  two.close();
  await settle();
  browser.nothingIsLeft(a, b);
});

for (const [how, end] of /** @type {[string, (browser: any, tab: any, one: any) => void][]} */ ([
  [
    "is closed",
    (browser, tab) => {
      tab.window.dispatchEvent(new Event("pagehide"));
      browser.crash(tab);
    },
  ],
  ["crashes", (browser, tab) => browser.crash(tab)],
  ["is frozen", (browser, tab) => tab.document.dispatchEvent(new Event("freeze"))],
  ["has seen the end of its job", (browser, tab, one) => one.close()],
])) {
  test(`the stream is handed over when its tab ${how}, without a timer`, async () => {
    const browser = new Browser();
    const [a, b, c] = ["a", "b", "c"].map((name) => browser.tab(name));
    const one = a.follow(eventsOf(1));
    await begins(browser, job(1, 1));
    const others = [b.follow(eventsOf(2)), c.follow(ALL)];
    await begins(browser, job(1, 1), job(2, 1));
    await begins(browser, job(1, 1), job(2, 1));
    end(browser, a, one);
    await begins(browser, job(2, 5));
    const source = await begins(browser, job(2, 5));
    assert.deepEqual([browser.open.length, source.tab, source.url], [1, "b", withoutItems(ALL)]);
    for (const other of others)
      assert.deepEqual([other.received.at(-1), other.received.includes("error")], ["job 5", false]);
    for (const other of others) other.close();
    await settle();
    browser.nothingIsLeft(b, c);
  });
}

test("a frozen page breaks its sources, so that its policy opens others after the freeze", async () => {
  const browser = new Browser();
  const tab = browser.tab("a");
  const one = tab.follow(eventsOf(1));
  await begins(browser, job(1, 1));
  tab.document.dispatchEvent(new Event("freeze"));
  await settle();
  assert.equal(one.received.at(-1), "error");
  browser.nothingIsLeft(tab);
  const again = tab.follow(eventsOf(1));
  await begins(browser, job(1, 2));
  assert.deepEqual(again.received, ["open", "job 2"]);
  again.close();
});

test("a job that only a crashed tab followed is unsubscribed", async () => {
  const browser = new Browser();
  const [a, b] = [browser.tab("a"), browser.tab("b")];
  const one = a.follow(eventsOf(1));
  await begins(browser, job(1, 1));
  b.follow(ALL);
  const wide = await begins(browser, job(1, 1));
  assert.equal(wide.url, withoutItems(ALL));
  browser.crash(b);
  const source = await begins(browser, job(1, 2));
  assert.deepEqual([browser.open.length, source.url], [1, withoutItems(`${ALL}?job=${ID(1)}`)]);
  assert.deepEqual(
    one.received.filter((name) => name === "error"),
    [],
  );
  one.close();
});

test("a broken stream is an error for all of its subscriptions; the next one opens another", async () => {
  const browser = new Browser();
  const [a, b] = [browser.tab("a"), browser.tab("b")];
  const followed = [a.follow(eventsOf(1)), b.follow(eventsOf(1))];
  await begins(browser, job(1, 1));
  const source = await begins(browser, job(1, 1));
  say(source, "error");
  await settle();
  assert.deepEqual(
    followed.map(({ received }) => received.at(-1)),
    ["error", "error"],
  );
  browser.nothingIsLeft(a, b);
  const again = b.follow(eventsOf(1));
  await begins(browser, job(1, 2));
  assert.deepEqual(again.received, ["open", "job 2"]);
  again.close();
});

test("a leader that fails to answer twice has its lock stolen, and rejoins when it can", async () => {
  const browser = new Browser();
  const [a, b] = [browser.tab("a"), browser.tab("b")];
  const one = a.follow(eventsOf(1));
  await begins(browser, job(1, 1));
  browser.lost = (message, from, to) => to === a || (from === a && message.type !== "lead"); // it hangs
  const two = b.follow(eventsOf(2));
  await settle();
  assert.equal(browser.open.length, 1);
  await browser.pass([b], 1_500);
  assert.equal(browser.open.length, 1, "once may mean that this tab slept");
  browser.lost = (message, from, to) => to === a;
  await browser.pass([b], 1_500);
  await begins(browser, job(2, 1));
  assert.deepEqual(two.received, ["open", "job 1"]);
  browser.lost = () => false;
  await browser.pass([a], 1_500);
  const source = await begins(browser, job(1, 2), job(2, 1));
  assert.deepEqual([browser.open.length, source.tab, one.received.at(-1)], [1, "b", "job 2"]);
  one.close();
  two.close();
  await settle();
  browser.nothingIsLeft(a, b);
});

test("a message that is lost between two leaders is sent again", async () => {
  const browser = new Browser();
  const [a, b] = [browser.tab("a"), browser.tab("b")];
  const one = a.follow(eventsOf(1));
  await begins(browser, job(1, 1));
  browser.lost = (message) => message.type === "subscribe";
  const two = b.follow(eventsOf(2));
  await settle();
  browser.lost = () => false;
  await browser.pass([b], 1_500);
  await begins(browser, job(1, 1), job(2, 1));
  assert.deepEqual(two.received, ["open", "job 1"]);
  one.close();
  two.close();
  await settle();
  browser.nothingIsLeft(a, b);
});

test("without locks, or if they are refused, each tab has its own stream", async () => {
  for (const changes of [{ locks: null }, { channel: null }]) {
    const browser = new Browser();
    const one = browser.tab("a", changes).follow(eventsOf(1));
    const source = await begins(browser, job(1, 1));
    assert.deepEqual([source.url, one.received], [withoutItems(eventsOf(1)), ["open", "job 1"]]);
    one.close();
    assert.equal(source.closed, true);
  }
  const browser = new Browser();
  browser.locks.refusal = new DOMException("a sandboxed frame", "SecurityError");
  const tab = browser.tab("a");
  const one = tab.follow(eventsOf(1));
  await settle();
  assert.deepEqual(one.received, ["error"]);
  const again = tab.follow(eventsOf(1));
  await begins(browser, job(1, 1));
  assert.deepEqual([browser.open.at(-1).url, again.received], [withoutItems(eventsOf(1)), ["open", "job 1"]]);
  again.close();
  browser.nothingIsLeft(tab);
});

test("without locks, a hidden tab leaves its connection to other tabs", async () => {
  const browser = new Browser();
  const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const tab = browser.tab("a", { locks: null, document: page });
  const one = tab.follow(eventsOf(1));
  await begins(browser, job(1, 1));
  page.visibilityState = "hidden";
  page.dispatchEvent(new Event("visibilitychange"));
  assert.deepEqual([one.received.at(-1), browser.open.length], ["error", 0]);
  const two = tab.follow(eventsOf(1));
  await settle();
  assert.deepEqual([two.received, browser.sources.length], [["error"], 1]);
  page.visibilityState = "visible";
  page.dispatchEvent(new Event("visibilitychange"));
  const three = tab.follow(eventsOf(1));
  await begins(browser, job(1, 2));
  assert.deepEqual(three.received, ["open", "job 2"]);
  three.close();
  assert.equal(browser.open.length, 0);
});
