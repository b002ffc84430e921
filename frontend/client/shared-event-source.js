/*
 * One stream per browser: looks like an EventSource, but all tabs and all jobs of one server share a single
 * connection. HTTP/1.1 has six connections per origin, over all tabs; a seventh stream hangs without an
 * error, and so does the poll that should rescue it. It decides which tab holds the stream, and nothing else:
 * what is on it is for one-stream.js, and every tab goes on judging silence by its own watchdog.
 *
 * The tabs queue for a Web Lock; who has it holds the stream and passes events on by BroadcastChannel.
 * Both exist in Chromium, Firefox and Safari since 2022, on phones too; Chrome for Android had no SharedWorker
 * for long, and one has no sign of its own that a tab has crashed. A lock is given on by the browser itself the
 * moment its tab is closed or crashes, and no timer is on that way, so hidden tabs take over as fast. Locks
 * need a secure context (https or localhost): on plain http from another machine only the tab that is seen has
 * a stream, its own, and hidden ones poll.
 *
 *  1. A tab takes part while it wants anything. After its last source is closed it holds nothing: no lock,
 *     no channel, no listener, no stream.
 *  2. Who gets the lock says so, and everybody tells it again what they want. So nothing is lost between two.
 *  3. A page that is frozen or put aside gives up its place first and comes back as a new one.
 *  4. A tab that has the lock but does not answer, twice, is robbed of it.
 *  5. A tab holds a second lock as long as it lives; when the holder of the stream gets that one, the tab is
 *     gone, and so are its wants.
 */
import { EVENTS, OneStream, lean } from "./multiplexed-stream.js";

/** @import { Source } from "./multiplexed-stream.js" */

/** @typedef {object} SharedPlatform
 * @property {Source} eventSource
 * @property {LockManager | null} locks
 * @property {((name: string) => BroadcastChannel) | null} channel
 * @property {() => number} steady
 * @property {() => string} newId
 * @property {(call: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {(EventTarget & {visibilityState?: string}) | null} document
 * @property {EventTarget | null} window */

/** @typedef {{type: "want", key: string, job: string | null} | {type: "unwant" | "noted", key: string} | {type: "lead"}
 *   | {type: "event", keys: string[], name: string, data: string | null}} Message */

/** @typedef {{job: string | null, hear: (name: string, data: string | null) => void}} Ear */

const ANSWER_WITHIN_MS = 1_500; // a tab answers within milliseconds; twice this, and it is hung
const ONE_JOB = /^(.*\/)jobs\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/events$/i;
const ALL_JOBS = /^(.*\/)events\/stream$/;

/** What a stream's address asks for; null where it is none that can be shared.
 * @param {string} url @returns {{base: string, job: string | null} | null} */
export function wanted(url) {
  const [, ofOne, job] = ONE_JOB.exec(url) ?? [];
  if (ofOne && job) return { base: ofOne, job: job.toLowerCase() };
  const [, ofAll] = ALL_JOBS.exec(url) ?? [];
  return ofAll ? { base: ofAll, job: null } : null;
}

/** One tab's place among all tabs that want something of one server. */
class Tab {
  /** @type {Map<string, Ear>} */ #ears = new Map();
  /** @type {Map<string, any>} the timers of wants that nobody has noted yet */ #unanswered = new Map();
  /** @type {OneStream | null} */ #stream = null;
  /** Tabs whose end is waited for, while this one has the stream. @type {Set<string>} */ #known = new Set();
  /** Ends every lock of the present stay. */ #stay = new AbortController();
  /** Ends the present hold on the stream. @type {AbortController | null} */ #hold = null;
  /** @type {BroadcastChannel | null} */ #channel = null;
  #id = "";
  #count = 0;
  #alive = false;
  #queued = false;
  #robbing = false;
  #base;
  #platform;
  #onRefused;

  /** @param {string} base @param {SharedPlatform} platform @param {(error: unknown) => void} onRefused locks exist, but not for this page */
  constructor(base, platform, onRefused) {
    this.#base = base;
    this.#platform = platform;
    this.#onRefused = onRefused;
  }

  get #name() {
    return `unstuck 1 ${this.#base}`; // 1: what the tabs say to each other; pages of two releases may be open at once
  }

  /** @param {Ear} ear @returns {string} */
  add(ear) {
    if (this.#ears.size === 0) this.#enter();
    const key = `${this.#id}/${(this.#count += 1)}`;
    this.#ears.set(key, ear);
    this.#ask(key, ear.job);
    return key;
  }

  /** @param {string} key */
  remove(key) {
    if (!this.#ears.delete(key)) return;
    this.#noted(key);
    if (this.#stream) this.#stream.unwant(key);
    else this.#say({ type: "unwant", key });
    if (this.#ears.size === 0) this.#leave();
  }

  // --- coming and going
  #enter() {
    const { channel, newId, window, document, locks } = this.#platform;
    this.#id = newId();
    this.#stay = new AbortController();
    const { signal } = this.#stay;
    this.#channel = channel?.(this.#name) ?? null;
    this.#channel?.addEventListener("message", (event) => this.#onMessage(event.data), { signal });
    window?.addEventListener("pagehide", () => this.#interrupt(), { signal });
    document?.addEventListener("freeze", () => this.#interrupt(), { signal });
    locks?.request(`${this.#name} ${this.#id}`, { signal }, () => this.#live(signal)).catch((error) => this.#onRefusal(error, signal));
    this.#queue();
  }

  /** Only now may the holder of the stream wait for our end. @param {AbortSignal} signal */
  #live(signal) {
    if (signal.aborted) return undefined;
    this.#alive = true;
    this.#askAll();
    return until(signal);
  }

  #leave() {
    this.#lay();
    this.#stay.abort();
    this.#alive = this.#queued = this.#robbing = false;
    for (const key of [...this.#unanswered.keys()]) this.#noted(key);
    this.#channel?.close();
    this.#channel = null;
  }

  /** Every source breaks, so that its policy opens another when the page is there again. */
  #interrupt() {
    for (const key of [...this.#ears.keys()]) this.#pass([key], "error", null);
    for (const key of [...this.#ears.keys()]) this.remove(key);
  }

  // --- who has the stream
  #queue() {
    if (this.#queued) return;
    this.#queued = true;
    this.#request({ signal: this.#stay.signal }, () => (this.#queued = false));
  }

  #rob() {
    if (this.#robbing) return;
    this.#robbing = true;
    this.#request({ steal: true }, () => (this.#robbing = false));
  }

  /** @param {LockOptions} how @param {() => void} onGranted */
  #request(how, onGranted) {
    const stay = this.#stay.signal;
    const hold = new AbortController();
    const granted = () => {
      if (stay.aborted) return undefined;
      onGranted();
      return this.#lead(hold);
    };
    this.#platform.locks?.request(this.#name, how, granted).catch((error) => {
      if (error?.name !== "AbortError" || stay.aborted) return this.#onRefusal(error, stay);
      if (this.#hold === hold) this.#lay(); // robbed, because we did not answer
      this.#queue();
      this.#askAll();
    });
  }

  /** @param {AbortController} hold */
  #lead(hold) {
    this.#lay();
    this.#hold = hold;
    this.#stream = new OneStream(`${this.#base}events/stream`, this.#platform, (keys, name, data) => this.#handOut(keys, name, data));
    this.#say({ type: "lead" });
    this.#askAll();
    return until(hold.signal);
  }

  /** Have the stream no longer. */
  #lay() {
    this.#stream?.close();
    this.#stream = null;
    this.#known.clear();
    this.#hold?.abort();
    this.#hold = null;
  }

  /** @param {any} error @param {AbortSignal} stay */
  #onRefusal(error, stay) {
    if (stay.aborted) return; // given up by ourselves
    this.#onRefused(error);
    this.#interrupt();
  }

  // --- what tabs say to each other
  /** @param {Message} message */
  #say(message) {
    this.#channel?.postMessage(message);
  }

  /** @param {Message} message */
  #onMessage(message) {
    if (message.type === "event") this.#pass(message.keys, message.name, message.data);
    else if (message.type === "noted") this.#noted(message.key);
    else if (message.type === "lead") this.#askAll();
    else if (this.#stream && message.type === "want") this.#onWant(message.key, message.job);
    else if (this.#stream && message.type === "unwant") this.#stream.unwant(message.key);
  }

  /** @param {string} key @param {string | null} job */
  #onWant(key, job) {
    this.#say({ type: "noted", key });
    this.#stream?.want(key, job);
    const tab = key.slice(0, key.indexOf("/"));
    if (this.#known.has(tab) || !this.#hold) return;
    this.#known.add(tab);
    const { signal } = this.#hold;
    const gone = () => {
      if (signal.aborted) return;
      this.#known.delete(tab);
      this.#stream?.unwantAll((one) => one.startsWith(`${tab}/`));
    };
    this.#platform.locks?.request(`${this.#name} ${tab}`, { signal }, gone).catch(() => {}); // aborted: we no longer have the stream
  }

  #askAll() {
    for (const [key, ear] of this.#ears) this.#ask(key, ear.job);
  }

  /** @param {string} key @param {string | null} job @param {boolean} [again] */
  #ask(key, job, again = false) {
    this.#noted(key);
    if (this.#stream) return this.#stream.want(key, job);
    if (!this.#alive) return; // asked as soon as it is
    const timer = this.#platform.setTimeout(() => this.#onNoAnswer(key, job, again), ANSWER_WITHIN_MS);
    this.#unanswered.set(key, timer);
    this.#say({ type: "want", key, job });
  }

  /** @param {string} key */
  #noted(key) {
    if (this.#unanswered.has(key)) this.#platform.clearTimeout(this.#unanswered.get(key));
    this.#unanswered.delete(key);
  }

  /** Once may be our own sleep; twice is a holder that hangs. @param {string} key @param {string | null} job @param {boolean} again */
  #onNoAnswer(key, job, again) {
    this.#unanswered.delete(key);
    if (again) this.#rob();
    else this.#ask(key, job, true);
  }

  // --- events
  /** @param {string[]} keys @param {string} name @param {string | null} data */
  #handOut(keys, name, data) {
    const others = keys.filter((key) => !this.#ears.has(key));
    if (others.length > 0) this.#say({ type: "event", keys: others, name, data });
    this.#pass(keys, name, data);
  }

  /** @param {string[]} keys @param {string} name @param {string | null} data */
  #pass(keys, name, data) {
    for (const key of keys) this.#ears.get(key)?.hear(name, data);
  }
}

/** The class to be used in place of EventSource, on this platform.
 * @param {SharedPlatform} platform */
export function sharing(platform) {
  /** @type {Map<string, Tab>} */
  const tabs = new Map();
  let possible = platform.locks !== null && platform.channel !== null;

  /** @param {string} base */
  const tabOf = (base) => {
    const tab = tabs.get(base) ?? new Tab(base, platform, () => { possible = false; }); // such as a sandboxed frame
    tabs.set(base, tab);
    return tab;
  };

  return class SharedEventSource extends EventTarget {
    /** @type {() => void} */ #close;

    /** @param {string} url */
    constructor(url) {
      super();
      const want = possible ? wanted(url) : null;
      this.#close = want ? this.#share(tabOf(want.base), want.job) : this.#own(url);
    }

    close() {
      this.#close();
    }

    /** @param {Tab} tab @param {string | null} job */
    #share(tab, job) {
      const key = tab.add({ job, hear: (name, data) => this.#hear(name, data) });
      return () => tab.remove(key);
    }

    /** A stream of this tab alone. A hidden tab leaves the connection to others: for its policy that is a
     * stream that broke, so it polls, and opens one when it is shown. @param {string} url */
    #own(url) {
      const { document } = platform;
      const life = new AbortController();
      const hide = () => {
        if (life.signal.aborted || document?.visibilityState !== "hidden") return;
        close();
        this.#hear("error", null);
      };
      document?.addEventListener("visibilitychange", hide, { signal: life.signal });
      const source = document?.visibilityState === "hidden" ? null : this.#openOwn(url);
      const close = () => {
        source?.close();
        life.abort();
      };
      queueMicrotask(hide); // when there has been time to listen
      return close;
    }

    /** @param {string} url */
    #openOwn(url) {
      const source = new platform.eventSource(lean(url));
      for (const name of ["open", "error"]) source.addEventListener(name, () => this.#hear(name, null));
      for (const name of EVENTS) source.addEventListener(name, (event) => this.#hear(name, /** @type {MessageEvent} */ (event).data));
      return source;
    }

    /** @param {string} name @param {string | null} data */
    #hear(name, data) {
      this.dispatchEvent(data === null ? new Event(name) : new MessageEvent(name, { data }));
    }
  };
}

/** A promise for the end of a lock. @param {AbortSignal} signal @returns {Promise<void>} */
function until(signal) {
  return new Promise((resolve) => (signal.aborted ? resolve() : signal.addEventListener("abort", () => resolve(), { once: true })));
}

/** @returns {SharedPlatform} */
function thisPlatform() {
  return {
    eventSource: globalThis.EventSource,
    locks: globalThis.navigator?.locks ?? null,
    channel: typeof BroadcastChannel === "undefined" ? null : (name) => new BroadcastChannel(name),
    steady: () => performance.now(),
    newId: () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join(""),
    setTimeout: (call, ms) => setTimeout(call, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    document: typeof document === "undefined" ? null : document,
    window: typeof window === "undefined" ? null : window,
  };
}

export const SharedEventSource = sharing(thisPlatform());
