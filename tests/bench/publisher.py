"""Publishes events to a server over HTTP: one connection, one POST for each event.

    python -m tests.bench.publisher PORT PATH      (orders on stdin as for broadcast.c)

It runs on the viewers' core, and its cost is not counted.
"""

from __future__ import annotations

import asyncio
import http.client
import sys
from functools import partial

from tests.bench.orders import Publish, pace, read_orders


async def main(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def post(size: int, _number: int) -> None:
        connection.request("POST", path, body='{"pad":"' + "x" * (size - 10) + '"}')
        answer = connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path} answered {answer.status}")

    publishing: asyncio.Task[None] | None = None
    async for order in read_orders():
        asked = Publish.of(order)
        if publishing is not None:
            publishing.cancel()
        publishing = asyncio.create_task(pace(asked, partial(post, asked.size)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
