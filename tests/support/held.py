"""Tracks the streams, timers and requests that a page holds.

A page that holds none of them will ask the server for nothing more.
"""

from __future__ import annotations

#: To be run in the page before any other script.
COUNT = """() => {
  const now = () => (performance.timeOrigin + performance.now()) / 1000;
  const held = window.held = { streams: new Set(), timers: new Map(), fetches: new Set(), asked: [] };
  window.EventSource = class extends EventSource {
    constructor(url) { super(url); held.streams.add(this); held.asked.push([now(), `the stream ${url}`]); }
  };
  for (const name of ["Timeout", "Interval"]) {
    const [set, clear] = [window[`set${name}`], window[`clear${name}`]];
    window[`set${name}`] = (call, ms, ...given) => {
      const ring = () => { if (name === "Timeout") held.timers.delete(timer); call(...given); };
      const timer = set(ring, ms);
      held.timers.set(timer, `a timer of ${Math.round(ms)} ms`);
      return timer;
    };
    window[`clear${name}`] = (timer) => { held.timers.delete(timer); clear(timer); };
  }
  const fetch = window.fetch;
  window.fetch = (what, how) => {
    held.asked.push([now(), `a fetch of ${what}`]);
    const answer = fetch(what, how);
    held.fetches.add(answer);
    answer.catch(() => {}).finally(() => held.fetches.delete(answer));
    return answer;
  };
}"""

#: Makes the page believe that it is hidden, or shown: a headless browser has no other tab to show.
SHOW = """(shown) => {
  Object.defineProperty(document, "visibilityState", { value: shown ? "visible" : "hidden", configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""

#: Lists everything through which the page could still ask the server for something.
HELD = """() => {
  const { streams, timers, fetches } = window.held;
  return [
    ...[...streams].filter((one) => one.readyState !== EventSource.CLOSED).map((one) => `it holds ${one.url}`),
    ...[...timers.values()].map((timer) => `it holds ${timer}`),
    ...[...fetches].map(() => "it waits for an answer"),
  ];
}"""
