/*
 * Keys for what must be done once although it may be asked twice: after a double click, or after an answer
 * that got lost. The key stays the same as long as the same is asked for and nobody knows that it was done.
 */

export class Once {
  #asked = "";
  #key = "";

  /** @param {string} asked all that makes it another request */
  key(asked) {
    if (this.#key === "" || this.#asked !== asked) [this.#asked, this.#key] = [asked, randomKey()];
    return this.#key;
  }

  /** It was done: to ask for the same again now means to have it done again. */
  done() {
    this.#key = "";
  }
}

/** crypto.randomUUID exists on https and localhost only. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
