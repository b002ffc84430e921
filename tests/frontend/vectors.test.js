/*
 * Plays the scripts of tests/vectors on the browser's policy; its twin in Python plays the same ones.
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
    const turn = (event, now, more) => {
      const [next, actions] = step(state, event, now, wanted.random ?? 0.5);
      state = next;
      did.push(...actions.filter(({ type }) => type !== "wake_at").map((action) => ({ ...more, ...action })));
    };
    if (wanted.event) turn(wanted.event, wanted.at_ms, {});
    else
      while (state.wake_at !== null && state.wake_at <= wanted.until_ms)
        turn({ type: "tick" }, state.wake_at, { at_ms: state.wake_at });
    const where = `step ${place + 1}, ${JSON.stringify(wanted)}`;
    if (wanted.ends_with) assert.deepEqual(did.slice(-wanted.ends_with.length), wanted.ends_with, where);
    else assert.deepEqual(did, wanted.expect, where);
    const fields = { ...wanted.state, ...(wanted.link && { link: wanted.link }) };
    for (const [name, value] of Object.entries(fields))
      assert.deepEqual(state[name], value, `${name} after ${where}`);
  });
}

for (const name of files)
  for (const script of JSON.parse(readFileSync(new URL(name, folder), "utf8")))
    test(script.name, () => play(script));
