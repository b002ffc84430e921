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
