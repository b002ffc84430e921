/*
 * Limits drawing to once per animation frame, however many events arrive in between.
 * It must not know what is drawn, and sets no timer.
 * See also: job-progress.js and ../page/batch.js, which draw through it.
 */

/** A function that draws, called at most once per animation frame. */
export class Redraw {
  #draw;
  /** @type {number | null} */ #requested = null;

  /** @param {() => void} draw */
  constructor(draw) {
    this.#draw = draw;
  }

  /** Draw in the next frame. A hidden page has no frames, so it draws at once. */
  schedule() {
    if (document.visibilityState === "hidden") return this.now();
    this.#requested ??= requestAnimationFrame(() => this.now());
  }

  /** Draw now, in place of any scheduled drawing. */
  now() {
    this.cancel();
    this.#draw();
  }

  /** Cancel the scheduled drawing, if any. */
  cancel() {
    if (this.#requested !== null) cancelAnimationFrame(this.#requested);
    this.#requested = null;
  }
}
