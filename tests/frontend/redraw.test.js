/* One drawing a frame; and none that waits for a frame where there are none. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Frame } from "../../frontend/element/redraw.js";

/** A page whose frames come when they are told to. */
function page(visibilityState = "visible") {
  const asked = new Map();
  let last = 0;
  globalThis.document = { visibilityState };
  globalThis.requestAnimationFrame = (call) => (asked.set(++last, call), last);
  globalThis.cancelAnimationFrame = (number) => asked.delete(number);
  return {
    asked,
    next: () => [...asked].forEach(([number, call]) => (asked.delete(number), call())),
    hide: () => { globalThis.document.visibilityState = "hidden"; },
  };
}

function counting() {
  const drawn = { times: 0 };
  return { drawn, frame: new Frame(() => { drawn.times += 1; }) };
}

test("however much is heard between two frames, it is drawn once, in the next one", () => {
  const { asked, next } = page();
  const { drawn, frame } = counting();
  for (let heard = 0; heard < 30; heard += 1) frame.soon();
  assert.deepEqual([drawn.times, asked.size], [0, 1]);
  next();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
  frame.soon();
  next();
  assert.equal(drawn.times, 2);
});

test("what is drawn now is not drawn again in the next frame", () => {
  const { asked } = page();
  const { drawn, frame } = counting();
  frame.soon();
  frame.now();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
});

test("a page that is not seen waits for no frame", () => {
  const { asked, hide } = page();
  const { drawn, frame } = counting();
  frame.soon();
  hide();
  frame.soon();
  assert.deepEqual([drawn.times, asked.size], [1, 0]);
});

test("after it was dropped nothing is drawn", () => {
  const { next } = page();
  const { drawn, frame } = counting();
  frame.soon();
  frame.drop();
  next();
  assert.equal(drawn.times, 0);
});
