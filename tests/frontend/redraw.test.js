/*
 * Tests that drawing happens at most once per animation frame, and without frames at once.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Redraw } from "../../frontend/element/redraw.js";

/** A page whose frames are driven by the test. */
function page(visibilityState = "visible") {
  const requested = new Map();
  let last = 0;
  const document = { visibilityState };
  globalThis.document = /** @type {any} */ (document);
  globalThis.requestAnimationFrame = (call) => (requested.set(++last, call), last);
  globalThis.cancelAnimationFrame = (number) => requested.delete(number);
  return {
    requested,
    next: () => [...requested].forEach(([number, call]) => (requested.delete(number), call())),
    hide: () => {
      document.visibilityState = "hidden";
    },
  };
}

function counting() {
  const drawn = { times: 0 };
  return {
    drawn,
    redraw: new Redraw(() => {
      drawn.times += 1;
    }),
  };
}

test("many events between two frames cause one drawing, in the next frame", () => {
  const { requested, next } = page();
  const { drawn, redraw } = counting();
  for (let event = 0; event < 30; event += 1) redraw.schedule();
  assert.deepEqual([drawn.times, requested.size], [0, 1]);
  next();
  assert.deepEqual([drawn.times, requested.size], [1, 0]);
  redraw.schedule();
  next();
  assert.equal(drawn.times, 2);
});

test("drawing now replaces the drawing in the next frame", () => {
  const { requested } = page();
  const { drawn, redraw } = counting();
  redraw.schedule();
  redraw.now();
  assert.deepEqual([drawn.times, requested.size], [1, 0]);
});

test("a hidden page draws at once", () => {
  const { requested, hide } = page();
  const { drawn, redraw } = counting();
  redraw.schedule();
  hide();
  redraw.schedule();
  assert.deepEqual([drawn.times, requested.size], [1, 0]);
});

test("after cancel nothing is drawn", () => {
  const { next } = page();
  const { drawn, redraw } = counting();
  redraw.schedule();
  redraw.cancel();
  next();
  assert.equal(drawn.times, 0);
});
