/*
 * Makes the Idempotency-Key of a request: the same key until the same request is known to be done, so that a
 * double click or a lost answer does not start the work twice. It must not know what the request is or how it is
 * sent.
 * Next: PROTOCOL.md, section 3, for what the server does with the key.
 */

export class IdempotencyKey {
  #request = "";
  #key = "";

  /** @param {string} request everything that makes it a different request */
  keyFor(request) {
    if (this.#key === "" || this.#request !== request) [this.#request, this.#key] = [request, randomKey()];
    return this.#key;
  }

  /** Use a new key from now on: the request was done, so the same one again means to do it again. */
  renew() {
    this.#key = "";
  }
}

/** crypto.randomUUID exists on https and localhost only. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
