"""Many tabs of one browser on HTTP/1.1 share one stream; when the tab that holds it closes, another takes over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect

from tests.support.held import SHOW
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser
PATIENCE_MS = 60_000

#: The promise, and slack for a machine that is busy with twenty pages.
HANDED_OVER_S = 2.0
SLACK_S = 6.0

#: Runs in every page from the start: records when each new state of the job reaches its dialog.
WATCH_NEWS = """
  window.news = [];
  addEventListener("progress", (event) => {
    const seq = event.detail?.job?.seq;
    if (seq && window.news.at(-1)?.seq !== seq) window.news.push({ seq, at: Date.now() });
  }, { capture: true });
"""

#: Returns whether this page holds the stream, according to the browser's table of locks.
HOLDS_THE_STREAM = """async () => {
  const holder = (await navigator.locks.query()).held.find(({ name }) => name.endsWith("/api/"));
  const me = `me ${Math.random()}`;
  return navigator.locks.request(me, async () => {
    const { clientId } = (await navigator.locks.query()).held.find(({ name }) => name === me);
    return holder?.clientId === clientId;
  });
}"""


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(reduced_motion="reduce")  # twenty animated pages would only test the machine
    context.add_init_script(WATCH_NEWS)
    yield context
    context.close()


def open_tabs(context: BrowserContext, server: Server, job: dict[str, Any], count: int) -> list[Page]:
    tabs = []
    for _ in range(count):
        page = context.new_page()
        page.goto(f"{server.url}/#job={job['id']}")
        tabs.append(page)
    for page in tabs:
        expect(page.locator("job-progress .link")).to_contain_text("Live", timeout=PATIENCE_MS)
    return tabs


def until_one_stream(server: Server) -> None:
    eventually(lambda: server.get("/api/health")["streams"]["open"] == 1)


def holder(tabs: list[Page]) -> Page:
    found = [page for page in tabs if page.evaluate(HOLDS_THE_STREAM)]
    assert len(found) == 1
    return found[0]


def news_since(page: Page, moment: float) -> float | None:
    """Return the seconds from `moment` (wall clock) to the first news after it, or None before there is any."""
    at = page.evaluate("(from) => window.news.find(({ at }) => at > from)?.at ?? null", moment * 1_000)
    return None if at is None else at / 1_000 - moment


def handed_over(tabs: list[Page], since: float, server: Server) -> None:
    """Check that all tabs soon receive news again, over a single stream."""
    took = [eventually(partial(news_since, page, since)) for page in tabs]
    assert max(took) < HANDED_OVER_S + SLACK_S
    until_one_stream(server)
    for page in tabs:
        expect(page.locator("job-progress .link")).to_contain_text("Live", timeout=PATIENCE_MS)


def long_job(server: Server) -> dict[str, Any]:
    return server.submit("rehearsal", total=10_000, options={"seconds": 1})


def test_twenty_tabs_are_live_with_one_stream(context: BrowserContext, start_server: StartServer) -> None:
    server = start_server("--workers", "2", interval_s="0.5")
    job = long_job(server)
    tabs = open_tabs(context, server, job, 20)
    until_one_stream(server)
    since = time.time()
    for page in tabs:
        eventually(partial(news_since, page, since))
    for page in tabs:
        page.locator("job-progress").get_by_role("button", name="Check status").click()
        expect(page.locator("job-progress .answer")).to_contain_text("Status checked:", timeout=10_000)
        expect(page.locator("job-progress .answer")).not_to_contain_text("no response")
    gone, since = holder(tabs), time.time()
    gone.close()
    handed_over([page for page in tabs if page is not gone], since, server)


def test_a_crashed_tab_hands_over(context: BrowserContext, start_server: StartServer) -> None:
    server = start_server("--workers", "2", interval_s="0.5")
    tabs = open_tabs(context, server, long_job(server), 4)
    gone = holder(tabs)
    rest = [page for page in tabs if page is not gone]
    since = time.time()
    with suppress(Error):
        gone.goto("chrome://crash", timeout=5_000)  # a crashed page does not answer
    handed_over(rest, since, server)


def test_a_frozen_page_hands_over_and_comes_back(context: BrowserContext, start_server: StartServer) -> None:
    server = start_server("--workers", "2", interval_s="0.5")
    tabs = open_tabs(context, server, long_job(server), 3)
    frozen, since = holder(tabs), time.time()
    # Playwright keeps every page visible, so the browser itself does not freeze any.
    frozen.evaluate("document.dispatchEvent(new Event('freeze'))")
    handed_over([page for page in tabs if page is not frozen], since, server)
    frozen.evaluate("document.dispatchEvent(new Event('resume'))")
    handed_over(tabs, time.time(), server)


def test_tabs_with_different_jobs_share_a_stream_too(context: BrowserContext, start_server: StartServer) -> None:
    server = start_server("--workers", "2", interval_s="0.5")
    jobs = [server.submit("rehearsal", total=10_000, options={"seconds": 1}) for _ in range(8)]
    tabs = []
    for job in jobs:
        page = context.new_page()
        page.goto(f"{server.url}/static/define.js")  # a page without a list, so the stream has these jobs only
        page.evaluate(
            """(src) => import("/static/define.js").then(() => {
                const element = document.createElement("job-progress");
                element.src = src;
                document.body.replaceChildren(element);
            })""",
            job["links"]["self"],
        )
        tabs.append(page)
    for page in tabs:
        expect(page.locator("job-progress .link")).to_contain_text("Live", timeout=PATIENCE_MS)
    until_one_stream(server)
    assert server.get("/api/health")["streams"]["jobs_watched"] == len(jobs)


def test_hidden_pages_keep_no_stream_or_lock(context: BrowserContext, start_server: StartServer) -> None:
    server = start_server("--workers", "2", interval_s="0.5")
    job = long_job(server)
    tabs = open_tabs(context, server, job, 3)
    httpx.post(f"{server.url}{job['links']['cancel']}")
    for page in tabs:
        expect(page.locator("job-progress .sentence")).to_contain_text("Cancelled", timeout=PATIENCE_MS)
    for page in tabs:  # a visible page follows its list for as long as it is visible
        page.evaluate(SHOW, False)
    eventually(lambda: server.get("/api/health")["streams"]["open"] == 0)
    locks = tabs[0].evaluate("navigator.locks.query().then(({ held, pending }) => held.length + pending.length)")
    assert locks == 0
