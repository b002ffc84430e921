"""So many in each turn of the loop, in the order in which they came."""

from __future__ import annotations

import asyncio

import pytest

from unstuck.streaming.loop_budget import Turns


async def test_no_turn_has_more_than_it_may_and_no_caller_is_forgotten() -> None:
    turns, turn, passed = Turns(3), 0, []

    async def one(number: int) -> None:
        await turns.mine()
        passed.append((turn, number))

    tasks = [asyncio.create_task(one(number)) for number in range(20)]
    tasks[9].cancel()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turn += 1
        tasks += [asyncio.create_task(one(100 + turn))] if turn < 4 else []  # who comes later waits behind them
    assert sorted(number for _, number in passed) == [*range(9), *range(10, 20), 101, 102, 103]
    assert [number for _, number in passed] == sorted(number for _, number in passed)
    of_each = [sum(at == one for at, _ in passed) for one in range(turn)]
    assert max(of_each) == 3
    await turns.mine()
    assert not turns._waiting


async def test_a_single_caller_never_waits() -> None:
    turns = Turns(1)
    for _ in range(3):
        await asyncio.wait_for(turns.mine(), 30.0)
        await asyncio.sleep(0)
    with pytest.raises(StopIteration):
        turns.mine().send(None)  # as a task's first step: it ends there
