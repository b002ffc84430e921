/*
 * Measures how fast an upload is and forecasts its end, from what was sent within the last seconds.
 * It must not know a clock or texts: the time comes in as an argument.
 * See also: new-job.js, which shows both.
 */

const WINDOW_MS = 8_000;
const MEASURED_MS = 1_000; // less says nothing: the first pieces only fill buffers

/** The speed of one upload. */
export class UploadMeter {
  /** @type {{at_ms: number, sent: number}[]} */ #samples = [];

  /** Add what has been sent so far. @param {number} at_ms @param {number} sent in bytes */
  add(at_ms, sent) {
    this.#samples.push({ at_ms, sent });
    // Keep one sample from before the window: it spans all of it.
    while ((this.#samples[1]?.at_ms ?? Infinity) <= at_ms - WINDOW_MS) this.#samples.shift();
  }

  /** Return bytes per second, or null if that cannot be told yet. */
  get rate() {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (!first || !last || last.at_ms - first.at_ms < MEASURED_MS) return null;
    return ((last.sent - first.sent) * 1_000) / (last.at_ms - first.at_ms);
  }

  /** Return the seconds until all is sent, or null if that cannot be told. @param {number} size in bytes */
  left_s(size) {
    const { rate } = this;
    return rate ? Math.max(0, size - (this.#samples.at(-1)?.sent ?? 0)) / rate : null;
  }
}
