"""Random clicks, keys and files on the batch page of a real server, in a real Chromium.

The page takes them without an error in its console and without asking the server more than it has to: REQUESTS for
each thing that a person did, and REQUESTS_S a second by itself. At the end it still shows a new job.
See also: tests/browser (what each control does).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Error, FilePayload, Page

from tests.browser.chromium import browser
from tests.browser.log import Log
from tests.support.held import SHOW
from tests.support.server import Server

#: Things done in a round.
STEPS = 12
#: Requests to the API that one thing done may cause, and those of a second without one (an upload counts as one).
REQUESTS, REQUESTS_S = 12, 4
#: How long Playwright tries a click on what may be covered or leaving (milliseconds).
PATIENCE_MS = 1_000
#: Lines of the console that say what a server was made to answer, or that a request was abandoned by a click.
EXPECTED = ("Failed to load resource", "net::ERR_")

FILES: list[FilePayload] = [
    {"name": "a.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"},
    {"name": 'a"b.csv', "mimeType": "text/csv", "buffer": b"a\n\n"},
    {"name": ".DS_Store", "mimeType": "", "buffer": b"x"},
    {"name": "empty.txt", "mimeType": "text/plain", "buffer": b""},
    {"name": "نص.txt", "mimeType": "text/plain", "buffer": b"x" * 1_000},
]
#: What a person does, the more often the likelier.
THINGS = [*["press"] * 8, *["key"] * 4, "files", "submit", "size", "hide", "address", "back", "scheme"]
KEYS = ["Tab", "Shift+Tab", "Enter", "Escape", " ", "ArrowDown", "ArrowUp", "Home", "a"]
#: Everything that can be pressed, also in the element; hidden ones have no place.
PRESSABLE = """() => {
  const found = [];
  const search = (root) => {
    for (const one of root.querySelectorAll("*")) {
      if (one.shadowRoot) search(one.shadowRoot);
      if (!one.matches("button, a[href], summary, input, select")) continue;
      const { x, y, width, height } = one.getBoundingClientRect();
      if (width && height && !one.disabled && !one.matches("[type=file], [download], [target]"))
        found.push([x + width / 2, y + height / 2]);
    }
  };
  search(document);
  return found.filter(([x, y]) => x >= 0 && y >= 0 && x < innerWidth && y < innerHeight);
}"""


def play(folder: Path, seed: int, rounds: int) -> Iterator[str]:
    """Do STEPS random things in each round, and yield what is wrong."""
    server = Server(folder, "--workers", "2").start()
    try:
        with browser() as chromium:
            page, log = chromium.new_page(viewport={"width": 1280, "height": 800}), Log()
            page.set_default_timeout(PATIENCE_MS)
            page.set_default_navigation_timeout(60_000)
            log.watch(page)
            page.goto(server.url)
            for number in range(rounds):
                for wrong in _round(page, log, server, random.Random(f"{seed}-{number}")):
                    yield f"seed {seed}, round {number}: {wrong}"
            yield from (f"seed {seed}, at the end: {wrong}" for wrong in _still_works(page, server))
    finally:
        server.stop()


def _round(page: Page, log: Log, server: Server, chance: random.Random) -> Iterator[str]:
    done = []
    asked, began = log.count("/api/"), time.monotonic()
    for _ in range(STEPS):
        done.append(_do_one_thing(page, server, chance))
        page.wait_for_timeout(chance.choice([0, 0, 20, 200]))
    seconds, requests = time.monotonic() - began, log.count("/api/") - asked
    if requests > STEPS * REQUESTS + seconds * REQUESTS_S:
        yield f"{requests} requests in {seconds:.1f} s, after {done}"
    errors = [error for error in log.errors if not error.startswith(("dialog:", *EXPECTED))]
    log.errors.clear()
    yield from (f"{error}, after {done}" for error in errors)


def _do_one_thing(page: Page, server: Server, chance: random.Random) -> str:
    """Do something, and return what."""
    done = chance.choice(THINGS)
    try:
        match done:
            case "press":
                if places := page.evaluate(PRESSABLE):
                    page.mouse.click(*chance.choice(places))
            case "key":
                page.keyboard.press(chance.choice(KEYS))
            case "files":
                page.set_input_files("#pick-files", chance.sample(FILES, chance.randint(1, len(FILES))))
            case "submit":
                options = {"seconds": chance.choice([0, 0.2]), "failures": chance.choice([0, 0.5])}
                server.submit("rehearsal", total=chance.choice([1, 5, 40]), options=options)
            case "size":
                width, height = chance.choice([(320, 256), (390, 844), (1280, 800)])
                page.set_viewport_size({"width": width, "height": height})
            case "hide":
                page.evaluate(SHOW, chance.choice([True, False]))
                page.evaluate(SHOW, True)
            case "address":
                page.evaluate("(hash) => { location.hash = hash; }", chance.choice(["", "#job=x", "#nothing"]))
            case "back":
                page.go_back() if chance.random() < 0.5 else page.go_forward()
            case "scheme":
                page.emulate_media(color_scheme=chance.choice(["light", "dark"]))
    except Error as error:
        if "Timeout" not in error.message and "Execution context" not in error.message:
            raise  # what was to be pressed was gone or covered, or the page was just being loaded
    if not page.url.startswith(server.url):
        page.goto(server.url)  # a press or "back" led away from the page
    return done


def _still_works(page: Page, server: Server) -> Iterator[str]:
    """Submit a job, and expect the page to list it."""
    page.goto(f"{server.url}/")
    name = "the last one"
    server.submit("rehearsal", total=1, options={"seconds": 0}, name=name)
    try:
        page.get_by_text(name).first.wait_for(timeout=60_000)
    except Error:
        yield "a new job is not listed"
