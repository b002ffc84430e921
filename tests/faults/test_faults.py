"""The fault suite in its short form: each fault alone, some at once, each net alone, many tabs, the Python client,
and nginx in between.

Nearly all of its time is waiting, so all acts are played at once, each behind a proxy of its own, and the tests
tell what became of them. How long the truth may take are the policy's bounds, and a minute more: this runs on
machines that are busy with other things. The long form, on time, is `scripts/faults`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.faults import nginx, service_worker
from tests.faults.breakable import Breakage
from tests.faults.browser import BrowserScene
from tests.faults.judge import wrongs
from tests.faults.page import Dialog
from tests.faults.plays import Play, hidden_and_throttled, http2_on_one_connection, one_of_two_tabs_hangs
from tests.faults.proxy import BOTH, PASS, Mode, Trouble
from tests.faults.run import play_all, replay
from tests.faults.schedule import FOR_PROGRAMS, KINDS, LONGEST_S, SHORT, Schedule, draw
from tests.faults.stage import BreakableServer, Need, Stage
from tests.faults.wire import OTHER, POLL, STREAM
from tests.support.machine import needs
from tests.support.waiting import soon

pytestmark = [pytest.mark.browser, pytest.mark.alone]

LANES = 10
SOME = 5
TABS = 12
#: Beyond the policy's bounds.
SLACK_S = 60.0
PATIENCE_S = LONGEST_S + SLACK_S
REFUSED = Mode(Trouble.ANSWER, answer="503")

#: What is left alone to find the truth, and what is done to the others from the start to the end.
NETS = [
    ("polls, streams refused", STREAM, REFUSED),
    ("polls, streams silent", STREAM, Mode(Trouble.BLACK_HOLE)),
    ("the stream, polls refused", POLL, REFUSED),
    ("the stream, polls silent", POLL, Mode(Trouble.BLACK_HOLE)),
    ("heartbeats, which tell that something was missed", STREAM, Mode(Trouble.BEATS_ONLY)),
]


async def until_over(scene: BrowserScene) -> None:
    """The dialog shows the end, and the right one; then it is silent."""
    await scene.until(lambda screen: bool(screen.sentence), PATIENCE_S)
    assert wrongs(await scene.dialog.screens(), await scene.truth()) == []
    assert await scene.unrest() == []
    assert scene.dialog.errors == []


async def all_right(stage: Stage, schedules: list[Schedule]) -> None:
    verdicts = await play_all(stage, schedules, LANES, lambda _: None, slack_s=SLACK_S)
    assert len(verdicts) == len(schedules)
    told = [
        "\n  ".join((str(one.schedule), *one.wrongs, f"play it again: {replay(one.schedule, short=True)}"))
        for one in verdicts
        if one.wrongs
    ]
    assert not told, "\n".join(told)


async def each_fault_alone_and_some_at_once(stage: Stage) -> None:
    alone = [draw(1, SHORT, kind) for kind in KINDS]
    at_once = [draw(seed, SHORT) for seed in range(1, SOME + 1)]
    programs = [draw(1, SHORT, kind, program=True) for kind in FOR_PROGRAMS]
    await all_right(stage, [*alone, *at_once, *programs])


async def each_net_alone_for_good(stage: Stage) -> None:
    async def alone(path: str, mode: Mode) -> None:
        async with BrowserScene.set_up(stage) as scene:
            await scene.submit(total=8, item_s=0.5, failures=0.3)
            await scene.proxy.set(mode, path)
            await scene.open()
            await until_over(scene)

    async with asyncio.TaskGroup() as group:
        for name, path, mode in NETS:
            group.create_task(alone(path, mode), name=name)


async def the_servers_comparison_alone(stage: Stage) -> None:
    """Nobody hears of a change, and nobody can ask: what the heartbeat finds lacking is all that comes."""
    async with BrowserScene.set_up(stage, need=Need(heartbeat_s=2, breakable=True)) as scene:
        assert isinstance(scene.server, BreakableServer)
        await scene.submit(total=30, item_s=0.5, failures=0.3)  # it must not be over before the page is open
        await scene.proxy.set(REFUSED, POLL)
        scene.server.break_(Breakage.DEAF)
        await scene.open()
        await until_over(scene)
        streams = (await asyncio.to_thread(scene.server.get, "/api/health"))["streams"]
        assert streams["rescues"] > 0, f"something else brought the news, so this proved nothing: {streams}"
        scene.server.mend()


async def back_from_polling_to_the_stream(stage: Stage) -> None:
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=200, item_s=1)
        await scene.proxy.set(REFUSED, STREAM)
        await scene.open()
        polling = "checking every few seconds"
        await scene.until(lambda screen: polling in screen.link and (screen.bar or 0) > 0, PATIENCE_S)
        await scene.proxy.set(PASS, STREAM)
        await scene.until(lambda screen: screen.link == "Live", PATIENCE_S)
        await scene.cancel()
        await until_over(scene)


async def twelve_tabs_of_one_browser_in_trouble(stage: Stage) -> None:
    """HTTP/1.1 has six connections for all of them, and what hangs keeps its own."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        profile = scene.dialog.tab.profile
        others = [await Dialog.load(stage.browser, scene.proxy.url, profile) for _ in range(TABS - 1)]
        tabs = [scene.dialog, *others]
        for tab in tabs:
            await tab.open(scene.job["links"]["self"])
        await soon_live(tabs)
        assert [one.path for one in scene.proxy.open].count(STREAM) == 1
        for mode in (Mode(Trouble.RESET), REFUSED, Mode(Trouble.HALF_OPEN)):
            before = len(scene.proxy.asked)
            await scene.proxy.set(mode)
            await soon(partial(scene.proxy.was_asked, before + 1))
        await scene.cancel()
        await scene.until_done()
        await scene.proxy.set(PASS)
        for tab in tabs:
            await soon(tab.ended, PATIENCE_S)
        for tab in tabs:
            assert wrongs(await tab.screens(), await scene.truth()) == []
            assert (await tab.holds(), tab.errors) == ([], [])
        assert await scene.still_open() == []


async def soon_live(tabs: list[Dialog]) -> None:
    for tab in tabs:
        await soon(tab.live, PATIENCE_S)


async def what_a_page_still_holds_is_seen(stage: Stage) -> None:
    """Without this the judge of what is alive after the end might be blind."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=2, item_s=0.1)
        await scene.open()
        await until_over(scene)
        await scene.dialog.tab.call(
            """(url) => {
              new EventSource(url);
              setInterval(() => {}, 1234);
              navigator.locks.request("mine", () => new Promise(() => {}));
            }""",
            "/api/events/stream",
        )
        holds = " ".join(await scene.dialog.holds())
        for part in ("it asked", "it holds a timer of 1234 ms", "it holds the lock mine", "it holds http"):
            assert part in holds
        await soon(lambda: [one.path for one in scene.proxy.open] == [STREAM])


async def nginx_that_buffers_and_compresses_streams(stage: Stage) -> None:
    async with BrowserScene.set_up(stage, front=nginx.buffering) as scene:
        await scene.submit(total=10, item_s=1)
        await scene.open()
        await until_over(scene)
        links = {screen.link for screen in await scene.dialog.screens()}
        assert "Live" not in links, "nginx let the stream through, so this proved nothing"


async def what_the_server_says_of_retries_is_not_the_pace(stage: Stage) -> None:
    """Chromium itself would come back nine times in a second, or not before three years are over."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        for answer, times in (("0", 4), ("99999999999", 1)):
            await scene.proxy.set(Mode(Trouble.RETRY, 300, answer), STREAM)
            before, since = len(scene.proxy.asked), time.monotonic()

            def came_back(before: int = before, times: int = times) -> bool:
                return [one.path for one in scene.proxy.asked[before:]].count(STREAM) >= times

            await soon(came_back, PATIENCE_S)
            assert time.monotonic() - since > 0.4 * times, "the policy lets half a second pass before each"
        await scene.cancel()
        await scene.proxy.set(PASS)
        await until_over(scene)


async def a_service_worker_has_the_requests_that_it_is_told_to(stage: Stage) -> None:
    """Without this, plays with one might be plays without one."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.dialog.put_under(service_worker.address(service_worker.Does.ANSWERS, BOTH))
        await scene.open()
        await scene.until(lambda screen: "503" in screen.link or "trouble" in screen.link, PATIENCE_S)
        assert {one.path for one in scene.proxy.asked} == {OTHER}
        await scene.dialog.put_under(service_worker.address("nothing", ()))
        await scene.until(lambda screen: screen.link == "Live", PATIENCE_S)
        await scene.cancel()
        await until_over(scene)


async def named(play: Play, stage: Stage) -> None:
    wrong = [f"{result.what}: {result.wrongs}" for result in await play(stage, SLACK_S) if result.wrongs]
    assert not wrong, "\n".join(wrong)


async def http2(stage: Stage) -> None:
    await named(http2_on_one_connection, stage)


async def pages_that_are_hidden_and_throttled(stage: Stage) -> None:
    await named(hidden_and_throttled, stage)


async def two_tabs_of_which_one_hangs(stage: Stage) -> None:
    await named(one_of_two_tabs_hangs, stage)


Act = Callable[[Stage], Awaitable[None]]
ACTS: list[Act] = [
    each_fault_alone_and_some_at_once,
    each_net_alone_for_good,
    the_servers_comparison_alone,
    back_from_polling_to_the_stream,
    twelve_tabs_of_one_browser_in_trouble,
    what_a_page_still_holds_is_seen,
    nginx_that_buffers_and_compresses_streams,
    what_the_server_says_of_retries_is_not_the_pace,
    a_service_worker_has_the_requests_that_it_is_told_to,
    http2,
    pages_that_are_hidden_and_throttled,
    two_tabs_of_which_one_hangs,
]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, BaseException | None]:
    """What became of the acts that were asked for, by name: None where all was right."""
    names = {
        item.callspec.id
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_it_ends_in_the_truth"
        if not any(mark.args[0] for mark in item.iter_markers("skipif"))
    }
    acts = [act for act in ACTS if act.__name__ in names]

    async def play(folder: Path) -> list[BaseException | None]:
        async with Stage.raised(folder) as stage:
            return await asyncio.gather(*(act(stage) for act in acts), return_exceptions=True)

    with tempfile.TemporaryDirectory() as name:
        found = asyncio.run(play(Path(name)))
    return {act.__name__: outcome for act, outcome in zip(acts, found, strict=True)}


BEHIND_NGINX = (nginx_that_buffers_and_compresses_streams, http2)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(act, id=act.__name__, marks=[needs("nginx", "nginx-light")] if act in BEHIND_NGINX else [])
        for act in ACTS
    ],
)
def test_it_ends_in_the_truth(act: Act, outcomes: dict[str, BaseException | None]) -> None:
    if outcome := outcomes[act.__name__]:
        raise outcome
