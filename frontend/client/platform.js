/*
 * The parts of a browser that follower.js and requests.js use, so that tests can put others in their place.
 * It must not know what they are used for.
 */

/** @typedef {object} NetworkPlatform
 * @property {(url: string, init: RequestInit) => Promise<Response>} fetch
 * @property {() => number} wall milliseconds; runs on while the machine sleeps
 * @property {() => number} steady milliseconds; unaffected by changes of the system clock
 * @property {() => number} random
 * @property {(call: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout */

/** @returns {NetworkPlatform} */
export function networkPlatform() {
  return {
    fetch: (url, init) => globalThis.fetch(url, init),
    wall: () => Date.now(),
    steady: () => performance.now(),
    random: () => Math.random(),
    setTimeout: (call, ms) => setTimeout(call, ms),
    clearTimeout: (timer) => clearTimeout(timer),
  };
}
