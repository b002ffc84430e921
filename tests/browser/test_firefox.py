"""The job page in a real Firefox, with the fault proxy in front of a real server.

A stream is cut or refused, the server is killed, and tabs share a stream.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.browser.firefox import Session, Tab, executable, running
from tests.faults.proxy import PASS, Mode, Proxy, Trouble
from tests.faults.stage import free_port
from tests.faults.wire import STREAM
from tests.support.held import SHOW
from tests.support.machine import needs
from tests.support.server import Server, StartServer
from tests.support.waiting import soon

pytestmark = [
    pytest.mark.browser,
    needs(executable() or "firefox-esr", "firefox-esr"),
]

#: Covers a busy machine, and the policy's longest pause between two attempts (30 s).
PATIENCE_S = 60.0
#: Items of a job that is still running at the end of a test, even on a busy machine.
LONG = 900
BADGES = {"cancelled": "Cancelled", "completed": "Done", "completed_with_errors": "Done with errors"}
#: What Firefox itself writes on the console when a stream breaks; pages cannot keep it from doing so.
ABOUT_A_STREAM = re.compile(
    r"(Firefox can’t establish a connection to the server at|The connection to) http\S+/api/events/stream"
)

#: The texts of the dialog, and every value that its progress bar has shown.
SCREEN = """() => {
  const dialog = document.querySelector("job-progress");
  if (!dialog) return null;
  const shown = (part) => {
    const node = dialog.shadowRoot.querySelector(part);
    return node && node.checkVisibility() ? node.textContent : "";
  };
  const bar = dialog.shadowRoot.querySelector("progress[value]");
  return {
    job: dialog.job?.id ?? "", seq: dialog.job?.seq ?? -1, link: shown(".link p"), sentence: shown(".sentence"),
    badge: shown(".badge"),
    counts: Object.fromEntries([...dialog.shadowRoot.querySelectorAll(".counts div")].map(
      ({ firstElementChild: term, lastElementChild: number }) => [term.textContent, number.textContent])),
    bars: [...(window.bars?.[dialog.src] ?? []), ...(bar ? [bar.value] : [])], // the last frame may be missing
  };
}"""
WATCH_BAR = """() => {
  window.bars = {};
  const look = () => {
    const dialog = document.querySelector("job-progress");
    const bar = dialog?.shadowRoot.querySelector("progress[value]");
    const bars = bar ? (window.bars[dialog.src] ??= []) : [];
    if (bar && bars.at(-1) !== bar.value) bars.push(bar.value);
    requestAnimationFrame(look);
  };
  look();
}"""


class Scene:
    """A server, the proxy in front of it, and pages in one profile of Firefox."""

    def __init__(self, server: Server, proxy: Proxy, session: Session) -> None:
        self.server = server
        self.proxy = proxy
        self.session = session

    async def submit(self, total: int, seconds: float) -> dict[str, Any]:
        options = {"seconds": seconds, "failures": 0.2, "seed": 1}
        return await asyncio.to_thread(self.server.submit, "rehearsal", total=total, options=options)

    async def open(self, job: dict[str, Any]) -> Tab:
        """Open the job's page by its link; return its tab once it is live."""
        tab = await self.session.new_tab()
        await tab.goto(f"{self.proxy.url}/#job={job['id']}")
        await tab.call(WATCH_BAR)
        await until(tab, lambda screen: "Live" in screen["link"])
        return tab

    async def until_live(self, *tabs: Tab) -> None:
        """Wait until the dialogs are live and receive changes again."""
        for tab in tabs:
            live = await until(tab, lambda screen: "Live" in screen["link"])
            await until(tab, partial(newer, live["seq"]))

    async def streams(self) -> int:
        """Return the number of streams that the server has open."""
        health = await asyncio.to_thread(self.server.get, "/api/health")
        return int(health["streams"]["open"])

    def asked(self, path: str) -> int:
        return sum(request.path == path for request in self.proxy.requests)

    async def check_cancel(self, job: dict[str, Any], *tabs: Tab) -> None:
        await asyncio.to_thread(httpx.post, f"{self.server.url}{job['links']['cancel']}")
        await self.check_end(job, *tabs)

    async def check_end(self, job: dict[str, Any], *tabs: Tab) -> None:
        """Check that all dialogs show the job's end, their bars never went back, and no request is left open."""
        truth = await asyncio.to_thread(self.server.until_done, job["id"])
        for tab in tabs:
            screen = await until(tab, partial(over, job["id"]))
            progress = truth["progress"]
            assert (screen["seq"], screen["badge"]) == (truth["seq"], BADGES[truth["state"]])
            assert screen["counts"]["Succeeded"] == str(progress["succeeded"])
            assert screen["counts"]["Failed"] == str(progress["failed"])
            assert screen["bars"] == sorted(screen["bars"])
            assert screen["bars"][-1] == progress["percent"]
        for tab in tabs:  # a visible page follows its list for as long as it is visible
            await tab.call(SHOW, False)
        await soon(lambda: not self.proxy.open)
        assert [error for error in self.session.errors if not ABOUT_A_STREAM.match(error)] == []


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("firefox")) as address:
        yield address


@pytest.fixture
async def scene(firefox: str, start_server: StartServer) -> AsyncIterator[Scene]:
    arguments = ("--workers", "2", "--port", str(free_port()))  # keep the port over restarts
    server = await asyncio.to_thread(start_server, *arguments, lease_s="3", interval_s="0.2")
    async with Proxy(urlsplit(server.url).port or 0) as proxy, Session.opened(firefox) as session:
        yield Scene(server, proxy, session)


def newer(seq: int, screen: dict[str, Any]) -> bool:
    return bool(screen["seq"] > seq)


def over(job_id: str, screen: dict[str, Any]) -> bool:
    """Return whether the screen shows the end of this job and has drawn at least one frame."""
    return bool(screen["job"] == job_id and screen["sentence"] and screen["bars"])


async def until(tab: Tab, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait for a screen that passes, and return it."""

    async def passing() -> dict[str, Any] | None:
        screen: dict[str, Any] | None = await tab.call(SCREEN)
        return screen if screen is not None and check(screen) else None

    return await soon(passing, PATIENCE_S)


async def test_a_cut_stream_is_reopened(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    tab = await scene.open(job)
    before = scene.asked(STREAM)
    await scene.proxy.set(Mode(Trouble.CUT, 300), STREAM)  # in the middle of an event
    await soon(lambda: scene.asked(STREAM) >= before + 2, PATIENCE_S)
    await scene.proxy.set(PASS)
    await scene.until_live(tab)
    await scene.check_cancel(job, tab)


async def test_polls_replace_a_refused_stream(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    tab = await scene.open(job)
    await scene.proxy.set(Mode(Trouble.ANSWER, answer="503"), STREAM)
    polling = await until(tab, lambda screen: "checking every few seconds" in screen["link"])
    await until(tab, partial(newer, polling["seq"]))
    assert await scene.streams() == 0
    await scene.proxy.set(PASS)
    await scene.until_live(tab)
    await scene.check_cancel(job, tab)


async def test_the_page_recovers_from_a_kill_of_the_server(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    tab = await scene.open(job)
    await asyncio.to_thread(scene.server.stop, signal.SIGKILL)
    await until(tab, lambda screen: "No response from the server" in screen["link"])
    await asyncio.to_thread(scene.server.start)
    await scene.until_live(tab)
    await scene.check_cancel(job, tab)
    short = await scene.submit(6, 0.1)
    await tab.call("(id) => { location.hash = `job=${id}`; }", short["id"])
    await scene.check_end(short, tab)


async def test_three_tabs_share_a_stream_and_hand_it_over(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    holder = await scene.open(job)  # the first tab holds the stream
    others = [await scene.open(job), await scene.open(job)]
    assert await scene.streams() == 1
    before = scene.asked(STREAM)
    await holder.close()
    await soon(lambda: scene.asked(STREAM) > before, PATIENCE_S)
    await scene.until_live(*others)
    assert await scene.streams() == 1
    await scene.check_cancel(job, *others)
