"""Outages of a real network, as TCP and the browser live through them: a router between two namespaces drops
what it should forward, while a job ends behind it. Must not know: proxies, schedules.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.conftest import Server
from tests.faults.browser import Stage
from tests.faults.judge import time_to_truth, wrongs
from tests.faults.namespaces import Router
from tests.faults.page import Dialog
from tests.faults.schedule import LONGEST_S


@dataclass(frozen=True, slots=True)
class Outage:
    seconds: float
    only_answers: bool = False  # what the client sends arrives, and is never answered
    share: float = 1.0  # of the packets that are lost

    def __str__(self) -> str:
        way = "answers lost" if self.only_answers else "network down"
        return f"{way if self.share == 1 else f'{self.share:.0%} lost'} for {self.seconds:g} s"


#: Beyond 100 s, TCP's own pauses are longer than a minute; shorter ones do not show what that does.
LONG = (Outage(5), Outage(30), Outage(30, only_answers=True), Outage(60, share=0.3), Outage(120))

Result = tuple[Outage, float | None, list[str]]


def play_outages(outages: Sequence[Outage], tell: Callable[[Result], None]) -> list[Result]:
    """One after the other, over the same network; needs root."""
    with Router.routed() as router, tempfile.TemporaryDirectory() as name:
        server = Server(
            Path(name) / "data", "--workers", "2", "--host", router.server, "--allowed-host", router.server
        )
        try:
            router.at_the_server(server.start)

            async def run() -> list[Result]:
                results = []
                async with Stage.raised(Path(name)) as stage:
                    for outage in outages:
                        results.append(await _play(stage, router, server, outage))
                        tell(results[-1])
                return results

            return asyncio.run(run())
        finally:
            server.stop()


async def _play(stage: Stage, router: Router, server: Server, outage: Outage) -> Result:
    dialog = await Dialog.load(stage.browser, server.url)
    try:
        # It begins before the outage and ends in the middle of it.
        options = {"seconds": 2 + outage.seconds / 4}
        job = await asyncio.to_thread(server.submit, "rehearsal", total=4, options=options)
        await dialog.open(job["links"]["self"])
        await _until(dialog, lambda seq: seq > job["seq"])
        router.drop(only_answers=outage.only_answers, share=outage.share)
        await asyncio.sleep(outage.seconds)
        router.heal()
        healed_at = time.time()
        await _until(dialog, lambda seq: False)
        truth = await asyncio.to_thread(server.until_done, job["id"])
        screens = await dialog.screens()
        found = wrongs(screens, truth) + dialog.errors
        ended = datetime.fromisoformat(truth["finished_at"]).timestamp()
        truth_s = time_to_truth(screens, healed_at, truth["seq"], max(healed_at, ended))
        if truth_s is not None and truth_s > LONGEST_S:
            found.append(f"the truth came after {truth_s:.1f} s")
        return outage, truth_s, found
    finally:
        await dialog.close()


async def _until(dialog: Dialog, check: Callable[[int], bool]) -> None:
    """Until a screen passes, or the end is shown, or more time has gone than either may take."""
    given_up = time.monotonic() + LONGEST_S + 15
    while time.monotonic() < given_up:
        screens = await dialog.screens()
        if screens and (screens[-1].sentence or check(screens[-1].seq)):
            return
        await asyncio.sleep(0.1)
