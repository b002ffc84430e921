/*
 * Limits drawing to once per animation frame, however many events arrive in between.
 * It must not know what is drawn, and it sets no timer.
 * Next: job-progress.js and ../page/batch.js, which draw through it.
 */

export class Redraw {
  #draw;
  /** @type {number | null} */ #requested = null;

  /** @param {() => void} draw */
  constructor(draw) {
    this.#draw = draw;
  }

  /** Draw in the next frame. A hidden page has no frames, so it draws at once and stays up to date. */
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
