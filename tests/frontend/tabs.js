/*
 * Provides a browser with several tabs, driven by the test: its locks, channels and EventSource. They follow the
 * standards as far as the product uses them.
 */
import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { makeSharedEventSource } from "../../frontend/client/shared-event-source.js";

setMaxListeners(0); // twenty tabs wait for one signal: no leak

export const API = "http://host/app/api/";
export const ID = (number) => `00000000-0000-4000-8000-${String(number).padStart(12, "0")}`;
export const eventsOf = (number) => `${API}jobs/${ID(number)}/events`;
export const ALL = `${API}events/stream`;

/** Wait until all promises have settled and all messages have arrived. */
export const settle = async () => {
  for (let round = 0; round < 5; round += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** The LockManager of one browser, as far as it is used: exclusive locks in order, with signal and steal. */
class Locks {
  #held = new Map();
  #queues = new Map();
  refusal = null;
  /** Return the view of one tab, so that a crash can release what that tab holds. */
  of(tab) {
    return { request: (name, options, callback) => this.#request(tab, name, options, callback) };
  }
  get names() {
    return [
      ...this.#held.keys(),
      ...[...this.#queues].filter(([, queue]) => queue.length > 0).map(([name]) => name),
    ];
  }
  #request(tab, name, { signal, steal = false }, callback) {
    if (this.refusal) return Promise.reject(this.refusal);
    return new Promise((resolve, reject) => {
      const one = { tab, callback, resolve, reject };
      const queue = this.#queues.get(name) ?? [];
      this.#queues.set(name, queue);
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener("abort", () => {
        if (!queue.includes(one)) return;
        queue.splice(queue.indexOf(one), 1);
        reject(signal.reason);
      });
      if (steal) {
        this.#held.get(name)?.reject(new DOMException("stolen", "AbortError"));
        this.#held.delete(name);
        queue.unshift(one);
      } else queue.push(one);
      queueMicrotask(() => this.#grant(name));
    });
  }
  #grant(name) {
    if (this.#held.has(name)) return;
    const one = this.#queues.get(name)?.shift();
    if (!one) return;
    this.#held.set(name, one);
    Promise.resolve(one.callback()).then((value) => {
      one.resolve(value);
      this.#free(name, one);
    });
  }
  #free(name, one) {
    if (this.#held.get(name) !== one) return;
    this.#held.delete(name);
    this.#grant(name);
  }
  crash(tab) {
    for (const queue of this.#queues.values())
      queue.splice(0, queue.length, ...queue.filter((one) => one.tab !== tab));
    for (const [name, one] of [...this.#held]) if (one.tab === tab) this.#free(name, one);
  }
}

/** A browser with tabs, and the streams of a server, driven by the test. */
export class Browser {
  locks = new Locks();
  sources = [];
  #channels = new Set();
  time = 0;
  /** @type {(message: any, from: any, to: any) => boolean} */ lost = () => false;

  get open() {
    return this.sources.filter((source) => !source.closed);
  }
  tab(name, changes = {}) {
    const self = this;
    const tab = {
      name,
      timers: new Map(),
      listeners: 0,
      dead: false,
      window: new EventTarget(),
      document: new EventTarget(),
    };
    const counted = (target) => ({
      addEventListener: (event, listener, { signal }) => {
        tab.listeners += 1;
        signal.addEventListener("abort", () => (tab.listeners -= 1));
        target.addEventListener(event, listener, { signal });
      },
    });
    tab.platform = {
      eventSource: class extends EventTarget {
        constructor(url) {
          super();
          Object.assign(this, { url, closed: false, tab: name });
          self.sources.push(this);
        }
        close() {
          this.closed = true;
        }
      },
      locks: this.locks.of(name),
      channel: (channel) => this.#channel(channel, tab),
      steady: () => this.time,
      newId: () => `${name}${Math.random().toString(36).slice(2)}`,
      setTimeout: (call, ms) => {
        const id = Symbol("timer");
        tab.timers.set(id, { call, at: this.time + ms });
        return id;
      },
      clearTimeout: (id) => tab.timers.delete(id),
      window: counted(tab.window),
      document: counted(tab.document),
      ...changes,
    };
    tab.Source = makeSharedEventSource(tab.platform);
    tab.follow = (url) => this.#follow(tab, url);
    return tab;
  }
  #follow(tab, url) {
    const source = new tab.Source(url);
    const received = [];
    const note = (name) =>
      source.addEventListener(name, (event) => {
        if (tab.dead) return;
        received.push(event.data ? `${name} ${JSON.parse(event.data).seq ?? ""}`.trim() : name);
        if (name === "error") source.close();
      });
    for (const name of ["open", "error", "job", "items", "heartbeat", "leaving", "gone"]) note(name);
    return { source, received, close: () => source.close() };
  }
  #channel(name, tab) {
    const channel = new EventTarget();
    Object.assign(channel, {
      postMessage: (data) => {
        for (const other of this.#channels) {
          if (other === channel || other.name !== name) continue;
          setImmediate(() => {
            if (this.#channels.has(other) && !other.tab.dead && !this.lost(data, tab, other.tab))
              other.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) }));
          });
        }
      },
      close: () => this.#channels.delete(channel),
      name,
      tab,
    });
    this.#channels.add(channel);
    return channel;
  }
  get channels() {
    return this.#channels.size;
  }
  crash(tab) {
    tab.dead = true;
    tab.timers.clear();
    for (const channel of [...this.#channels]) if (channel.tab === tab) this.#channels.delete(channel);
    for (const source of this.sources) if (source.tab === tab.name) source.closed = true;
    this.locks.crash(tab.name);
  }
  async pass(tabs, ms) {
    this.time += ms;
    for (const tab of tabs) {
      for (const [id, timer] of [...tab.timers]) {
        if (timer.at > this.time) continue;
        tab.timers.delete(id);
        timer.call();
      }
    }
    await settle();
  }
  nothingIsLeft(...tabs) {
    assert.deepEqual([this.open.length, this.channels, this.locks.names], [0, 0, []]);
    for (const tab of tabs) assert.deepEqual([tab.timers.size, tab.listeners], [0, 0], tab.name);
  }
}

/** Send an event on a stream. */
export function say(source, name, data) {
  source.dispatchEvent(
    data === undefined ? new Event(name) : new MessageEvent(name, { data: JSON.stringify(data) }),
  );
}
export const job = (number, seq) => ({ id: ID(number), seq });

/** Open the newest stream and send the state of these jobs. */
export async function begins(browser, ...jobs) {
  await settle();
  const source = browser.open.at(-1);
  say(source, "open");
  for (const one of jobs) say(source, "job", one);
  await settle();
  return source;
}
