"""Bodies that come slowly, stop, or are too many at once; and that ordinary ones are always received."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from unstuck.api import bodies as module
from unstuck.api.bodies import FREE_BYTES, WINDOW_BYTES, Bodies, Body
from unstuck.errors import BodyTooSlow, TooLarge, UploadsFull

REFUSAL = TooLarge("too much for this test")


class Client:
    """Sends these pieces as a body; None is a client that has gone, and after the last one it waits."""

    def __init__(self, *pieces: bytes | None, ends: bool = True) -> None:
        self._pieces = list(pieces)
        self._ends = ends
        self.received = 0

    async def receive(self) -> dict[str, Any]:
        if not self._pieces:
            await asyncio.Event().wait()
        piece = self._pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        self.received += len(piece)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._ends}

    def body(self, bodies: Bodies) -> Body:
        return Body(cast("Request", SimpleNamespace(receive=self.receive, headers=Headers())), bodies)


def untouched(bodies: Bodies) -> bool:
    return (bodies.arriving, bodies.draining, bodies.memory) == (0, 0, module.MEMORY_BYTES)


async def test_a_body_is_read_whole() -> None:
    bodies = Bodies(2)
    with Client(b"a" * FREE_BYTES, b"", b"b" * FREE_BYTES).body(bodies) as body:
        assert await body.read(2 * FREE_BYTES, REFUSAL) == b"a" * FREE_BYTES + b"b" * FREE_BYTES
        assert (bodies.arriving, bodies.memory) == (1, module.MEMORY_BYTES - FREE_BYTES)
    assert untouched(bodies)


@pytest.mark.parametrize("sent", [(), (b"x" * (WINDOW_BYTES * 5),), (b"x",) * 10])
async def test_a_body_that_stops_is_refused(sent: tuple[bytes, ...]) -> None:
    bodies = Bodies(2)
    with pytest.raises(BodyTooSlow), Client(*sent, ends=False).body(bodies) as body:
        async for _ in body.pieces(0.05):
            pass
    assert untouched(bodies)


async def test_a_body_that_drips_is_refused() -> None:
    """Each byte comes in time, but a window brings hardly anything."""

    class Dripping(Client):
        async def receive(self) -> dict[str, Any]:
            await asyncio.sleep(0.001)
            return await super().receive()

    with pytest.raises(BodyTooSlow), Dripping(*[b"x"] * WINDOW_BYTES, ends=False).body(Bodies(1)) as body:
        async for _ in body.pieces(0.1):
            pass


async def test_the_time_that_the_server_takes_does_not_count() -> None:
    with Client(*[b"x"] * 5).body(Bodies(1)) as body:
        count = 0
        async for _ in body.pieces(0.05):
            count += 1
            await asyncio.sleep(0.03)
    assert count == 5


async def test_only_so_many_bodies_arrive_at_once_and_whole_ones_always() -> None:
    bodies = Bodies(2)
    slow = [Client(b"x", ends=False).body(bodies) for _ in range(2)]
    reading = [asyncio.ensure_future(one.read(100, REFUSAL)) for one in slow]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bodies.arriving == 2
    with pytest.raises(UploadsFull), Client(b"x", b"y").body(bodies) as refused:
        await refused.read(100, REFUSAL)
    with Client(b"whole").body(bodies) as whole:
        assert await whole.read(100, REFUSAL) == b"whole"
    for task, one in zip(reading, slow, strict=True):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        one.__exit__()
    assert untouched(bodies)


async def test_bodies_in_memory_are_limited_together() -> None:
    """Forty submissions of 16 MB that never ended took 709 MiB."""
    bodies = Bodies(100)
    piece = b"x" * (1024 * 1024)
    held = [Client(*[piece] * 16, ends=False).body(bodies) for _ in range(5)]
    reading = [asyncio.ensure_future(one.read(2**30, REFUSAL)) for one in held]
    done, pending = await asyncio.wait(reading, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
    (refused,) = done
    assert isinstance(refused.exception(), UploadsFull)
    assert bodies.memory >= 0
    with Client(b"x" * FREE_BYTES, b"").body(bodies) as small:
        await small.read(2 * FREE_BYTES, REFUSAL)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for one in held:
        one.__exit__()
    assert untouched(bodies)


async def test_a_refused_body_is_drained_and_only_so_many_at_once() -> None:
    bodies = Bodies(1)
    client = Client(*[b"x" * 100] * 10)
    with client.body(bodies) as body:
        with pytest.raises(TooLarge):
            await body.read(150, REFUSAL)
        await body.drain()
        assert client.received == 1000
        assert untouched(bodies)
    waits = Client(b"x", ends=False)
    with waits.body(bodies) as first, Client(b"x", b"y").body(bodies) as second:
        draining = asyncio.ensure_future(first.drain())
        await asyncio.sleep(0)
        await second.drain()  # returns at once
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
    assert untouched(bodies)


async def test_a_client_that_goes_gives_its_place_back() -> None:
    bodies = Bodies(1)
    with pytest.raises(ClientDisconnect), Client(b"x" * 100_000, None).body(bodies) as body:
        await body.read(10**6, REFUSAL)
    assert untouched(bodies)
    with Client(b"x", None).body(bodies) as drained:
        await drained.drain()
    assert untouched(bodies)
