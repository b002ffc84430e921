"""The job page in a real Firefox, with the fault proxy between it and a real server: a stream that is cut, one
that is refused, a server that is killed, and tabs that share a stream."""

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
from tests.support.machine import needs
from tests.support.server import Server, StartServer
from tests.support.waiting import soon

pytestmark = [
    pytest.mark.browser,
    needs(executable() or "firefox-esr", "firefox-esr"),
]

#: A busy machine, and the policy's longest pause between two attempts (30 s).
PATIENCE_S = 60.0
#: Items of a job that is still at work when the test comes to its end, on a busy machine too.
LONG = 900
BADGES = {"cancelled": "Cancelled", "completed": "Done", "completed_with_errors": "Done, with errors"}
#: What Firefox itself writes on the console when a stream breaks; pages cannot keep it from doing so.
ABOUT_A_STREAM = re.compile(
    r"(Firefox can’t establish a connection to the server at|The connection to) http\S+/api/events/stream"
)

#: What a person reads in the dialog, and every value that its bar had.
SCREEN = """() => {
  const dialog = document.querySelector("job-progress");
  if (!dialog) return null;
  const shown = (part) => {
    const node = dialog.shadowRoot.querySelector(part);
    return node && node.checkVisibility() ? node.textContent : "";
  };
  return {
    job: dialog.job?.id ?? "", seq: dialog.job?.seq ?? -1, link: shown(".link p"), sentence: shown(".sentence"),
    badge: shown(".badge"), percent: shown(".percent"), amount: shown(".amount"),
    counts: Object.fromEntries([...dialog.shadowRoot.querySelectorAll(".counts div")].map(
      ({ firstElementChild: term, lastElementChild: number }) => [term.textContent, number.textContent])),
    bars: window.bars?.[dialog.src] ?? [],
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
        """The job's page, by its link, and live."""
        tab = await self.session.new_tab()
        await tab.goto(f"{self.proxy.url}/#job={job['id']}")
        await tab.call(WATCH_BAR)
        await until(tab, lambda screen: "Live" in screen["link"])
        return tab

    async def live_again(self, *tabs: Tab) -> None:
        """The dialogs say so, and move."""
        for tab in tabs:
            live = await until(tab, lambda screen: "Live" in screen["link"])
            await until(tab, partial(newer, live["seq"]))

    async def streams(self) -> int:
        """How many the server has open."""
        health = await asyncio.to_thread(self.server.get, "/api/health")
        return int(health["streams"]["open"])

    def asked(self, path: str) -> int:
        return sum(request.path == path for request in self.proxy.requests)

    async def cancelled_in_the_truth(self, job: dict[str, Any], *tabs: Tab) -> None:
        await asyncio.to_thread(httpx.post, f"{self.server.url}{job['links']['cancel']}")
        await self.ends_in_the_truth(job, *tabs)

    async def ends_in_the_truth(self, job: dict[str, Any], *tabs: Tab) -> None:
        """The screens say what the server says, never went back, and nothing is left in flight."""
        truth = await asyncio.to_thread(self.server.until_done, job["id"])
        for tab in tabs:
            screen = await until(tab, partial(over, job["id"]))
            progress = truth["progress"]
            assert (screen["seq"], screen["badge"]) == (truth["seq"], BADGES[truth["state"]])
            assert f"{progress['processed']} of {progress['total']} files" in screen["amount"]
            assert screen["counts"]["Succeeded"] == str(progress["succeeded"])
            assert screen["counts"]["Failed"] == str(progress["failed"])
            assert screen["percent"] == f"{int(progress['percent'])}%"
            assert screen["bars"] == sorted(screen["bars"])
        await soon(lambda: not self.proxy.open)
        assert [error for error in self.session.errors if not ABOUT_A_STREAM.match(error)] == []


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("firefox")) as address:
        yield address


@pytest.fixture
async def scene(firefox: str, start_server: StartServer) -> AsyncIterator[Scene]:
    arguments = ("--workers", "2", "--port", str(free_port()))  # the same one when it is started again
    server = await asyncio.to_thread(start_server, *arguments, lease_s="3", interval_s="0.2")
    async with Proxy(urlsplit(server.url).port or 0) as proxy, Session.opened(firefox) as session:
        yield Scene(server, proxy, session)


def newer(seq: int, screen: dict[str, Any]) -> bool:
    return bool(screen["seq"] > seq)


def over(job_id: str, screen: dict[str, Any]) -> bool:
    """The end of this job is shown, and at least one frame was drawn."""
    return bool(screen["job"] == job_id and screen["sentence"] and screen["bars"])


async def until(tab: Tab, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first screen, from now on, that passes."""

    async def passing() -> dict[str, Any] | None:
        screen: dict[str, Any] | None = await tab.call(SCREEN)
        return screen if screen is not None and check(screen) else None

    return await soon(passing, PATIENCE_S)


async def test_a_stream_that_is_cut_is_opened_again(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    tab = await scene.open(job)
    before = scene.asked(STREAM)
    await scene.proxy.set(Mode(Trouble.CUT, 300), STREAM)  # in the middle of an event, each time
    await soon(lambda: scene.asked(STREAM) >= before + 2, PATIENCE_S)
    await scene.proxy.set(PASS)
    await scene.live_again(tab)
    await scene.cancelled_in_the_truth(job, tab)


async def test_a_refused_stream_is_made_up_for_by_polls(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    tab = await scene.open(job)
    await scene.proxy.set(Mode(Trouble.ANSWER, answer="503"), STREAM)
    polling = await until(tab, lambda screen: "asking every few seconds" in screen["link"])
    await until(tab, partial(newer, polling["seq"]))
    assert await scene.streams() == 0
    await scene.proxy.set(PASS)
    await scene.live_again(tab)
    await scene.cancelled_in_the_truth(job, tab)


async def test_a_server_that_is_killed_and_started_again(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    tab = await scene.open(job)
    await asyncio.to_thread(scene.server.stop, signal.SIGKILL)
    await until(tab, lambda screen: "No answer from the server" in screen["link"])
    await asyncio.to_thread(scene.server.start)
    await scene.live_again(tab)
    await scene.cancelled_in_the_truth(job, tab)
    short = await scene.submit(6, 0.1)
    await tab.call("(id) => { location.hash = `job=${id}`; }", short["id"])
    await scene.ends_in_the_truth(short, tab)


async def test_three_tabs_share_a_stream_and_hand_it_over(scene: Scene) -> None:
    job = await scene.submit(LONG, 0.3)
    holder = await scene.open(job)  # the first one that is there has it
    others = [await scene.open(job), await scene.open(job)]
    assert await scene.streams() == 1
    before = scene.asked(STREAM)
    await holder.close()
    await soon(lambda: scene.asked(STREAM) > before, PATIENCE_S)
    await scene.live_again(*others)
    assert await scene.streams() == 1
    await scene.cancelled_in_the_truth(job, *others)
