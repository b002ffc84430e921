/*
 * Tests the list of jobs as the subject of a follower: what counts as a change.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EVERYTHING, filterIn, groupOf, withFilter } from "../../frontend/page/job-filter.js";
import { JobList } from "../../frontend/page/job-list.js";

const job = (id, seq, done = false) => ({ id, seq, done, created_at: id, poll_after_ms: 2_000, links: {} });
const seqOf = (standing) => standing?.seq ?? null;

/** Load a list with two unfinished jobs. */
function read() {
  const list = new JobList(new URL("http://host/api/"));
  const seq = seqOf(list.readPoll({ jobs: [job("b", 3), job("a", 7)], next: null }));
  return { list, seq };
}

test("a poll that finds nothing new does not change the list's seq, so the stream is not suspected", () => {
  const { list, seq } = read();
  assert.equal(seqOf(list.readPoll({ jobs: [job("b", 3), job("a", 7)], next: null })), seq);
});

test("a poll with a newer job, one job more or one job less changes it", () => {
  for (const jobs of [[job("b", 4), job("a", 7)], [job("c", 1), job("b", 3), job("a", 7)], [job("a", 7)]]) {
    const { list, seq } = read();
    assert.equal(seqOf(list.readPoll({ jobs, next: null })), seq + 1);
  }
});

test("a heartbeat that is ahead, names an unknown job or lacks one causes a poll, and no other does", () => {
  for (const [jobs, behind] of [
    [{ a: 7, b: 3 }, 0],
    [{ a: 8, b: 3 }, 1],
    [{ a: 7, b: 3, c: 1 }, 1],
    [{ a: 7 }, 1],
  ]) {
    const { list, seq } = read();
    assert.equal(list.readHeartbeat({ jobs }), seq + behind);
  }
});

test("a heartbeat without jobs, from a server whose store does not answer, causes no poll", () => {
  assert.equal(read().list.readHeartbeat({ jobs: {} }), null);
});

const ids = (list) => list.jobs.map(({ id }) => id);
/** A page of jobs, the newest first; each job's id is the time of its creation. */
const page = (newest, count, next = "more") => ({
  jobs: Array.from({ length: count }, (_, place) => job(String(newest - place).padStart(3, "0"), 1, true)),
  next,
});
const limitOf = (list) => Number(new URL(list.pollUrl).searchParams.get("limit"));

test("a list is never done: a job may start elsewhere at any time", () => {
  const list = new JobList(new URL("http://host/api/"));
  assert.equal(list.readPoll({ jobs: [], next: null })?.done, false);
  assert.equal(list.readPoll({ jobs: [job("a", 7, true)], next: null })?.done, false);
  assert.equal(list.readJob(job("b", 1, true))?.done, false);
});

test("what the stream brought outlives a poll that was answered before, and no second one", () => {
  const { list } = read();
  list.readJob(job("c", 1));
  list.readJob(job("c", 2, true));
  list.readPoll({ jobs: [job("b", 3), job("a", 7)], next: null });
  assert.deepEqual(ids(list), ["c", "b", "a"]);
  list.readPoll({ jobs: [job("b", 3), job("a", 7)], next: null });
  assert.deepEqual(ids(list), ["b", "a"]);
});

test("a page that comes back has no gap in its list, and no job that ended unseen still runs in it", () => {
  const list = new JobList(new URL("http://host/api/"));
  list.readPoll(page(120, 20));
  list.readJob(job("050", 3)); // an old one that runs: below the newest
  list.readPoll(page(120, 20));
  assert.equal(ids(list).length, 21);
  list.readPoll(page(180, 20)); // after the stream was closed, 60 jobs and the end of the old one later
  assert.deepEqual(
    ids(list),
    page(180, 20).jobs.map(({ id }) => id),
  );
  assert.equal(list.more, true);
});

test("a job that runs stays listed, however old, while the stream or its heartbeats name it", () => {
  const list = new JobList(new URL("http://host/api/"));
  list.readPoll(page(120, 20));
  list.readJob(job("050", 3));
  for (let round = 0; round < 3; round += 1) {
    list.readHeartbeat({ jobs: { "050": 3 } });
    list.readPoll(page(120, 20));
    assert.equal(ids(list).at(-1), "050");
  }
});

test("no row goes because a poll asks for fewer jobs than are listed, and a poll alone adds none", () => {
  const list = new JobList(new URL("http://host/api/"));
  list.readPoll(page(120, 20));
  for (const id of [121, 122, 123]) list.readJob(job(String(id), 1, true));
  assert.equal(limitOf(list), 23);
  list.readPoll(page(123, 23));
  assert.equal(ids(list).length, 23);
  list.readJob(job("050", 3));
  assert.equal(limitOf(list), 23, "an old job that runs widens nothing");
});

test("show more brings one page more than there is, after a burst too, up to the most that are listed", () => {
  const list = new JobList(new URL("http://host/api/"));
  list.readPoll(page(120, 20));
  for (let id = 121; id <= 170; id += 1) list.readJob(job(String(id), 1, true));
  list.widen();
  assert.equal(limitOf(list), 90);
  list.readPoll(page(170, 90));
  assert.deepEqual([ids(list).length, list.more, list.olderUrl], [90, true, null]);
  for (let id = 171; id <= 400; id += 1) {
    list.readJob(job(String(id), 1, true));
    list.accept();
  }
  assert.deepEqual([ids(list).length, ids(list)[0], list.more, list.olderUrl !== null], [200, "400", true, true]);
});

test("a job that is removed is told to the page", () => {
  const gone = [];
  const list = new JobList(new URL("http://host/api/"), (id) => gone.push(id));
  list.readPoll({ jobs: [job("a", 7, true)], next: null });
  assert.equal(list.readGone({ job_id: "a" }), false, "the list goes on");
  assert.deepEqual([gone, ids(list)], [["a"], []]);
});

test("beyond what a poll returns, the list goes on page by page, and no job is lost between them", () => {
  const list = new JobList(new URL("http://host/api/"));
  for (let shown = 0; shown < 180; shown += 20) {
    assert.equal(list.olderUrl, null);
    list.widen();
    const count = Number(new URL(list.pollUrl).searchParams.get("limit"));
    list.readPoll(page(900, count, "700"));
  }
  const asked = new URL(list.olderUrl ?? "").searchParams;
  assert.deepEqual([asked.get("cursor"), list.more], ["700", true]);
  list.addOlder(page(700, 100, "600"));
  assert.deepEqual([ids(list).length, new URL(list.olderUrl ?? "").searchParams.get("cursor")], [300, "600"]);
  // Three jobs come: three of the followed ones move down, and none goes.
  for (const id of ["901", "902", "903"]) list.readJob(job(id, 1));
  list.accept();
  list.readPoll(page(903, 200, "703"));
  assert.deepEqual(
    ids(list),
    page(903, 303).jobs.map(({ id }) => id),
  );
  list.readJob(job("650", 9, true));
  assert.equal(list.jobs.find(({ id }) => id === "650")?.seq, 1, "done is done");
  list.readGone({ job_id: "650" });
  list.addOlder(page(600, 10, null));
  assert.deepEqual([ids(list).length, list.more], [312, false]);
});

test("what ended below the page goes with the jobs between, of which the stream told nothing", () => {
  const list = new JobList(new URL("http://host/api/"));
  list.readPoll(page(2, 2, null));
  for (const id of ["002", "001"]) list.readJob(job(id, 1, true)); // the opening of a new stream names both
  list.readPoll(page(27, 20));
  assert.deepEqual(
    ids(list),
    page(27, 20).jobs.map(({ id }) => id),
  );
  assert.equal(list.more, true);
});

// --- with a filter
/** @returns {any} */
const named = (id, state, more = {}) => ({
  ...job(id, 1, !["queued", "running"].includes(state)),
  state,
  name: `job ${id}`,
  ...more,
});
const filtered = (states, name = "") => new JobList(new URL("http://host/api/"), () => {}, { states, name });

test("a filter stands in every request of the list, and in the address as the API names it", () => {
  const list = filtered(["failed", "completed_with_errors"], "ä b");
  const query = new URL(list.pollUrl).searchParams;
  assert.deepEqual([query.get("state"), query.get("name")], ["failed,completed_with_errors", "ä b"]);
  list.readPoll({ jobs: [], next: "70" });
  const older = new URL(list.olderUrl ?? "").searchParams;
  assert.deepEqual([older.get("name"), older.get("cursor")], ["ä b", "70"]);
  const address = withFilter("?x=1&name=old", { states: ["failed"], name: "ä b" });
  assert.deepEqual(filterIn(address), { states: ["failed"], name: "ä b" });
  assert.equal(new URLSearchParams(address).get("x"), "1");
  assert.equal(withFilter(address, EVERYTHING), "?x=1");
  assert.deepEqual(filterIn("?state=queued,nonsense&name=%20"), { states: ["queued"], name: "" });
  assert.deepEqual(
    [groupOf(filterIn("?state=failed,completed_with_errors")), groupOf(filterIn("?state=queued"))],
    ["failures", ""],
  );
});

test("a filtered list follows each change: jobs come into it and leave it as their state does", () => {
  const list = filtered(["queued", "running"]);
  list.readPoll({ jobs: [named("b", "running")], next: null });
  list.readJob(named("c", "queued"));
  assert.deepEqual(ids(list), ["c", "b"]);
  list.readJob(named("b", "completed", { seq: 2 }));
  list.readJob(named("b", "running")); // late
  assert.deepEqual(ids(list), ["c"]);
  const failures = filtered(["failed"]);
  failures.readPoll({ jobs: [], next: null });
  for (const state of ["queued", "running"]) failures.readJob(named("b", state));
  assert.deepEqual(ids(failures), []);
  failures.readJob(named("b", "failed", { seq: 2 }));
  assert.deepEqual(ids(failures), ["b"]);
});

test("what a filter leaves out causes no poll while the stream tells of it, and one if it did not", () => {
  const list = filtered(["failed"]);
  const seq = seqOf(list.readPoll({ jobs: [], next: null }));
  const beat = (jobs) => (list.readHeartbeat({ jobs }) ?? 0) - seqOf(list.readPoll({ jobs: [], next: null }));
  list.readJob(named("a", "running"));
  const now = seqOf(list.readJob(named("b", "running")));
  assert.equal(now, seq, "nothing that is listed has changed");
  assert.equal(beat({ a: 1, b: 1 }), 0);
  assert.equal(beat({ a: 1, b: 2 }), 1, "an event of b is missing");
  assert.equal(beat({ a: 1, b: 2 }), 0, "the poll has told all there is");
  assert.equal(beat({ a: 1 }), 1, "b ended unheard, and may have failed");
  list.readJob(named("a", "completed", { seq: 2 }));
  assert.equal(beat({ c: 1 }), 1);
  assert.equal(beat({ c: 1 }), 0, "a ended, and was heard");
});

test("stuck jobs are held, whatever the filter, and not listed", () => {
  const list = filtered([], "invoices");
  list.readPoll({ jobs: [], next: null });
  list.readJob(named("a", "running", { health: "stalled" }));
  list.add(named("b", "running", { health: "stalled", name: "INVOICES of May" }));
  list.add(named("c", "running"));
  assert.deepEqual([ids(list), list.held.map(({ id }) => id)], [["b"], ["b", "a"]]);
});

test("a search goes on from where the server stopped, also after pages without a match", () => {
  const list = filtered([], "invoice");
  const match = (id) => named(id, "completed", { name: `Invoice ${id}` });
  list.readPoll({ jobs: [match("900")], next: "800" });
  for (const next of ["700", "600"]) list.addOlder({ jobs: [], next });
  assert.equal(new URL(list.olderUrl ?? "").searchParams.get("cursor"), "600");
  list.addOlder({ jobs: [match("550")], next: null });
  list.readPoll({ jobs: [match("900")], next: "800" });
  assert.deepEqual([ids(list), list.more], [["900", "550"], false]);
  list.readJob(match("570")); // ended just now, among the jobs that were searched before
  assert.deepEqual(ids(list), ["900", "570", "550"]);
});
