"""A harmful service worker between a page and its server, as those of offline-first sites can be.

The query of the script's own address says what it does (`does`) to which requests (`where`). A page cannot get
rid of the service worker that controls it, so the cure is a newer one that does nothing, as in the field. It
must not know when it is installed, or what is requested.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from urllib.parse import urlencode

#: At the root, since a service worker controls what is beside and below its script.
PATH = "/service-worker.js"


class Behaviour(StrEnum):
    ANSWERS = "answers"  # responds with an offline page
    HANGS = "hangs"  # takes the request and never responds
    PASSES = "passes"  # fetches from the server, and passes on the response
    BREAKS = "breaks"  # … and breaks it off after a few hundred bytes
    REMEMBERS = "remembers"  # always repeats the first response to a poll; lets no stream through


_SCRIPT = """
const asked = new URL(self.location.href).searchParams;
const [does, wheres] = [asked.get("does"), asked.getAll("where")];
const OFFLINE = "<!doctype html><title>Offline</title><h1>You are offline</h1>";
const BREAKS_AFTER = 600;

function whereOf({ method, url }) {
  const { pathname } = new URL(url);
  if (/\\/events(\\/stream)?$/.test(pathname)) return "stream";
  return method === "GET" && /\\/api\\/jobs(\\/[0-9a-f-]{36})?$/.test(pathname) ? "poll" : "other";
}

function brokenOff(response) {
  let left = BREAKS_AFTER;
  const breaking = new TransformStream({
    transform(part, controller) {
      controller.enqueue(part.slice(0, left));
      left -= part.length;
      if (left <= 0) controller.error(new Error("broken off"));
    },
  });
  return new Response(response.body.pipeThrough(breaking), response);
}

const offline = () => new Response(OFFLINE, { status: 503, headers: { "Content-Type": "text/html" } });

async function remembered(request) {
  if (whereOf(request) === "stream") return offline();
  const cache = await caches.open("first answers");
  const held = await cache.match(request.url);
  if (held) return held;
  const response = await fetch(request);
  if (response.ok) await cache.put(request.url, response.clone());
  return response;
}

const answer = {
  answers: offline,
  hangs: () => new Promise(() => {}),
  passes: (request) => fetch(request),
  breaks: async (request) => brokenOff(await fetch(request)),
  remembers: remembered,
}[does];

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (answer && wheres.includes(whereOf(event.request))) event.respondWith(answer(event.request));
});
"""
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nCache-Control: no-store\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
) % (len(_SCRIPT.encode()), _SCRIPT.encode())


def address(does: str, wheres: Iterable[str]) -> str:
    """Return the address of a service worker that does this to these requests."""
    return f"{PATH}?{urlencode([('does', does), *(('where', where) for where in wheres)])}"
