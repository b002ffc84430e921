/*
 * Tests that what is offered for a job is what the server accepts; tests/api/test_actions.py asks the server.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { actions } from "../../frontend/view/actions.js";
import { jobView } from "../../frontend/view/job-view.js";

const { cases } = JSON.parse(readFileSync(new URL("actions.json", import.meta.url), "utf8"));
const HEALTHS = ["ok", "waiting_long", "stalled", "unresponsive"];
const DONE = ["completed", "completed_with_errors", "failed", "cancelled"];
const COUNTS = {
  completed: { processed: 3, succeeded: 3 },
  completed_with_errors: { processed: 3, succeeded: 2, failed: 1 },
  failed: { processed: 3, failed: 3 },
  cancelled: { processed: 0 },
};

/** @returns {any} */
function job({ case: name, external }, changes = {}) {
  const done = DONE.includes(name);
  return {
    id: "x",
    seq: 1,
    kind: "checksum",
    name: "Reports",
    state: name === "cancelling" ? "running" : name,
    done,
    external,
    cancel_requested: name === "cancelling" || name === "cancelled",
    health: done ? null : "ok",
    attempt: 1,
    max_attempts: 1,
    error: null,
    item_errors: [],
    server_time: "2026-03-01T10:00:00Z",
    expires_at: done ? "2026-03-08T10:00:00Z" : null,
    links: { retry: done ? "/retry" : null, results: done ? "/results" : null },
    progress: { total: 3, processed: 0, succeeded: 0, failed: 0, skipped: 0, percent: 0, ...COUNTS[name] },
    ...changes,
  };
}

/** What can be pressed in the dialog, and among the stuck jobs. */
function offered(one, seen = {}) {
  const { buttons, download } = jobView({ job: one, link: one.done ? "ended" : "live", ...seen });
  const pressable = (/** @type {{shown: boolean, enabled: boolean}} */ button) => button.shown && button.enabled;
  const { rescue, give_up } = actions(one);
  return Object.entries({
    cancel: pressable(buttons.cancel),
    rescue,
    give_up,
    retry: pressable(buttons.retry),
    download,
  })
    .filter(([, shown]) => shown)
    .map(([name]) => name);
}

test("no button leads to a refusal, whatever the state and the health", () => {
  for (const one of cases.filter((one) => one.case !== "removed")) {
    for (const health of DONE.includes(one.case) ? [null] : HEALTHS) {
      const found = offered(job(one, { health }));
      assert.deepEqual(found, one.offers, `${one.case}, external: ${one.external}, ${health}`);
      for (const name of found) assert.ok(one.accepts.includes(name), `${one.case}: ${name} is refused`);
    }
  }
});

test("nothing is offered that needs a job which is gone, or may be gone at any moment", () => {
  for (const one of cases.filter((one) => DONE.includes(one.case))) {
    const expired = job(one, { expires_at: "2026-03-01T09:59:59Z" });
    assert.deepEqual(offered(expired), []);
    const shown = jobView({ job: expired, link: "ended" });
    assert.deepEqual([shown.results, shown.errors_file], [false, false]);
  }
  const gone = jobView({ job: null, link: "not_found", id: "x", can_create: true }).buttons;
  assert.deepEqual(
    Object.entries(gone).flatMap(([name, button]) => (button.shown ? [name] : [])),
    ["check", "create_new"],
  );
});

test("results can be read before the end, errors too, and an archive is offered only if there is one", () => {
  const running = job({ case: "running", external: false });
  running.progress = { ...running.progress, processed: 3, succeeded: 2, failed: 1 };
  const shown = jobView({ job: running, link: "live" });
  assert.deepEqual([shown.results, shown.errors_file, shown.download], [true, true, false]);
  const empty = job({ case: "completed", external: false });
  empty.progress = { ...empty.progress, total: 0, processed: 0, succeeded: 0 };
  assert.deepEqual([jobView({ job: empty, link: "ended" }).download, actions(empty).download], [false, false]);
});
