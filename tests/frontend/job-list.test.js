/*
 * Tests the list of jobs as the subject of a follower: what counts as a change.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
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
