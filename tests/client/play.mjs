/*
 * Plays sequences of [event, now_ms, random] from stdin on the JavaScript watchdog; prints [state, actions] per step.
 * It must not know what is right.
 * Next: test_watchdog_vectors.py, which compares this output with the Python watchdog's.
 */
import { readFileSync } from "node:fs";
import { newState } from "../../frontend/client/watch-state.js";
import { step } from "../../frontend/client/watchdog.js";

const sequences = JSON.parse(readFileSync(0, "utf8"));
const seen = sequences.map((sequence) => {
  let state = newState();
  return sequence.map(([event, now, random]) => {
    const [next, actions] = step(state, event, now, random);
    state = next;
    return [next, actions];
  });
});
process.stdout.write(JSON.stringify(seen));
