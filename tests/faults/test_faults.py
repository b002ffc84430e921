"""The fault suite in its short form: each fault alone, some at once, each net alone, and nginx in between.

The long form, with the lengths that outages have, is `scripts/faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults import nginx
from tests.faults.browser import Scene, Stage
from tests.faults.judge import wrongs
from tests.faults.namespaces import missing
from tests.faults.outages import Outage, play_outages
from tests.faults.proxy import PASS, Mode, Trouble
from tests.faults.run import play_all, replay
from tests.faults.schedule import KINDS, SHORT, draw
from tests.faults.wire import POLL, STREAM

pytestmark = [pytest.mark.browser, pytest.mark.faults]

LANES = 8
SOME = 5
REFUSED = Mode(Trouble.ANSWER, answer="503")

#: What is left alone to find the truth, and what is done to the others from the start to the end. (The third
#: net, the server's own comparison at each heartbeat, has its tests with the hub.)
NETS = [
    ("polls, streams refused", STREAM, REFUSED),
    ("polls, streams silent", STREAM, Mode(Trouble.BLACK_HOLE)),
    ("the stream, polls refused", POLL, REFUSED),
    ("the stream, polls silent", POLL, Mode(Trouble.BLACK_HOLE)),
    ("heartbeats, which tell that something was missed", STREAM, Mode(Trouble.BEATS_ONLY)),
]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Stage.raised(tmp_path) as one:
        yield one


async def until_over(scene: Scene) -> None:
    """The dialog shows the end, and the right one; then it is silent."""
    await scene.until(lambda screen: bool(screen.sentence))
    assert wrongs(await scene.dialog.screens(), await scene.truth()) == []
    assert await scene.unrest() == []
    assert scene.dialog.errors == []


async def test_each_fault_alone_and_some_at_once(stage: Stage) -> None:
    alone = [draw(1, SHORT, kind) for kind in KINDS]
    at_once = [draw(seed, SHORT) for seed in range(1, SOME + 1)]
    verdicts = await play_all(stage, [*alone, *at_once], LANES, lambda _: None)
    told = [
        "\n  ".join((str(one.schedule), *one.wrongs, f"play it again: {replay(one.schedule, short=True)}"))
        for one in verdicts
        if one.wrongs
    ]
    assert not told, "\n".join(told)


async def test_each_net_alone_for_good(stage: Stage) -> None:
    async def alone(path: str, mode: Mode) -> None:
        async with Scene.set_up(stage, seed=1) as scene:
            await scene.submit(total=8, item_s=0.5, failures=0.3)
            await scene.proxy.set(mode, path)
            await scene.open()
            await until_over(scene)

    async with asyncio.TaskGroup() as group:
        for name, path, mode in NETS:
            group.create_task(alone(path, mode), name=name)


async def test_back_from_polling_to_the_stream(stage: Stage) -> None:
    async with Scene.set_up(stage, seed=1) as scene:
        await scene.submit(total=200, item_s=1)
        await scene.proxy.set(REFUSED, STREAM)
        await scene.open()
        await scene.until(lambda screen: "asking every few seconds" in screen.link and (screen.bar or 0) > 0)
        await scene.proxy.set(PASS, STREAM)
        await scene.until(lambda screen: screen.link == "Live")
        await scene.cancel()
        await until_over(scene)


@pytest.mark.skipif(nginx.executable() is None, reason="needs nginx: apt-get install nginx-light")
async def test_nginx_that_buffers_and_compresses_streams(stage: Stage) -> None:
    async with Scene.set_up(stage, seed=1, front=nginx.buffering) as scene:
        await scene.submit(total=10, item_s=1)
        await scene.open()
        await until_over(scene)
        links = {screen.link for screen in await scene.dialog.screens()}
        assert "Live" not in links, "nginx let the stream through, so this proved nothing"


def test_a_real_network_that_goes_down() -> None:
    if reason := missing():
        pytest.skip(reason)
    ((_, truth_s, wrong),) = play_outages([Outage(5)], lambda _: None)
    assert wrong == []
    assert truth_s is not None
