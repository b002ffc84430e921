/*
 * Plays the scripts of tests/vectors on the browser's policy; its twin in Python plays the same ones.
 * It must not know what is right: the scripts say it.
 * Next: tests/vectors/README.md, their format; tests/client/vectors.py, the same in Python.
 */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { newState } from "../../frontend/client/watch-state.js";
import { step } from "../../frontend/client/watchdog.js";

const folder = new URL("../vectors/", import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith(".json"));

function play(script) {
  let state = newState();
  script.steps.forEach((wanted, place) => {
    const did = [];
    const random = wanted.random ?? 0.5;
    const handle = (event, now, more) => {
      const [next, actions] = step(state, event, now, random);
      state = next;
      for (const action of actions) if (action.type !== "wake_at") did.push({ ...more, ...action });
    };
    if (wanted.event) handle(wanted.event, wanted.at_ms, {});
    else {
      while (state.wake_at !== null && state.wake_at <= wanted.until_ms) {
        handle({ type: "tick" }, state.wake_at, { at_ms: state.wake_at });
      }
    }
    const where = `step ${place + 1}, ${JSON.stringify(wanted)}`;
    if (wanted.ends_with) assert.deepEqual(did.slice(-wanted.ends_with.length), wanted.ends_with, where);
    else assert.deepEqual(did, wanted.expect, where);
    const fields = { ...wanted.state, ...(wanted.link && { link: wanted.link }) };
    for (const [name, value] of Object.entries(fields)) {
      assert.deepEqual(state[name], value, `${name} after ${where}`);
    }
  });
}

for (const name of files) {
  const scripts = JSON.parse(readFileSync(new URL(name, folder), "utf8"));
  for (const script of scripts) test(script.name, () => play(script));
}
