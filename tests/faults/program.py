"""The same schedules for a program: the Python client → proxy → `unstuck serve`, then heal and judge.

What it was told is judged as if it had been shown on a screen. Must not know: browsers.
"""

from __future__ import annotations

import asyncio
import time

from tests.faults.judge import Flaw, Screen, Wrong
from tests.faults.scene import CALM_S, Scene, Verdict, ground, needed
from tests.faults.schedule import Schedule
from tests.faults.stage import Stage
from unstuck.client.client import Client


async def play_program(stage: Stage, schedule: Schedule, slack_s: float = 0.0) -> Verdict:
    """Play it, heal, judge; with so much beyond its bound."""
    screens: list[Screen] = []
    links, bound_s = [""], schedule.bound_s + slack_s

    async def watch(client: Client, job_id: str) -> None:
        async for job in client.watch(job_id, on_link=links.append):
            screens.append(Screen.told(time.time(), job, links[-1]))

    async with ground(stage, schedule.seed, needed(schedule)) as (server, proxy), Client(proxy.url) as client:
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
            unrest = await _unrest(scene, watching)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        truth_s, found = scene.found(bound_s, screens, healed_at, seq)
        return Verdict(schedule, truth_s, (*found, *unrest), tuple(screens))


async def _unrest(scene: Scene, watching: asyncio.Task[None]) -> list[Wrong]:
    """What it threw, asked for after the end, or keeps in flight."""
    if not watching.done():
        return []  # judged as stuck
    if error := watching.exception():
        return [Wrong(Flaw.ERROR, f"the client raised {error!r}")]
    before = len(scene.proxy.asked)
    await asyncio.sleep(CALM_S)
    late = [Wrong(Flaw.ALIVE, f"asked after the end: {one}") for one in scene.proxy.asked[before:]]
    return [*late, *await scene.still_open()]
