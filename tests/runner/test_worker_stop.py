"""Stops, and the end of the runner: no process is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner.talk import Start, Talk
from tests.support.processes import alive, all_dead
from tests.support.waiting import PATIENCE_S, eventually, soon
from unstuck.runner import protocol

CANCELLED = protocol.Done(id=1, state="cancelled")


@pytest.mark.parametrize("name", ["stop", "burn", "swallow"])
async def test_the_running_item_is_stopped(worker: Talk, name: str) -> None:
    await worker.run(name)
    if name != "stop":
        await worker.receive()
    await worker.send(protocol.Stop(id=1))
    assert await worker.done() == CANCELLED
    await worker.lives()


async def test_an_exception_while_stopping_is_in_the_log(worker: Talk) -> None:
    await worker.run("swallow")
    await worker.progress()
    await worker.send(protocol.Stop(id=1))
    assert await worker.done() == CANCELLED
    assert "ValueError: in the middle" in worker.log


async def test_the_code_may_clean_up(worker: Talk, tmp_path: Path) -> None:
    note = tmp_path / "note"
    await worker.run(f"clean_up {note}")
    await worker.progress()
    await worker.send(protocol.Stop(id=1))
    assert await worker.done() == CANCELLED
    assert note.read_text() == "cleaned up"


async def test_an_item_that_ends_despite_a_stop_keeps_its_outcome(worker: Talk) -> None:
    await worker.run("look")
    await worker.progress()
    await worker.send(protocol.Stop(id=1))
    assert await worker.done() == protocol.Done(id=1, state="succeeded", result={"done": "anyway"})
    await worker.run("skip_when_stopped", id=2)
    await worker.progress()
    await worker.send(protocol.Stop(id=2))
    assert await worker.done(2) == protocol.Done(id=2, state="skipped", message="enough")


async def test_a_waiting_item_is_stopped_before_it_begins(worker: Talk, tmp_path: Path) -> None:
    await worker.run("stop", id=1)
    await worker.run(f"clean_up {tmp_path / 'note'}", id=2)
    await worker.send(protocol.Stop(id=2), protocol.Stop(id=1))
    assert await worker.done(1) == CANCELLED
    assert await worker.done(2) == protocol.Done(id=2, state="cancelled")
    assert not (tmp_path / "note").exists()
    assert not worker.output(2).exists()


async def test_a_waiting_item_can_be_recalled_while_another_runs(worker: Talk, tmp_path: Path) -> None:
    await worker.run("stop", id=1)
    assert (await worker.progress()).id == 1, "the first item has begun"
    await worker.run(f"clean_up {tmp_path / 'note'}", id=2)
    await worker.run("return", id=3)
    await worker.send(protocol.Recall(id=2), protocol.Recall(id=1), protocol.Recall(id=77))
    while not isinstance(said := await worker.receive(), protocol.Returned):
        assert isinstance(said, protocol.Progress), "the first item continues"
        assert said.id == 1
    assert said.id == 2
    await worker.send(protocol.Stop(id=2), protocol.Stop(id=1))
    assert await worker.done(1) == CANCELLED
    assert (await worker.done(3)).state == "succeeded"
    assert not (tmp_path / "note").exists()


async def test_stops_for_ended_or_unknown_items_are_ignored(worker: Talk) -> None:
    await worker.outcome("none")
    await worker.send(protocol.Stop(id=1), protocol.Stop(id=77))
    await worker.lives()
    assert (await worker.outcome("none", id=1)).state == "succeeded"


async def test_a_command_is_stopped_with_its_children(start: Start, tmp_path: Path) -> None:
    worker = await start("--command", "long=sh -c 'sleep 1000 & echo $! $$; wait'")
    await worker.receive()
    await worker.run("a", kind="long")
    pids = [int(pid) for pid in (await _message(worker)).split()]
    await worker.send(protocol.Stop(id=1))
    assert await worker.done() == CANCELLED
    await soon(lambda: all_dead(pids))


async def test_a_worker_and_its_children_end_with_the_runner(worker: Talk) -> None:
    await worker.run("grandchild")
    grandchild = int(await _message(worker))
    assert alive(grandchild)
    worker.hang_up()
    assert await worker.exit_code() == -9
    await soon(lambda: not alive(grandchild))


@pytest.mark.parametrize("end", ["hang up", "kill"])
async def test_a_command_does_not_outlive_its_worker(start: Start, end: str) -> None:
    """The command has its own process group, so killing the worker's is not enough."""
    worker = await start("--command", "long=sh -c 'trap \"\" TERM HUP; sleep 1000 & echo $! $$; wait'")
    await worker.receive()
    await worker.run("a", kind="long")
    pids = [int(pid) for pid in (await _message(worker)).split()]
    if end == "hang up":
        worker.hang_up()
    else:
        worker.process.kill()
    await worker.exit_code()
    await soon(lambda: all_dead(pids))


async def test_an_idle_worker_ends_with_its_runner(worker: Talk) -> None:
    worker.hang_up()
    await worker.exit_code()


async def test_a_runner_that_dies_in_the_middle_of_a_message(worker: Talk) -> None:
    await worker.write(b'{"type":"run","id":1,"kind":"beha')
    worker.hang_up()
    assert await worker.exit_code() == -9
    assert "is not a message" not in worker.log


def test_a_worker_blocked_on_its_pipe_ends_with_its_runner(tmp_path: Path) -> None:
    """The worker is blocked in the middle of a message when its runner closes the pipes."""
    command = [sys.executable, "-m", "unstuck.runner.worker"]
    load = protocol.Load(app=str(Path(__file__).with_name("behaviour.py")))
    runs = [
        protocol.Run(
            id=id, kind="behave", name="large", output=str(tmp_path / str(id)), options={"number": 60_000}
        )
        for id in range(5)
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(protocol.encode(load, *runs))
        process.stdin.flush()
        eventually((tmp_path / "1").exists)  # the second answer does not fit into the pipe of 64 KiB
        process.stdin.close()
        assert process.wait(PATIENCE_S) == -9


async def _message(worker: Talk) -> str:
    while True:
        progress = await worker.progress()
        if progress.message:
            return progress.message
