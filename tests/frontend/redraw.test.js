/*
 * At most one redraw per animation frame; a hidden page, which has no frames, does not wait for one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Redraw } from "../../frontend/element/redraw.js";

/** Returns a page whose animation frames the test triggers. */
function page(visibilityState = "visible") {
  const asked = new Map();
  let last = 0;
  const document = { visibilityState };
  globalThis.document = /** @type {any} */ (document);
  globalThis.requestAnimationFrame = (call) => (asked.set(++last, call), last);
  globalThis.cancelAnimationFrame = (number) => asked.delete(number);
  return {
    asked,
    next: () => [...asked].forEach(([number, call]) => (asked.delete(number), call())),
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

test("any number of events between two frames cause one redraw, in the next frame", () => {
  const { asked, next } = page();
  const { drawn, redraw } = counting();
  for (let event = 0; event < 30; event += 1) redraw.schedule();
  assert.deepEqual([drawn.times, asked.size], [0, 1]);
  next();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
  redraw.schedule();
  next();
  assert.equal(drawn.times, 2);
});

test("after an immediate redraw nothing is drawn in the next frame", () => {
  const { asked } = page();
  const { drawn, redraw } = counting();
  redraw.schedule();
  redraw.now();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
});

test("a hidden page does not wait for a frame", () => {
  const { asked, hide } = page();
  const { drawn, redraw } = counting();
  redraw.schedule();
  hide();
  redraw.schedule();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
});

test("after cancel nothing is drawn", () => {
  const { next } = page();
  const { drawn, redraw } = counting();
  redraw.schedule();
  redraw.cancel();
  next();
  assert.equal(drawn.times, 0);
});
