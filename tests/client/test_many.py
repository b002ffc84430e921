"""A client watches more jobs at once than a connection pool holds by default."""

from __future__ import annotations

import asyncio
from functools import partial

from tests.support.server import Server
from tests.support.waiting import PATIENCE_S, soon
from unstuck.client.client import Client
from unstuck.wire import Job

#: The test takes some ten seconds of processor time.
LONG_S = 4 * PATIENCE_S


async def test_more_watches_than_a_connection_pool_holds(server: Server) -> None:
    """By default httpx allows 100 connections, and a stream that waits for one receives nothing."""
    async with Client(server.url) as client:
        job = await client.submit("rehearsal", total=1, options={"seconds": 600})
        live = [asyncio.Event() for _ in range(110)]

        def on_link(number: int, link: str) -> None:
            if link == "live":
                live[number].set()

        async def watch(number: int) -> Job:
            return [one async for one in client.watch(job["id"], on_link=partial(on_link, number))][-1]

        watching = [asyncio.create_task(watch(number)) for number in range(len(live))]
        await soon(lambda: all(one.is_set() for one in live), LONG_S)
        async with Client(server.url) as another:
            await another.cancel(job["id"])
        ends = await asyncio.wait_for(asyncio.gather(*watching), LONG_S)
    assert {end["state"] for end in ends} == {"cancelled"}
