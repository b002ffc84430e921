/* One key as long as the same is asked and nobody knows that it was done. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Once } from "../../frontend/client/idempotency-key.js";

test("the same has the same key until it was done, and something else another", () => {
  const once = new Once();
  const first = once.key("a");
  assert.match(first, /^[0-9a-f]{32}$/);
  assert.equal(once.key("a"), first);
  const other = once.key("b");
  assert.notEqual(other, first);
  once.done();
  assert.notEqual(once.key("b"), other);
  assert.notEqual(new Once().key("a"), first);
});
