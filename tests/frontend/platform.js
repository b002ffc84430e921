/*
 * Provides what a browser gives to the follower (EventSource, fetch, clocks, page events), driven by the test, and
 * checks that nothing is left open.
 */
import assert from "node:assert/strict";
import { Follower } from "../../frontend/client/follower.js";
import { JobSubject } from "../../frontend/client/job-subject.js";

// Every browser has this; Node has it from version 19 on.
globalThis.CustomEvent ??= /** @type {any} */ (
  class extends Event {
    constructor(type, { detail = null } = {}) {
      super(type);
      this.detail = detail;
    }
  }
);

export const URL_ = "http://host/app/api/jobs/7";
export const job = (seq, changes = {}) => ({
  id: "7",
  seq,
  done: false,
  state: "running",
  poll_after_ms: 2_000,
  links: {
    self: "/app/api/jobs/7",
    events: "/app/api/jobs/7/events",
    items: "",
    cancel: "",
    retry: null,
    results: null,
  },
  ...changes,
});

/** A browser, driven by the test. */
export class Platform {
  time = 0;
  slept = 0;
  timers = new Map();
  /** @type {any[]} */ sources = [];
  /** @type {any[]} */ requests = [];
  listeners = 0;

  constructor() {
    const self = this;
    this.given = {
      eventSource: class extends EventTarget {
        constructor(url) {
          super();
          Object.assign(this, { url, closed: false });
          self.sources.push(this);
        }
        close() {
          this.closed = true;
        }
      },
      fetch: (url, init) =>
        new Promise((resolve, reject) => {
          const request = {
            url,
            init,
            answer: (status, body, headers = {}) =>
              resolve(new Response(body === null ? null : JSON.stringify(body), { status, headers })),
            html: () => resolve(new Response("<html>", { status: 200 })),
            fail: () => reject(new TypeError("network")),
          };
          init.signal.addEventListener("abort", () => reject(init.signal.reason));
          this.requests.push(request);
        }),
      wall: () => 1_700_000_000_000 + this.time + this.slept,
      steady: () => this.time,
      random: () => 0.5,
      setTimeout: (call, ms) => {
        const id = Symbol("timer");
        this.timers.set(id, { call, at: this.time + ms });
        return id;
      },
      clearTimeout: (id) => this.timers.delete(id),
      document: this.target({ visibilityState: "visible" }),
      window: this.target({ navigator: { onLine: true } }),
    };
  }
  target(properties) {
    const target = Object.assign(new EventTarget(), properties);
    const add = target.addEventListener.bind(target);
    target.addEventListener = (name, listener, options) => {
      this.listeners += 1;
      options?.signal?.addEventListener("abort", () => (this.listeners -= 1));
      add(name, listener, options);
    };
    return target;
  }
  async pass(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.time = Math.max(this.time, due[1].at);
      this.timers.delete(due[0]);
      due[1].call();
      await settle();
    }
    this.time = end;
  }
  say(name, data, source = this.sources.at(-1)) {
    source.dispatchEvent(
      data === undefined
        ? new Event(name)
        : new MessageEvent(name, { data: typeof data === "string" ? data : JSON.stringify(data) }),
    );
  }
  page(target, name, properties = {}) {
    this.given[target].dispatchEvent(Object.assign(new Event(name), properties));
  }
}

/** Wait until every promise that can settle has settled. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

export function begin(known = null) {
  const platform = new Platform();
  const subject = new JobSubject(URL_, known);
  const follower = new Follower({ subject, ...platform.given });
  const seen = [];
  follower.addEventListener("change", () => seen.push([follower.link, subject.job?.seq ?? null]));
  return { platform, subject, follower: follower.start(), seen };
}

export function nothingIsLeft(platform) {
  assert.deepEqual(
    [platform.timers.size, platform.listeners, platform.sources.every((source) => source.closed)],
    [0, 0, true],
  );
  assert.ok(platform.requests.every((request) => request.settled || request.init.signal.aborted || request.done));
}
