/*
 * Makes the Idempotency-Key of a request: the key stays the same until the request is known to be done, so that a
 * double click or a lost answer does not start the work twice.
 * It must not know what the request is or how it is sent.
 * See also: PROTOCOL.md, section 3, for what the server does with the key.
 */

/** The key of the current request. */
export class IdempotencyKey {
  #request = "";
  #key = "";

  /** Return the key. @param {string} request everything that distinguishes it from other requests */
  keyFor(request) {
    if (this.#key === "" || this.#request !== request) [this.#request, this.#key] = [request, randomKey()];
    return this.#key;
  }

  /** Use a new key from now on: the request was done, so an equal one means that it is to be done again. */
  renew() {
    this.#key = "";
  }
}

/** Return 32 hexadecimal digits; crypto.randomUUID exists on https and localhost only. */
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
