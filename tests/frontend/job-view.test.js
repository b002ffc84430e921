/*
 * Tests what the screen shows and when: sentences, numbers, bars that do not go back, and translations.
 * It must not use more than the public functions of job-view.js.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  announcement,
  badge,
  barValue,
  checkText,
  forward,
  refusal,
  sentence,
  jobView,
} from "../../frontend/view/job-view.js";
import { percentText, say } from "../../frontend/view/format.js";
import { itemLine } from "../../frontend/view/item-line.js";
import { english } from "../../frontend/view/locale/en.js";
import { ITEM } from "./item.js";
import { makeJob as job } from "./job.js";

/** @import { ViewInput } from "../../frontend/view/job-view.js" */

const endedJob = (state, progress, changes = {}) =>
  job({ state, done: true, health: null, started_at: null, ...changes }, { eta_seconds: null, ...progress });

test("a running job is described in words and numbers", () => {
  const shown = jobView({ job: job(), link: "live" });
  assert.deepEqual([shown.title, shown.kind, shown.badge.text], ["Reports", "checksum", "Running"]);
  assert.deepEqual(
    [shown.percent, shown.eta, shown.amount, shown.rate],
    ["44%", "7 s left", "11 of 25 files", "2.1 files/s"],
  );
  assert.deepEqual(
    shown.counts.map(({ label, value }) => `${label} ${value}`),
    ["Succeeded 10", "Failed 1", "To do 14"],
  );
  assert.deepEqual([shown.link.text, shown.sentence], ["Live", ""]);
});

test("items are called what the job calls them, in every sentence", () => {
  const rows = { unit: "row", units: "rows" };
  const running = jobView({
    job: job(rows, { total: null, processed: 1204, rate_per_second: 205 }),
    link: "live",
  });
  assert.deepEqual([running.amount, running.rate], ["1,204 rows so far", "205 rows/s"]);
  const done = endedJob("completed", { total: 6, processed: 6 }, { unit: "mail", units: "mails" });
  assert.equal(sentence(done), "All 6 mails are done.");
  assert.equal(sentence({ ...done, unit: undefined, units: undefined, external: true }), "All 6 items are done.");
  assert.equal(sentence(endedJob("completed", { total: 1, processed: 1 }, rows)), "The row is done.");
  const hostile = { unit: "\u202e{count}", units: "x".repeat(99) };
  assert.ok(!/\u202e|x{41}/.test(jobView({ job: job(hostile), link: "live" }).amount));
  const german = {
    locale: "de",
    unit_row: { one: "Zeile", other: "Zeilen" },
    files_of: "{processed} von {total} {unit}",
  };
  assert.equal(jobView({ job: job(rows), link: "live" }, german).amount, "11 von 25 Zeilen");

  // Whatever the screen says about a job of rows, it never says "file".
  const states = ["queued", "running", "completed", "completed_with_errors", "failed", "cancelled"];
  for (const state of states)
    for (const external of [false, true])
      for (const health of ["ok", "waiting_long", "stalled", "unresponsive"])
        for (const cancel_requested of [false, true])
          for (const total of [0, 1, 25, null]) {
            const done = states.indexOf(state) > 1;
            const links = { ...job().links, retry: done ? "/retry" : null };
            const one = job(
              { ...rows, state, done, external, health, cancel_requested, links },
              { total, skipped: 1 },
            );
            const shown = [jobView({ job: one, link: "live" }), announcement(null, { job: one, link: "live" })];
            assert.ok(!/\bfiles?\b/i.test(JSON.stringify(shown)), JSON.stringify(shown));
          }
});

test("what is not known is not shown", () => {
  const shown = jobView({
    job: job({ name: null }, { total: null, percent: null, eta_seconds: null, rate_per_second: null }),
    link: "live",
  });
  assert.deepEqual(
    [shown.title, shown.percent, shown.eta, shown.rate, shown.bar.value],
    ["checksum", "", "", "", null],
  );
  assert.equal(shown.amount, "11 files so far");
});

test("nothing is forecast without contact to the server", () => {
  const shown = jobView({ job: job(), link: "offline", news_age_ms: 12_000 });
  assert.deepEqual([shown.eta, shown.rate, shown.percent], ["", "", "44%"]);
  assert.match(shown.link.text, /No response from the server/);
  assert.equal(shown.link.age, "Last update 12 s ago.");
  const stuck = jobView({ job: job({ health: "unresponsive" }), link: "live" });
  assert.deepEqual([stuck.eta, stuck.rate], ["", ""], "nor for work that is stuck");
});

test("each outcome has its own sentence", () => {
  const cases = /** @type {[any, string][]} */ ([
    [endedJob("completed", { processed: 25, succeeded: 25, failed: 0 }), "All 25 files are done."],
    [endedJob("completed", { total: 1, processed: 1, succeeded: 1, failed: 0 }), "The file is done."],
    [endedJob("completed", { total: 0, processed: 0, succeeded: 0, failed: 0 }), "Done. There was nothing to do."],
    [
      endedJob("completed", { processed: 25, succeeded: 22, failed: 0, skipped: 3 }),
      "All 25 files are done, 3 of them skipped.",
    ],
    [
      endedJob("completed_with_errors", { total: 40, processed: 40, succeeded: 37, failed: 3 }),
      "37 of 40 files are done; 3 failed.",
    ],
    [endedJob("cancelled", { total: 40, processed: 12 }), "Cancelled after 12 of 40 files."],
    [endedJob("cancelled", { total: null, processed: 12 }), "Cancelled after 12 files."],
    [
      endedJob("failed", {}, { error: { code: "worker_lost", message: "The worker is gone." } }),
      "Failed: The worker is gone.",
    ],
    [endedJob("failed", {}), "Failed. The server gave no reason."],
    [endedJob("archived", {}), "Ended in the state “archived”."],
    [
      endedJob(
        "completed",
        { total: 12_345, processed: 12_345, failed: 0 },
        { started_at: "2026-03-01T10:00:00Z", finished_at: "2026-03-01T10:01:15Z" },
      ),
      "All 12,345 files are done. It took 1 min 15 s.",
    ],
  ]);
  for (const [ended, expected] of cases) assert.equal(sentence(ended), expected);
});

test("a finished job says how long it is kept", () => {
  process.env.TZ = "UTC";
  const now_ms = Date.parse("2026-11-22T12:00:00Z");
  const kept = (expires_at, changes = {}) =>
    jobView({ job: endedJob("completed", {}, { expires_at, ...changes }), link: "ended", now_ms }).kept;
  assert.equal(kept("2026-11-29T14:05:00Z"), "Kept until 29 November, 14:05.");
  assert.equal(kept("2027-01-02T14:05:00Z"), "Kept until 2 January 2027, 14:05.");
  assert.equal(kept("2026-11-23T12:00:00Z"), "Kept until 23 November, 12:00.");
  assert.equal(kept("2026-11-23T11:59:00Z"), "Will be removed in 23 hours, at 11:59.");
  assert.equal(kept("2026-11-22T13:30:00Z"), "Will be removed in 1 hour, at 13:30.");
  assert.equal(kept("2026-11-22T12:59:59Z"), "Will be removed in 59 minutes, at 12:59.");
  assert.equal(kept("2026-11-22T12:00:30Z"), "Will be removed in 1 minute, at 12:00.");
  assert.equal(kept("2026-11-22T11:00:00Z"), "Expired; it will be removed soon.");
  assert.deepEqual(
    [kept(null), kept(undefined), kept("2026-11-29T14:05:00Z", { done: false, state: "running" })],
    ["", "", ""],
  );
});

test("an unknown state is running until the job says that it is done", () => {
  assert.equal(badge(job({ state: "hibernating" })).text, "Running");
  assert.equal(badge(job({ state: "hibernating", done: true })).text, "Unknown");
  for (const state of ["constructor", "toString", "__proto__"]) {
    assert.equal(badge(job({ state })).text, "Running");
    assert.match(sentence(job({ state, done: true })), /^Ended in the state/);
  }
});

test("a cancel request is shown as cancelling, and the button is disabled", () => {
  const shown = jobView({ job: job({ cancel_requested: true }), link: "live" });
  assert.deepEqual(
    [shown.badge.text, shown.buttons.cancel.enabled, shown.buttons.cancel.text],
    ["Cancelling…", false, "Cancelling…"],
  );
  assert.equal(jobView({ job: job(), link: "live", cancelling: true }).buttons.cancel.enabled, false);
  assert.equal(jobView({ job: endedJob("completed", {}), link: "ended" }).buttons.cancel.shown, false);
});

test("trouble with the link, the worker and the work is distinguished", () => {
  const note = (health) => jobView({ job: job({ health }), link: "live" }).note;
  assert.equal(note("ok"), "");
  assert.equal(new Set(["stalled", "unresponsive", "waiting_long"].map(note)).size, 3);
  const said = (failure, more = {}) => jobView({ job: job(), link: "offline", failure, ...more }).link.text;
  assert.match(said({ status: 503, code: null }), /error \(503\)/);
  assert.match(said({ status: 200, code: "not_our_answer" }), /did not come from the progress server/);
  assert.match(said({ status: null, code: "timeout" }), /No response/);
  assert.match(said(null, { browser_offline: true }), /device seems to be offline/);
});

test("every state of the link has a text, and every way back a button", () => {
  for (const link of /** @type {const} */ ([
    "connecting",
    "live",
    "catching_up",
    "polling",
    "offline",
    "not_found",
    "signed_out",
    "gave_up",
  ])) {
    const { text } = jobView({ job: job(), link, id: "abc" }).link;
    assert.ok(text && !/[{}]|link_/.test(text), text);
  }
  const lost = jobView({ job: null, link: "not_found", id: "abc" });
  assert.deepEqual([lost.title, lost.meter], ["Job not found", false]);
  assert.match(lost.link.text, /no job abc\. It may have been removed/);
  const tired = jobView({ job: job(), link: "gave_up", news_age_ms: 30 * 60_000 });
  assert.equal(tired.buttons.keep_watching.shown, true);
  assert.match(tired.link.text, /No updates on job 8f14e45f-[\w-]+ for 30 min.*job itself is not affected/);
  assert.match(
    jobView({ job: null, link: "gave_up", news_age_ms: 30 * 60_000 }).link.text,
    /No updates for 30 min.*jobs themselves are not affected/,
  );
  assert.equal(jobView({ job: job(), link: "signed_out" }).buttons.sign_in.shown, true);
});

test("100 is shown only once the job is done", () => {
  assert.equal(jobView({ job: job({}, { percent: 100 }), link: "live" }).percent, "99%");
  assert.equal(percentText(99.99, english), "99%");
  assert.equal(jobView({ job: endedJob("completed", { percent: 100 }), link: "ended" }).bar.value, 100);
  assert.equal(barValue(endedJob("cancelled", { percent: 30 })), 30);
});

test("the end is said once: in the sentence, and in counts only what it leaves out", () => {
  const end = (state, progress, changes = {}) => {
    const shown = jobView({ job: endedJob(state, { percent: 100, ...progress }, changes), link: "ended" });
    assert.deepEqual([shown.percent, shown.amount, shown.rate, shown.eta], ["", "", "", ""]);
    return [shown.sentence, shown.counts.map(({ label, value }) => `${label} ${value}`).join(", ")];
  };
  assert.deepEqual(end("completed", { processed: 25, succeeded: 25, failed: 0 }), ["All 25 files are done.", ""]);
  assert.deepEqual(
    end("completed_with_errors", {
      total: 10_000,
      processed: 10_000,
      succeeded: 6_001,
      failed: 3_039,
      skipped: 960,
    }),
    ["6,001 of 10,000 files are done; 3,039 failed, 960 skipped.", ""],
  );
  const all = { error: { code: "all_items_failed", message: "All 3 items failed; see each item's error." } };
  assert.deepEqual(
    end("failed", { total: 3, processed: 3, succeeded: 0, failed: 3 }, all)[0],
    "All 3 files failed.",
  );
  assert.deepEqual(end("failed", { total: 1, processed: 1, succeeded: 0, failed: 1 }, all)[0], "The file failed.");
  assert.deepEqual(
    end("failed", { total: 5, processed: 5, succeeded: 0, failed: 3, skipped: 2 }, all)[0],
    "3 of 5 files failed, 2 skipped.",
  );
  assert.equal(
    end("cancelled", { total: 40, processed: 12, succeeded: 10, failed: 2 })[1],
    "Succeeded 10, Failed 2, Not done 28",
  );
});

test("a job of unknown total that was cut short shows no percent", () => {
  for (const state of ["cancelled", "failed"]) {
    const shown = jobView({
      job: endedJob(state, { total: null, processed: 1_204, percent: null }),
      link: "ended",
    });
    assert.deepEqual([shown.bar.value, shown.percent], [null, ""]);
  }
  const whole = endedJob("completed", { total: null, processed: 1_204, percent: null });
  assert.equal(jobView({ job: whole, link: "ended" }).bar.value, 100);
});

test("the whole error of a job can be read, unless the sentence or an item has it", () => {
  const reason = (message, code = "reported") =>
    jobView({ job: endedJob("failed", {}, { error: { code, message } }), link: "ended" }).reason?.message ?? null;
  const long = `first line\n${"x".repeat(2_400)}`;
  assert.equal(reason(long), long);
  assert.equal(sentence(endedJob("failed", {}, { error: { code: "x", message: long } })), "Failed: first line");
  assert.equal(reason("y".repeat(400)), "y".repeat(400));
  assert.equal(reason("short"), null);
  assert.equal(reason(long, "all_items_failed"), null);
});

test("long names that differ anywhere look different, and a kind is shown by its title", () => {
  const named = (middle) => `${"a".repeat(90)}${middle}${"z".repeat(90)}`;
  const title = (name) => jobView({ job: job({ name }), link: "live" }).title;
  assert.notEqual(title(named("1")), title(named("2")));
  const shown = jobView({ job: job({ name: "n".repeat(900) }), link: "live" });
  assert.deepEqual([shown.title.length, shown.full_title], [200, "n".repeat(900)]);
  const words = { ...english, "kind:checksum": "SHA-256 checksum" };
  assert.equal(jobView({ job: job(), link: "live" }, words).kind, "SHA-256 checksum");
  assert.equal(jobView({ job: job({ name: "" }), link: "live" }, words).title, "SHA-256 checksum");
});

test("a refusal is told in words for people", () => {
  const told = (code) => refusal({ code, detail: "GET /api/jobs lists … (unstuck fail)" }, 409);
  for (const code of ["job_not_found", "job_finished", "job_not_done", "nothing_to_retry", "inputs_gone"])
    assert.doesNotMatch(told(code), /GET|unstuck|_/);
  assert.match(told("work_elsewhere"), /start the reporting program again/);
});

test("the bar never goes back within an attempt", () => {
  let floor = null;
  const values = [
    [1, 44],
    [2, 40],
    [3, 50],
    [4, null],
  ].map(([seq, percent]) => {
    const next = job({ seq }, { percent });
    floor = forward(floor, next);
    return barValue(next, floor.percent);
  });
  assert.deepEqual(values, [44, 44, 50, null]);
  assert.equal(forward(floor, job({ seq: 5, attempt: 2 }, { percent: 3 })).percent, 3);
  assert.equal(forward(floor, job({ seq: 5, id: "another" }, { percent: 3 })).percent, 3);
  assert.equal(forward(floor, job({ seq: 1 }, { percent: 3 })).percent, 3, "a restored store is the truth");
});

test("every text from outside is made harmless", () => {
  const evil = "a\u202Eb";
  const shown = jobView({
    job: job(
      { name: evil, kind: evil, item_errors: [{ index: 0, name: evil, code: "x", message: evil }] },
      { current: [evil], stage: evil, message: evil },
    ),
    link: "live",
  });
  assert.ok(!JSON.stringify(shown).includes("\u202E"));
  assert.ok(!sentence(endedJob("failed", {}, { error: { code: "x", message: evil } })).includes("\u202E"));
  assert.ok(
    !JSON.stringify(
      itemLine({ ...ITEM, name: evil, state: "succeeded", message: evil, result: { [evil]: evil } }),
    ).includes("\u202E"),
  );
  assert.ok(!refusal({ detail: evil }, 400).includes("\u202E"));
});

test("the line of current files does not grow", () => {
  const current = jobView({ job: job({}, { current: ["a", "b", "c", "d"] }), link: "live" }).current;
  assert.deepEqual(current, { names: ["a"], more: "and 3 more" });
});

test("a screen reader announces quarters, changes of state and of the link, and the end, each once", () => {
  const spoken = [];
  let before = null;
  const play = [
    [{}, 0],
    [{}, 10],
    [{}, 26],
    [{}, 30],
    [{}, 77],
    [{ cancel_requested: true }, 80],
  ];
  for (const [changes, percent] of play) {
    /** @type {ViewInput} */
    const seen = { job: job(changes, { percent }), link: "live" };
    spoken.push(announcement(before, seen));
    before = seen;
  }
  assert.deepEqual(spoken, ["Running", "", "26% done.", "", "77% done.", "Cancelling…"]);
  const lost = { ...before, link: "offline" };
  assert.equal(announcement(before, lost), "Connection lost; trying again.");
  assert.equal(announcement(lost, lost), "");
  assert.equal(announcement(lost, before), "Connected again.");
  /** @type {ViewInput} */
  const end = { job: endedJob("completed", { processed: 25, failed: 0 }), link: "ended" };
  assert.deepEqual([announcement(before, end), announcement(end, end)], ["All 25 files are done.", ""]);
});

test("the result of a check is shown", () => {
  assert.match(checkText({ outcome: "same", status: 200 }), /nothing new/);
  assert.match(checkText({ outcome: "news", status: 200 }), /updated/);
  assert.match(checkText({ outcome: "failed", status: null }), /no response/);
  assert.match(checkText({ outcome: "failed", status: 502 }), /502/);
});

test("the server's own explanation is preferred", () => {
  assert.equal(refusal({ detail: "a.csv has 3 GB." }, 413), "a.csv has 3 GB.");
  assert.equal(refusal(null, 413), "the server responded with an error (413)");
  assert.equal(refusal(null, null), "the server did not respond; please try again");
});

test("a translation replaces texts, plural forms and the way numbers are written", () => {
  const deutsch = {
    ...english,
    locale: "de",
    running: "Läuft",
    end_completed: { one: "Die Datei ist fertig.", other: "Alle {total} Dateien sind fertig." },
  };
  assert.equal(jobView({ job: job(), link: "live" }, deutsch).badge.text, "Läuft");
  assert.equal(
    sentence(endedJob("completed", { total: 12_345, processed: 12_345, failed: 0 }), deutsch),
    "Alle 12.345 Dateien sind fertig.",
  );
  const polski = {
    ...english,
    locale: "pl",
    and_more: { one: "{count} plik", few: "{count} pliki", many: "{count} plików", other: "{count} pliku" },
  };
  assert.deepEqual(
    [1, 3, 5].map((count) => say(polski, "and_more", { count })),
    ["1 plik", "3 pliki", "5 plików"],
  );
  assert.equal(
    jobView({ job: job(), link: "live" }, { locale: "en-GB" }).badge.text,
    "Running",
    "English fills in what a table leaves out",
  );
});

test("a state found by polling is marked, also at the end", () => {
  const said = (link, found_by_polling) =>
    jobView({ job: link === "ended" ? endedJob("completed", {}) : job(), link, found_by_polling }).link.found;
  assert.deepEqual([said("live", true), said("live", false)], ["updated by a status check", ""]);
  assert.match(said("ended", true), /Found by a status check/);
  assert.equal(said("ended", false), "");
});

test("the age of the state is shown once it is old, even if the link seems to be live", () => {
  const age = (link, news_age_ms) => jobView({ job: job(), link, news_age_ms }).link.age;
  assert.deepEqual([age("live", 16_000), age("live", 21_000)], ["", "Last update 21 s ago."]);
  assert.deepEqual([age("catching_up", 2_000), age("catching_up", 21_000)], ["", "Last update 21 s ago."]);
});

test("a new job is offered in place of a missing one if the page can start one", () => {
  const shown = (changes) =>
    jobView({ job: null, link: "not_found", can_create: true, ...changes }).buttons.create_new.shown;
  assert.deepEqual([shown({}), shown({ can_create: false }), shown({ link: "offline" })], [true, false, false]);
});

test("a notification is offered while a job runs, if the browser supports it", () => {
  const button = (notice, changes = {}) => jobView({ job: job(changes), link: "live", notice }).buttons.notify;
  assert.deepEqual(button("offer"), { shown: true, enabled: true, text: "Notify me" });
  assert.deepEqual(button("on"), { shown: true, enabled: false, text: "You will be notified" });
  assert.equal(button("none").shown, false);
  assert.equal(button("offer", { done: true, state: "completed" }).shown, false);
});

test("failed and cancelled files can be retried once the job is done, and no others", () => {
  const links = { retry: "/api/jobs/x/retry" };
  const button = (ended, seen = {}) => jobView({ job: ended, link: "ended", ...seen }).buttons.retry;
  const done = (state, progress) => endedJob(state, progress, { links: { ...job().links, ...links } });
  const cases = [
    [
      done("completed_with_errors", { total: 40, processed: 40, succeeded: 37, failed: 3 }),
      "Retry 3 failed files",
    ],
    [done("failed", { total: 1, processed: 1, succeeded: 0, failed: 1 }), "Retry the failed file"],
    [done("cancelled", { total: 40, processed: 12, succeeded: 12, failed: 0 }), "Run the other 28 files"],
    [done("cancelled", { total: 40, processed: 39, succeeded: 39, failed: 0 }), "Run the other file"],
    [done("failed", { total: 12_000, processed: 12, succeeded: 10, failed: 2 }), "Run 11,990 unfinished files"],
  ];
  for (const [ended, expected] of cases)
    assert.deepEqual(button(ended), { shown: true, enabled: true, text: expected });
  assert.equal(button(cases[0][0], { retried: true }).text, "Retry again: 3 files");
  assert.equal(button(cases[1][0], { retried: true }).text, "Retry again: 1 file");
  assert.deepEqual(button(cases[0][0], { retrying: true }), {
    shown: true,
    enabled: false,
    text: "Starting…",
  });
  assert.equal(
    button(done("completed", { total: 25, processed: 25, succeeded: 20, failed: 0, skipped: 5 })).shown,
    false,
  );
  assert.equal(
    button(endedJob("failed", { total: 1, processed: 1, succeeded: 0, failed: 1 })).shown,
    false,
    "a server that cannot do it",
  );
  assert.equal(button(job()).shown, false);
  assert.equal(button(null).shown, false);
});

test("the time since a cancel request is counted by the server's clock", () => {
  const asked = job({ cancel_requested: true, cancel_requested_at: "2026-03-01T10:00:00Z" });
  const note = (seconds) =>
    jobView({ job: asked, link: "live", now_ms: Date.parse("2026-03-01T10:00:00Z") + seconds * 1_000 }).note;
  assert.equal(note(0.5), "Cancelling… Finished files are kept.");
  assert.equal(note(12), "Cancelling for 12 s. Finished files are kept.");
  assert.match(note(80), /for 1 min 20 s/);
  assert.equal(note(-5), note(0.5), "whatever the clocks say");
  assert.equal(
    jobView({ job: job({ cancel_requested: true }), link: "live" }).note,
    note(0),
    "a server that does not say since when",
  );
});
