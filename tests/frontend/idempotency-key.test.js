/*
 * Tests that a request keeps its key until it is known to be done.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { IdempotencyKey } from "../../frontend/client/idempotency-key.js";

test("a request keeps its key until it is done, and another request has another key", () => {
  const idempotencyKey = new IdempotencyKey();
  const first = idempotencyKey.keyFor("a");
  assert.match(first, /^[0-9a-f]{32}$/);
  assert.equal(idempotencyKey.keyFor("a"), first);
  const other = idempotencyKey.keyFor("b");
  assert.notEqual(other, first);
  idempotencyKey.renew();
  assert.notEqual(idempotencyKey.keyFor("b"), other);
  assert.notEqual(new IdempotencyKey().keyFor("a"), first);
});
