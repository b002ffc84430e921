/*
 * Plays lists of turns [event, now_ms, random] from stdin on frontend/client/watchdog.js, and prints what state and
 * actions followed from each, so that a test in Python can compare the twins.
 */
import { readFileSync } from "node:fs";
import { newState } from "../../frontend/client/watch-state.js";
import { step } from "../../frontend/client/watchdog.js";

const lives = JSON.parse(readFileSync(0, "utf8"));
const seen = lives.map((turns) => {
  let state = newState();
  return turns.map(([event, now, random]) => {
    const [next, actions] = step(state, event, now, random);
    state = next;
    return [next, actions];
  });
});
process.stdout.write(JSON.stringify(seen));
