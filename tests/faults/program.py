"""Plays one schedule with the Python client → proxy → `unstuck serve`, waits for recovery, and judges.

What the client received is judged as if it had been shown on a screen. It must not know browsers.
See also: browser.py, which does the same with Chromium.
"""

from __future__ import annotations

import asyncio
import time

from tests.faults.judge import Flaw, Screen
from tests.faults.scene import CALM_S, Scene, Verdict, need_of, server_and_proxy
from tests.faults.schedule import Schedule
from tests.faults.stage import Stage
from tests.support.violation import Violation
from unstuck.client.client import Client


async def play_program(stage: Stage, schedule: Schedule, slack_s: float = 0.0) -> Verdict:
    """Play a schedule and judge it, with `slack_s` beyond its bound."""
    screens: list[Screen] = []
    links, bound_s = [""], schedule.bound_s + slack_s

    async def watch(client: Client, job_id: str) -> None:
        async for job in client.watch(job_id, on_link=links.append):
            screens.append(Screen.from_client(time.time(), job, links[-1]))

    async with (
        server_and_proxy(stage, schedule.seed, need_of(schedule)) as (server, proxy),
        Client(proxy.url) as client,
    ):
        scene = Scene(stage, server, proxy)
        await scene.submit(schedule.total, schedule.item_s, schedule.failures, schedule.seed)
        for fault in schedule.early:
            await scene.begin(fault)
        watching = asyncio.create_task(watch(client, scene.job["id"]))
        try:
            healed_at = await scene.play_faults(schedule)
            seq = (await scene.truth())["seq"]
            await scene.until_done()
            await asyncio.wait([watching], timeout=bound_s + 5)
            activity_after_end = await _activity_after_end(scene, watching)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        truth_s, found = scene.found(bound_s, screens, healed_at, seq)
        return Verdict(schedule, truth_s, (*found, *activity_after_end), tuple(screens))


async def _activity_after_end(scene: Scene, watching: asyncio.Task[None]) -> list[Violation]:
    """Return what the client raised, requested after the end, or keeps in flight."""
    if not watching.done():
        return []  # judged as stuck
    if error := watching.exception():
        return [Violation(Flaw.ERROR, f"the client raised {error!r}")]
    before = len(scene.proxy.requests)
    await asyncio.sleep(CALM_S)
    late = [Violation(Flaw.OPEN, f"requested after the end: {one}") for one in scene.proxy.requests[before:]]
    return [*late, *await scene.still_open()]
