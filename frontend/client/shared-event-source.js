/*
 * Gives a browser one stream: a drop-in EventSource through which all tabs and all jobs of a server share one
 * connection. It decides which tab holds the stream.
 * It must not know what is on the stream, and does not judge silence: every tab keeps its own watchdog.
 * See also: multiplexed-stream.js; follower.js, which uses this class in place of EventSource.
 *
 * Why: browsers allow six HTTP/1.1 connections per origin, over all tabs. A seventh stream hangs without an error,
 * and so does the poll that should rescue it.
 *
 * How: the tabs queue for a Web Lock. The tab that holds it, the leader, opens the stream and broadcasts its
 * events on a BroadcastChannel. All browsers have had both since 2022, on phones too; Chrome for Android long
 * lacked SharedWorker, and a SharedWorker does not notice that a tab has crashed. The browser passes the lock on
 * the moment its tab is closed or crashes, without a timer, so hidden tabs take over just as fast. Locks need a
 * secure context (https or localhost): on plain http from another machine, the visible tab has its own stream and
 * hidden tabs poll.
 *
 *  1. A tab takes part while it has sources. After the last one is closed it holds nothing: no lock, no channel,
 *     no listener, no stream.
 *  2. A new leader announces itself, and every tab sends its subscriptions again, so none is lost in the change.
 *  3. A page that is frozen or put into the back/forward cache leaves first and comes back as a new tab.
 *  4. If the leader fails to acknowledge a subscription twice, its lock is stolen.
 *  5. Each tab holds a second lock for as long as it lives. The leader queues for that lock: when it is granted,
 *     the tab is gone, and its subscriptions are dropped.
 */
import { EVENTS, MultiplexedStream, withoutItems } from "./multiplexed-stream.js";

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

/**
 * @typedef {{type: "subscribe", key: string, job: string | null} | {type: "unsubscribe" | "acknowledged", key:
 *   string} | {type: "lead"} | {type: "event", keys: string[], name: string, data: string | null}} Message
 */

/** @typedef {{job: string | null, onEvent: (name: string, data: string | null) => void}} Listener */

const ANSWER_WITHIN_MS = 1_500; // a tab answers within milliseconds; after twice this time it hangs
const ONE_JOB = /^(.*\/)jobs\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/events$/i;
const ALL_JOBS = /^(.*\/)events\/stream$/;

/** Return the API's base and the job in a stream's address, or null if that stream cannot be shared.
 * @param {string} url @returns {{base: string, job: string | null} | null} */
export function parseStreamUrl(url) {
  const [, ofOne, job] = ONE_JOB.exec(url) ?? [];
  if (ofOne && job) return { base: ofOne, job: job.toLowerCase() };
  const [, ofAll] = ALL_JOBS.exec(url) ?? [];
  return ofAll ? { base: ofAll, job: null } : null;
}

/** One of the tabs that follow jobs of a server: this one. */
class Tab {
  /** @type {Map<string, Listener>} */ #listeners = new Map();
  /** The timers of subscriptions that no leader has acknowledged yet. @type {Map<string, any>} */ #unanswered =
    new Map();
  /** @type {MultiplexedStream | null} */ #stream = null;
  /** The tabs whose locks the leader is queued for. @type {Set<string>} */ #tabs = new Set();
  /** Aborted when this tab leaves, which ends its locks and listeners. */ #membership = new AbortController();
  /** Aborted when the leader releases the stream. @type {AbortController | null} */ #hold = null;
  /** @type {BroadcastChannel | null} */ #channel = null;
  #id = "";
  #count = 0;
  #alive = false;
  #queued = false;
  #stealing = false;
  #base;
  #platform;
  #onRefused;

  /**
   * @param {string} base
   * @param {SharedPlatform} platform
   * @param {(error: unknown) => void} onRefused called if this page is not allowed to use locks
   */
  constructor(base, platform, onRefused) {
    this.#base = base;
    this.#platform = platform;
    this.#onRefused = onRefused;
  }

  get #name() {
    return `unstuck 2 ${this.#base}`; // 2: version of the messages; tabs of two releases may be open at once
  }

  /** @param {Listener} listener @returns {string} */
  add(listener) {
    if (this.#listeners.size === 0) this.#join();
    const key = `${this.#id}/${(this.#count += 1)}`;
    this.#listeners.set(key, listener);
    this.#subscribe(key, listener.job);
    return key;
  }

  /** @param {string} key */
  remove(key) {
    if (!this.#listeners.delete(key)) return;
    this.#acknowledged(key);
    if (this.#stream) this.#stream.unsubscribe(key);
    else this.#post({ type: "unsubscribe", key });
    if (this.#listeners.size === 0) this.#leave();
  }

  // --- joining and leaving
  #join() {
    const { channel, newId, window, document, locks } = this.#platform;
    this.#id = newId();
    this.#membership = new AbortController();
    const { signal } = this.#membership;
    this.#channel = channel?.(this.#name) ?? null;
    this.#channel?.addEventListener("message", (event) => this.#onMessage(event.data), { signal });
    window?.addEventListener("pagehide", () => this.#interrupt(), { signal });
    document?.addEventListener("freeze", () => this.#interrupt(), { signal });
    locks
      ?.request(`${this.#name} ${this.#id}`, { signal }, () => this.#onAlive(signal))
      .catch((error) => this.#onRefusal(error, signal));
    this.#enqueue();
  }

  /**
   * Subscribe. Not before this tab holds its own lock: a leader that is granted that lock drops the subscriptions.
   * @param {AbortSignal} signal
   */
  #onAlive(signal) {
    if (signal.aborted) return undefined;
    this.#alive = true;
    this.#subscribeAll();
    return aborted(signal);
  }

  #leave() {
    this.#release();
    this.#membership.abort();
    this.#alive = this.#queued = this.#stealing = false;
    for (const key of [...this.#unanswered.keys()]) this.#acknowledged(key);
    this.#channel?.close();
    this.#channel = null;
  }

  /** Break every source, so that its policy opens another when the page is back. */
  #interrupt() {
    for (const key of [...this.#listeners.keys()]) this.#deliver([key], "error", null);
    for (const key of [...this.#listeners.keys()]) this.remove(key);
  }

  // --- becoming and being the leader
  #enqueue() {
    if (this.#queued) return;
    this.#queued = true;
    this.#request({ signal: this.#membership.signal }, () => (this.#queued = false));
  }

  #steal() {
    if (this.#stealing) return;
    this.#stealing = true;
    this.#request({ steal: true }, () => (this.#stealing = false));
  }

  /** @param {LockOptions} how @param {() => void} onGranted */
  #request(how, onGranted) {
    const membership = this.#membership.signal;
    const hold = new AbortController();
    const granted = () => {
      if (membership.aborted) return undefined;
      onGranted();
      return this.#lead(hold);
    };
    this.#platform.locks?.request(this.#name, how, granted).catch((error) => {
      if (error?.name !== "AbortError" || membership.aborted) return this.#onRefusal(error, membership);
      if (this.#hold === hold) this.#release(); // stolen, because this tab did not answer
      this.#enqueue();
      this.#subscribeAll();
    });
  }

  /** @param {AbortController} hold */
  #lead(hold) {
    this.#release();
    this.#hold = hold;
    this.#stream = new MultiplexedStream(`${this.#base}events/stream`, this.#platform, (keys, name, data) =>
      this.#broadcast(keys, name, data),
    );
    this.#post({ type: "lead" });
    this.#subscribeAll();
    return aborted(hold.signal);
  }

  /** Close the stream and release its lock, if this tab is the leader. */
  #release() {
    this.#stream?.close();
    this.#stream = null;
    this.#tabs.clear();
    this.#hold?.abort();
    this.#hold = null;
  }

  /** @param {any} error @param {AbortSignal} membership */
  #onRefusal(error, membership) {
    if (membership.aborted) return; // this tab has left
    this.#onRefused(error);
    this.#interrupt();
  }

  // --- messages between tabs
  /** @param {Message} message */
  #post(message) {
    this.#channel?.postMessage(message);
  }

  /** @param {Message} message */
  #onMessage(message) {
    if (message.type === "event") this.#deliver(message.keys, message.name, message.data);
    else if (message.type === "acknowledged") this.#acknowledged(message.key);
    else if (message.type === "lead") this.#subscribeAll();
    else if (this.#stream && message.type === "subscribe") this.#onSubscribe(message.key, message.job);
    else if (this.#stream && message.type === "unsubscribe") this.#stream.unsubscribe(message.key);
  }

  /** @param {string} key @param {string | null} job */
  #onSubscribe(key, job) {
    this.#post({ type: "acknowledged", key });
    this.#stream?.subscribe(key, job);
    const tab = key.slice(0, key.indexOf("/"));
    if (this.#tabs.has(tab) || !this.#hold) return;
    this.#tabs.add(tab);
    const { signal } = this.#hold;
    const gone = () => {
      if (signal.aborted) return;
      this.#tabs.delete(tab);
      this.#stream?.unsubscribeWhere((one) => one.startsWith(`${tab}/`));
    };
    const lock = this.#platform.locks?.request(`${this.#name} ${tab}`, { signal }, gone);
    lock?.catch(() => {}); // aborted: no longer the leader
  }

  #subscribeAll() {
    for (const [key, listener] of this.#listeners) this.#subscribe(key, listener.job);
  }

  /** @param {string} key @param {string | null} job @param {boolean} [again] */
  #subscribe(key, job, again = false) {
    this.#acknowledged(key);
    if (this.#stream) return this.#stream.subscribe(key, job);
    if (!this.#alive) return; // sent once the tab's own lock is granted
    const timer = this.#platform.setTimeout(() => this.#onUnanswered(key, job, again), ANSWER_WITHIN_MS);
    this.#unanswered.set(key, timer);
    this.#post({ type: "subscribe", key, job });
  }

  /** @param {string} key */
  #acknowledged(key) {
    if (this.#unanswered.has(key)) this.#platform.clearTimeout(this.#unanswered.get(key));
    this.#unanswered.delete(key);
  }

  /**
   * Subscribe again, or the second time steal the lock.
   *
   * Once may mean that this tab slept; twice means that the leader hangs.
   * @param {string} key
   * @param {string | null} job
   * @param {boolean} again
   */
  #onUnanswered(key, job, again) {
    this.#unanswered.delete(key);
    if (again) this.#steal();
    else this.#subscribe(key, job, true);
  }

  // --- events
  /** @param {string[]} keys @param {string} name @param {string | null} data */
  #broadcast(keys, name, data) {
    const others = keys.filter((key) => !this.#listeners.has(key));
    if (others.length > 0) this.#post({ type: "event", keys: others, name, data });
    this.#deliver(keys, name, data);
  }

  /** @param {string[]} keys @param {string} name @param {string | null} data */
  #deliver(keys, name, data) {
    for (const key of keys) this.#listeners.get(key)?.onEvent(name, data);
  }
}

/** Make the class that is used in place of EventSource.
 * @param {SharedPlatform} platform */
export function makeSharedEventSource(platform) {
  /** @type {Map<string, Tab>} */
  const tabs = new Map();
  let possible = platform.locks !== null && platform.channel !== null;

  /** @param {string} base */
  const tabOf = (base) => {
    const tab =
      tabs.get(base) ??
      new Tab(base, platform, () => {
        possible = false; // e.g. in a sandboxed frame
      });
    tabs.set(base, tab);
    return tab;
  };

  return class SharedEventSource extends EventTarget {
    /** @type {() => void} */ #close;

    /** @param {string} url */
    constructor(url) {
      super();
      const target = possible ? parseStreamUrl(url) : null;
      this.#close = target ? this.#share(tabOf(target.base), target.job) : this.#openWhileVisible(url);
    }

    close() {
      this.#close();
    }

    /** @param {Tab} tab @param {string | null} job */
    #share(tab, job) {
      const key = tab.add({ job, onEvent: (name, data) => this.#onEvent(name, data) });
      return () => tab.remove(key);
    }

    /**
     * Open a stream for this tab alone, and close it when the tab is hidden.
     *
     * This leaves the connection to other tabs. The policy sees a broken stream, polls, and opens another stream
     * when the tab is shown.
     * @param {string} url
     */
    #openWhileVisible(url) {
      const { document } = platform;
      const life = new AbortController();
      const hide = () => {
        if (life.signal.aborted || document?.visibilityState !== "hidden") return;
        close();
        this.#onEvent("error", null);
      };
      document?.addEventListener("visibilitychange", hide, { signal: life.signal });
      const source = document?.visibilityState === "hidden" ? null : this.#openOwn(url);
      const close = () => {
        source?.close();
        life.abort();
      };
      queueMicrotask(hide); // after the caller has added its listeners
      return close;
    }

    /** @param {string} url */
    #openOwn(url) {
      const source = new platform.eventSource(withoutItems(url));
      for (const name of ["open", "error"]) source.addEventListener(name, () => this.#onEvent(name, null));
      for (const name of EVENTS)
        source.addEventListener(name, (event) => this.#onEvent(name, /** @type {MessageEvent} */ (event).data));
      return source;
    }

    /** @param {string} name @param {string | null} data */
    #onEvent(name, data) {
      this.dispatchEvent(data === null ? new Event(name) : new MessageEvent(name, { data }));
    }
  };
}

/** Hold a lock until the signal is aborted. @param {AbortSignal} signal @returns {Promise<void>} */
function aborted(signal) {
  return new Promise((resolve) =>
    signal.aborted ? resolve() : signal.addEventListener("abort", () => resolve(), { once: true }),
  );
}

/** @returns {SharedPlatform} */
function thisPlatform() {
  return {
    eventSource: globalThis.EventSource,
    locks: globalThis.navigator?.locks ?? null,
    channel: typeof BroadcastChannel === "undefined" ? null : (name) => new BroadcastChannel(name),
    steady: () => performance.now(),
    newId: () =>
      Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join(
        "",
      ),
    setTimeout: (call, ms) => setTimeout(call, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    document: typeof document === "undefined" ? null : document,
    window: typeof window === "undefined" ? null : window,
  };
}

export const SharedEventSource = makeSharedEventSource(thisPlatform());
