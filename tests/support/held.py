"""Counts in a page what it holds: streams, timers, requests. A page that holds nothing asks for nothing more."""

from __future__ import annotations

#: Runs in the page before anything else does.
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

#: What the page could still ask for by itself, in words.
HELD = """() => {
  const { streams, timers, fetches } = window.held;
  return [
    ...[...streams].filter((one) => one.readyState !== EventSource.CLOSED).map((one) => `it holds ${one.url}`),
    ...[...timers.values()].map((timer) => `it holds ${timer}`),
    ...[...fetches].map(() => "it waits for an answer"),
  ];
}"""
