/*
 * Tests that a lost link is in view: in the badge, on the bar, and in nothing that grows unobserved; and that it is
 * told once to a screen reader.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isLost, lostBadge } from "../../frontend/view/contact.js";
import { announcement, jobView } from "../../frontend/view/job-view.js";
import { english } from "../../frontend/view/locale/en.js";
import { makeJob } from "./job.js";

const AT = Date.parse("2026-03-01T10:01:00Z");
const lost = (link, more = {}) => jobView({ job: makeJob(), link, news_age_ms: 25_000, now_ms: AT, ...more });

test("while contact is lost the badge says so, since when, and nothing turns", () => {
  for (const [link, text, more] of /** @type {[any, string, object][]} */ ([
    ["offline", "No contact · 25 s", {}],
    ["offline", "Offline · 25 s", { browser_offline: true }],
    ["offline", "Server error · 25 s", { failure: { status: 503, code: null } }],
    ["offline", "No contact · 25 s", { failure: { status: 200, code: "not_our_answer" } }],
    ["offline", "No contact", { news_age_ms: null }],
    ["connecting", "Reconnecting · 25 s", {}],
    ["gave_up", "No contact · 30 min", { news_age_ms: 1_800_000 }],
    ["signed_out", "Signed out", {}],
    ["signed_out", "Signed out", { job: null, news_age_ms: null }],
    ["not_found", "Not found", {}],
  ])) {
    const shown = lost(link, more);
    assert.deepEqual([shown.badge, shown.bar.tone], [{ text, tone: "lost" }, "lost"], link);
    assert.equal(shown.link.tone, "warn", link);
  }
  for (const key of Object.keys(english).filter((one) => one.startsWith("link_")))
    if (lostBadge({ link: /** @type {any} */ (key.slice(5)) }))
      assert.ok(english[`lost_${key.slice(5)}`], `${key} has no words for the badge`);
});

test("with contact, or at the end, the badge says what the job does", () => {
  for (const link of /** @type {const} */ (["live", "polling", "catching_up"]))
    assert.deepEqual([lost(link).badge.text, lost(link).bar.tone], ["Running", "busy"], link);
  assert.equal(isLost({ link: "connecting", news_age_ms: 4_999 }), false, "a short break changes nothing");
  assert.equal(isLost({ link: "connecting", news_age_ms: null }), false, "the first connection is no loss");
  const done = makeJob({ state: "completed", done: true }, { processed: 25, succeeded: 25, failed: 0 });
  assert.deepEqual(
    [lost("offline", { job: done }).badge.text, lost("offline", { job: done }).bar.tone],
    ["Done", "good"],
  );
});

test("no duration of the work grows while nothing is known of it", () => {
  const stuck = makeJob({ health: "stalled", progress_at: "2026-03-01T10:00:00Z" });
  assert.match(lost("live", { job: stuck }).note, /No progress for 1 min/);
  assert.match(lost("offline", { job: stuck }).note, /No progress for 35 s/);
  const stopping = makeJob({ cancel_requested: true, cancel_requested_at: "2026-03-01T10:00:00Z" });
  assert.match(lost("offline", { job: stopping }).note, /Cancelling for 35 s/);
});

test("a loss is told once, whatever it is called meanwhile, and so is its end", () => {
  let before = /** @type {any} */ (null);
  const spoken = [];
  for (const [link, news_age_ms] of /** @type {[any, number][]} */ ([
    ["live", 0],
    ["connecting", 2_000],
    ["connecting", 6_000],
    ["connecting", 7_000],
    ["offline", 12_000],
    ["offline", 13_000],
    ["gave_up", 1_800_000],
    ["gave_up", 1_801_000],
    ["live", 0],
  ])) {
    const seen = { job: makeJob(), link, news_age_ms };
    spoken.push(announcement(before, seen));
    before = seen;
  }
  assert.deepEqual(spoken.slice(0, 6), ["Running", "", "Connection lost; trying again.", "", "", ""]);
  assert.match(spoken[6], /^No updates on job .* for 30 min/);
  assert.deepEqual(spoken.slice(7), ["", "Connected again."]);
});
