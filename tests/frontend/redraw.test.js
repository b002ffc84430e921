/*
 * At most one drawing per animation frame, and none that waits for a frame where there are none.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Redraw } from "../../frontend/element/redraw.js";

/** A page whose frames come when they are told to. */
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

test("however many events arrive between two frames, there is one drawing, in the next frame", () => {
  const { asked, next } = page();
  const { drawn, redraw } = counting();
  for (let heard = 0; heard < 30; heard += 1) redraw.schedule();
  assert.deepEqual([drawn.times, asked.size], [0, 1]);
  next();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
  redraw.schedule();
  next();
  assert.equal(drawn.times, 2);
});

test("what is drawn now is not drawn again in the next frame", () => {
  const { asked } = page();
  const { drawn, redraw } = counting();
  redraw.schedule();
  redraw.now();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
});

test("a hidden page waits for no frame", () => {
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
