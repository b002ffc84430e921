"""Test the product against faults, in short: each fault alone, some at once, and some special scenes.

The scenes cover each safety net by itself, many tabs, the Python client, and nginx. They mostly wait, so all are
played at once, each behind its own proxy, and the tests report their outcomes. The bounds are those of the
policy and a minute more, since this runs on busy machines. The long form, with the real bounds, is
`scripts/faults`.
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
from tests.faults.judge import violations
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

#: The only safety net that works, and the fault that disables the others from start to end.
NETS = [
    ("polls, streams refused", STREAM, REFUSED),
    ("polls, streams silent", STREAM, Mode(Trouble.BLACK_HOLE)),
    ("the stream, polls refused", POLL, REFUSED),
    ("the stream, polls silent", POLL, Mode(Trouble.BLACK_HOLE)),
    ("heartbeats, which tell that something was missed", STREAM, Mode(Trouble.HEARTBEATS_ONLY)),
]


async def until_ended(scene: BrowserScene) -> None:
    """Wait until the dialog shows the end, and check that it is right and that nothing happens after it."""
    await scene.until(lambda screen: bool(screen.sentence), PATIENCE_S)
    assert violations(await scene.dialog.screens(), await scene.truth()) == []
    assert await scene.activity_after_end() == []
    assert scene.dialog.errors == []


async def assert_no_violations(stage: Stage, schedules: list[Schedule]) -> None:
    verdicts = await play_all(stage, schedules, LANES, lambda _: None, slack_s=SLACK_S)
    assert len(verdicts) == len(schedules)
    failures = [
        "\n  ".join((str(one.schedule), *one.violations, f"play it again: {replay(one.schedule, short=True)}"))
        for one in verdicts
        if one.violations
    ]
    assert not failures, "\n".join(failures)


async def each_fault_alone_and_some_at_once(stage: Stage) -> None:
    alone = [draw(1, SHORT, kind) for kind in KINDS]
    at_once = [draw(seed, SHORT) for seed in range(1, SOME + 1)]
    programs = [draw(1, SHORT, kind, program=True) for kind in FOR_PROGRAMS]
    await assert_no_violations(stage, [*alone, *at_once, *programs])


async def each_safety_net_alone(stage: Stage) -> None:
    async def alone(path: str, mode: Mode) -> None:
        async with BrowserScene.set_up(stage) as scene:
            await scene.submit(total=8, item_s=0.5, failures=0.3)
            await scene.proxy.set(mode, path)
            await scene.open()
            await until_ended(scene)

    async with asyncio.TaskGroup() as group:
        for name, path, mode in NETS:
            group.create_task(alone(path, mode), name=name)


async def the_servers_comparison_alone(stage: Stage) -> None:
    """Let the heartbeat's comparison alone bring changes: commits do not reach the hub, and polls are refused."""
    async with BrowserScene.set_up(stage, need=Need(heartbeat_s=2, breakable=True)) as scene:
        assert isinstance(scene.server, BreakableServer)
        await scene.submit(total=30, item_s=0.5, failures=0.3)  # it must not end before the page is open
        await scene.proxy.set(REFUSED, POLL)
        scene.server.break_(Breakage.DEAF)
        await scene.open()
        await until_ended(scene)
        streams = (await asyncio.to_thread(scene.server.get, "/api/health"))["streams"]
        assert streams["rescues"] > 0, f"something else brought the changes, so this proved nothing: {streams}"
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
        await until_ended(scene)


async def twelve_tabs_of_one_browser_in_trouble(stage: Stage) -> None:
    """HTTP/1.1 allows six connections for all tabs together, and a request that hangs keeps one."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        profile = scene.dialog.tab.profile
        others = [await Dialog.load(stage.browser, scene.proxy.url, profile) for _ in range(TABS - 1)]
        tabs = [scene.dialog, *others]
        for tab in tabs:
            await tab.open(scene.job["links"]["self"])
        await soon_live(tabs)
        await soon(lambda: [one.path for one in scene.proxy.open].count(STREAM) == 1, PATIENCE_S)
        for mode in (Mode(Trouble.RESET), REFUSED, Mode(Trouble.HALF_OPEN)):
            before = len(scene.proxy.requests)
            await scene.proxy.set(mode)
            await soon(partial(scene.proxy.has_received, before + 1))
        await scene.cancel()
        await scene.until_done()
        await scene.proxy.set(PASS)
        for tab in tabs:
            await soon(tab.ended, PATIENCE_S)
        for tab in tabs:
            assert violations(await tab.screens(), await scene.truth()) == []
            assert (await tab.leftovers(), tab.errors) == ([], [])
        assert await scene.still_open() == []


async def soon_live(tabs: list[Dialog]) -> None:
    for tab in tabs:
        await soon(tab.live, PATIENCE_S)


async def leftovers_in_the_page_are_noticed(stage: Stage) -> None:
    """Check that the judge notices what is still open after the end."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=2, item_s=0.1)
        await scene.open()
        await until_ended(scene)
        await scene.dialog.tab.call(
            """(url) => {
              new EventSource(url);
              setInterval(() => {}, 1234);
              navigator.locks.request("mine", () => new Promise(() => {}));
            }""",
            "/api/events/stream",
        )
        leftovers = " ".join(await scene.dialog.leftovers())
        for part in (
            "later it started",
            "a timer of 1234 ms",
            "it holds the lock mine",
            "it holds a stream of http",
        ):
            assert part in leftovers
        await soon(lambda: [one.path for one in scene.proxy.open] == [STREAM])


async def nginx_that_buffers_and_compresses_streams(stage: Stage) -> None:
    async with BrowserScene.set_up(stage, relay=nginx.buffering) as scene:
        await scene.submit(total=10, item_s=1)
        await scene.open()
        await until_ended(scene)
        links = {screen.link for screen in await scene.dialog.screens()}
        assert "Live" not in links, "nginx let the stream through, so this proved nothing"


async def the_retry_field_of_the_server_is_ignored(stage: Stage) -> None:
    """Chromium itself would reconnect nine times a second, or after three years."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        for answer, times in (("0", 4), ("99999999999", 1)):
            await scene.proxy.set(Mode(Trouble.RETRY, 300, answer), STREAM)
            before, since = len(scene.proxy.requests), time.monotonic()

            def came_back(before: int = before, times: int = times) -> bool:
                return [one.path for one in scene.proxy.requests[before:]].count(STREAM) >= times

            await soon(came_back, PATIENCE_S)
            assert time.monotonic() - since > 0.4 * times, "the policy waits at least half a second before each"
        await scene.cancel()
        await scene.proxy.set(PASS)
        await until_ended(scene)


async def a_service_worker_takes_the_requests_it_should(stage: Stage) -> None:
    """Check that a play with a service worker is not one without."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.dialog.set_service_worker(service_worker.address(service_worker.Behaviour.ANSWERS, BOTH))
        await scene.open()
        await scene.until(lambda screen: "503" in screen.link or "trouble" in screen.link, PATIENCE_S)
        assert {one.path for one in scene.proxy.requests} == {OTHER}
        await scene.dialog.set_service_worker(service_worker.address("nothing", ()))
        await scene.until(lambda screen: screen.link == "Live", PATIENCE_S)
        await scene.cancel()
        await until_ended(scene)


async def assert_no_violations_in(play: Play, stage: Stage) -> None:
    failures = [
        f"{result.what}: {result.violations}" for result in await play(stage, SLACK_S) if result.violations
    ]
    assert not failures, "\n".join(failures)


async def http2(stage: Stage) -> None:
    await assert_no_violations_in(http2_on_one_connection, stage)


async def hidden_and_throttled_pages(stage: Stage) -> None:
    await assert_no_violations_in(hidden_and_throttled, stage)


async def one_of_two_tabs_hanging(stage: Stage) -> None:
    await assert_no_violations_in(one_of_two_tabs_hangs, stage)


Act = Callable[[Stage], Awaitable[None]]
ACTS: list[Act] = [
    each_fault_alone_and_some_at_once,
    each_safety_net_alone,
    the_servers_comparison_alone,
    back_from_polling_to_the_stream,
    twelve_tabs_of_one_browser_in_trouble,
    leftovers_in_the_page_are_noticed,
    nginx_that_buffers_and_compresses_streams,
    the_retry_field_of_the_server_is_ignored,
    a_service_worker_takes_the_requests_it_should,
    http2,
    hidden_and_throttled_pages,
    one_of_two_tabs_hanging,
]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, BaseException | None]:
    """Play the acts of the selected tests, and return the exception of each by name, or None."""
    names = {
        item.callspec.id
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_it_ends_in_the_truth"
        if not any(mark.args[0] for mark in item.iter_markers("skipif"))
    }
    acts = [act for act in ACTS if act.__name__ in names]

    async def play(folder: Path) -> list[BaseException | None]:
        async with Stage.set_up(folder) as stage:
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
