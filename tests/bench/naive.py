"""A broadcast with sse-starlette as its README suggests: a queue for each client, an event for each message.

python -m tests.bench.naive PORT        (orders on stdin as for broadcast.c)
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from tests.bench.orders import Publish, pace, read_orders

queues: set[asyncio.Queue[dict[str, Any]]] = set()


async def stream(_: Request) -> EventSourceResponse:
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    queues.add(queue)

    async def events() -> AsyncIterator[dict[str, Any]]:
        try:
            while True:
                message = await queue.get()
                yield {"id": str(message["id"]), "event": "job", "data": json.dumps(message["data"])}
        finally:
            queues.discard(queue)

    return EventSourceResponse(events())


def broadcast(size: int, number: int) -> None:
    for queue in queues:
        queue.put_nowait({"id": number, "data": {"pad": "x" * (size - 10)}})


async def main(port: int) -> None:
    app = Starlette(routes=[Route("/", stream)])
    config = uvicorn.Config(app, port=port, log_level="warning", access_log=False, backlog=4096, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("/\n", flush=True)
    publishing: asyncio.Task[None] | None = None
    async for order in read_orders():
        asked = Publish.of(order)
        if publishing is not None:
            publishing.cancel()
        publishing = asyncio.create_task(pace(asked, partial(broadcast, asked.size)))
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
