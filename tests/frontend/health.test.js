/*
 * Tests the texts about a stuck job, and those of the entries in a job's timeline.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { healthFact, healthNote, serverNow, isStuck } from "../../frontend/view/health.js";
import { entryLine } from "../../frontend/element/timeline.js";
import { badge, jobView } from "../../frontend/view/job-view.js";
import { makeJob } from "./job.js";

const at = (/** @type {number} */ second) => new Date(Date.UTC(2026, 0, 1) + second * 1_000).toISOString();
const NOW = Date.parse(at(1_000));

const job = (more = {}) =>
  makeJob(
    {
      created_at: at(0),
      started_at: at(100),
      progress_at: at(640),
      heartbeat_at: at(975),
      server_time: at(900),
      ...more,
    },
    { total: 10, processed: 2, succeeded: 2, failed: 0, percent: 20, rate_per_second: null, eta_seconds: null },
  );

test("each kind of silence is counted from its own beginning", () => {
  assert.equal(
    healthFact(job({ state: "queued", health: "waiting_long", created_at: at(280), heartbeat_at: null }), NOW),
    "Waiting for 12 min: no worker has picked it up yet.",
  );
  assert.equal(
    healthFact(job({ health: "waiting_long", heartbeat_at: at(280) }), NOW),
    "Waiting for 12 min: no worker has picked it up again yet.",
  );
  assert.equal(
    healthFact(job({ health: "stalled" }), NOW),
    "No progress for 6 min, although the worker is still running.",
  );
  assert.equal(healthFact(job({ health: "unresponsive" }), NOW), "The worker has not responded for 25 s.");
});

test("the dialog also says what to do, and its badge names the trouble", () => {
  for (const health of ["waiting_long", "stalled", "unresponsive"]) {
    const one = job({ health });
    const shown = jobView({ job: one, link: "live", now_ms: NOW });
    assert.equal(shown.note, healthNote(one, NOW));
    assert.ok(shown.note.length > healthFact(one, NOW).length + 20, "with advice");
    assert.equal(shown.badge.tone, "warn");
    assert.doesNotMatch(shown.badge.text + shown.note, /badge_|_advice|[{}]/);
  }
});

test("external work has no worker: the advice is about the program that reports it", () => {
  assert.equal(
    healthNote(job({ health: "unresponsive", external: true }), NOW),
    "Nothing has been reported for 25 s. Start the reporting program again, or give up on the job with Cancel.",
  );
  for (const health of ["waiting_long", "stalled", "unresponsive"]) {
    for (const state of ["queued", "running"]) {
      const note = healthNote(job({ health, state, external: true }), NOW);
      assert.doesNotMatch(note, /worker|_external|_advice|[{}]/);
    }
  }
});

test("a job that makes progress, is done or is being cancelled needs no attention", () => {
  for (const well of [
    job(),
    job({ health: null, done: true, state: "completed" }),
    job({ health: "stalled", cancel_requested: true }),
    job({ health: "a new word" }),
  ]) {
    assert.equal(isStuck(well), false);
    assert.equal(healthNote(well, NOW), "");
    assert.notEqual(badge(well).text, "No progress");
  }
});

test("the server's time is counted from when a job was received, whatever the local clock says", () => {
  const one = job();
  assert.equal(serverNow(one, 50_000), Date.parse(one.server_time));
  assert.equal(serverNow(one, 57_000), Date.parse(one.server_time) + 7_000);
  assert.equal(serverNow(job({ server_time: at(907) }), 57_000), Date.parse(at(907)));
});

test("entries of the timeline are described", () => {
  /** @param {object} more @returns {any} */
  const entry = (more) => ({
    at: at(1),
    what: "state",
    text: null,
    item: null,
    attempt: null,
    worker: null,
    ...more,
  });
  assert.equal(entryLine(entry({ what: "submitted" })).text, "Submitted");
  assert.equal(
    entryLine(entry({ what: "submitted", text: "retry of 1b4e" })).text,
    "Submitted as a retry of 1b4e",
  );
  assert.equal(entryLine(entry({ text: "completed_with_errors" })).text, "Done with errors");
  assert.equal(entryLine(entry({ text: "frozen" })).text, "New state: frozen");
  assert.equal(entryLine(entry({ what: "health", text: "stalled" })).text, "No progress for a long time");
  assert.equal(
    entryLine(entry({ what: "stopped", text: "failed_by_operator: no use" })).text,
    "Stopped: failed_by_operator: no use",
  );
  const item = { index: 3, name: "a\u202Egnp.exe" };
  const line = entryLine(
    entry({ what: "attempt_failed", text: "Attempt 1 failed: \u001b[31mno", item, attempt: 2, worker: "host/1" }),
  );
  assert.deepEqual(line, {
    name: "a\\u202Egnp.exe",
    text: "Attempt 1 failed: \\u001B[31mno",
    about: "attempt 2 · host/1",
  });
  assert.equal(entryLine(entry({ what: "item_started", item: { index: 3, name: null }, attempt: 1 })).name, "4");
  assert.equal(entryLine(entry({ what: "something_new", text: "here" })).text, "something_new here");
});
