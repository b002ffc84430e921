/*
 * Draws at most once for each frame, however much is heard between two: what piled up while the page was busy
 * is one drawing and not thirty. A page that is not seen has no frames; there it is drawn at once, so that what
 * a hidden tab says, and what is shown first when it is looked at again, is the newest. It sets no timer.
 */

export class Frame {
  #draw;
  /** @type {number | null} */ #asked = null;

  /** @param {() => void} draw */
  constructor(draw) {
    this.#draw = draw;
  }

  /** Something has changed. */
  soon() {
    if (document.visibilityState === "hidden") return this.now();
    this.#asked ??= requestAnimationFrame(() => this.now());
  }

  /** Draw, whatever was asked for before. */
  now() {
    this.drop();
    this.#draw();
  }

  /** What was asked for is needed no more. */
  drop() {
    if (this.#asked !== null) cancelAnimationFrame(this.#asked);
    this.#asked = null;
  }
}
