/*
 * Plays the scripts of tests/vectors on the browser's policy; its twin in Python plays the same scripts.
 * It must not know what is right: the scripts say so.
 * See also: tests/vectors/README.md for their format; tests/client/vectors.py, the twin in Python.
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
  script.steps.forEach((scripted, place) => {
    const did = [];
    const random = scripted.random ?? 0.5;
    const handle = (event, now, more) => {
      const [next, actions] = step(state, event, now, random);
      state = next;
      for (const action of actions) if (action.type !== "wake_at") did.push({ ...more, ...action });
    };
    if (scripted.event) handle(scripted.event, scripted.at_ms, {});
    else {
      while (state.wake_at !== null && state.wake_at <= scripted.until_ms) {
        handle({ type: "tick" }, state.wake_at, { at_ms: state.wake_at });
      }
    }
    const where = `step ${place + 1}, ${JSON.stringify(scripted)}`;
    if (scripted.ends_with) assert.deepEqual(did.slice(-scripted.ends_with.length), scripted.ends_with, where);
    else assert.deepEqual(did, scripted.expect, where);
    const fields = { ...scripted.state, ...(scripted.link && { link: scripted.link }) };
    for (const [name, value] of Object.entries(fields)) {
      assert.deepEqual(state[name], value, `${name} after ${where}`);
    }
  });
}

for (const name of files) {
  const scripts = JSON.parse(readFileSync(new URL(name, folder), "utf8"));
  for (const script of scripts) test(script.name, () => play(script));
}
