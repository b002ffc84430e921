"""How much is done in one turn of the event loop: so many pass in each, the others in the turns that follow.

What needs no waiting (a look at what is in memory) would else be done for all jobs of a commit in a single turn:
500 of them kept the loop from everything else for 150 ms. Knows nothing of what is done.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets `most` pass in each turn, first come, first served."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def mine(self) -> None:
        """Returns at once if there is room in this turn."""
        if self._left == self._most:
            asyncio.get_running_loop().call_soon(self._turn)
        if self._left > 0:
            self._left -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await place

    def _turn(self) -> None:
        """Another turn has begun; whoever is called now runs in the next, which has its own room."""
        self._left = self._most
        called = 0
        while self._waiting and called < self._most:
            place = self._waiting.popleft()
            if not place.done():  # else he was cancelled meanwhile
                place.set_result(None)
                called += 1
        if called:
            self._left -= called
            asyncio.get_running_loop().call_soon(self._turn)
