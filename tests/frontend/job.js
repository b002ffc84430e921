/*
 * Provides a running job as the server sends it; each test changes the fields that it is about.
 */

/** @returns {any} */
export function makeJob(changes = {}, progress = {}) {
  return {
    id: "8f14e45f-ceea-467f-a0e6-0d6f3d0f1b2a",
    seq: 12,
    kind: "checksum",
    name: "Reports",
    state: "running",
    done: false,
    cancel_requested: false,
    health: "ok",
    attempt: 1,
    max_attempts: 3,
    error: null,
    item_errors: [],
    created_at: "2026-03-01T10:00:00Z",
    started_at: "2026-03-01T10:00:00Z",
    finished_at: null,
    server_time: "2026-03-01T10:00:05Z",
    poll_after_ms: 2000,
    links: { self: "/api/jobs/x", events: "", items: "", cancel: "", retry: null, results: null },
    progress: {
      total: 25,
      processed: 11,
      succeeded: 10,
      failed: 1,
      skipped: 0,
      percent: 44,
      rate_per_second: 2.1,
      eta_seconds: 7,
      stage: null,
      message: null,
      current: [],
      ...progress,
    },
    ...changes,
  };
}
