"""Messages between runner and worker survive whatever user code does to the process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runner.talk import Talk
from tests.support.waiting import soon
from unstuck.kinds.report import REPORT_INTERVAL
from unstuck.runner import protocol


async def test_prints_go_to_the_log(worker: Talk) -> None:
    done = await worker.outcome("print")
    assert done.result == {"stdin": "", "descriptor": ""}
    for text in ('{"type":"done","id":1', "ünïcödé", "to descriptor 1", "to the first stdout", "from a child"):
        assert text in worker.log
    await worker.lives()


async def test_closed_streams_do_not_silence_the_log(worker: Talk) -> None:
    done = await worker.outcome("close_streams")
    assert done.error is not None
    assert "into the log, nevertheless" in done.error.message
    assert "into the log, nevertheless" in worker.log
    await worker.lives()


async def test_items_are_run_in_order(worker: Talk) -> None:
    await worker.send(
        *[
            protocol.Run(
                id=id, kind="behave", name="return", output=str(worker.output(id)), options={"number": id}
            )
            for id in range(300)
        ]
    )
    for id in range(300):
        assert (await worker.done(id)).result == {"number": id}


async def test_each_item_starts_in_the_same_folder(worker: Talk, tmp_path: Path) -> None:
    for id in (1, 2):
        assert (await worker.outcome("chdir", id=id)).result == {"before": str(tmp_path)}


async def test_a_report_is_cut_and_cleaned(worker: Talk) -> None:
    await worker.run("report")
    progress = await worker.progress()
    await worker.send(protocol.Stop(id=1))
    assert progress.fraction == 0.25
    assert progress.message is not None
    assert progress.message.startswith("ab?xxx")
    assert len(progress.message) == protocol.MESSAGE_LIMIT - 1  # the lone surrogate is removed


async def test_a_short_item_sends_only_its_end(worker: Talk) -> None:
    for id in range(1, 21):
        await worker.outcome("passing", id=id)
    assert len(worker.reports) < 20, "only an item that the system paused may have reported"


async def test_the_newest_of_many_reports_arrives_in_the_silence_after_them(worker: Talk) -> None:
    await worker.run("burst", options={"number": 50_000})
    while True:
        progress = await worker.progress()
        if progress.message == "running":
            break
    await worker.send(protocol.Stop(id=1))
    await worker.done()
    assert len(worker.reports) < 5


async def test_few_of_many_reports_are_sent(worker: Talk) -> None:
    done = await worker.outcome("flood " + "x" * 400, options={"number": 500_000})
    assert done.result is not None
    assert 1 <= len(worker.reports) <= done.result["seconds"] / REPORT_INTERVAL + 2


async def test_a_leftover_thread_is_silenced_and_stopped(worker: Talk, tmp_path: Path) -> None:
    note = tmp_path / "note"
    assert (await worker.outcome(f"thread {note}")).state == "succeeded"
    await soon(note.exists)
    await worker.lives()


async def test_process_pools_and_event_loops_work(worker: Talk) -> None:
    assert (await worker.outcome("pool")).result == {"sum": 3}
    assert (await worker.outcome("asyncio", id=2)).result == {"asyncio": "ran"}


@pytest.mark.parametrize("label", ["\n", "\u2028\u2029\x85", "a\x00b", '"}\n{"type":"stop","id":1}', "é" * 10_000])
async def test_labels_of_any_text(worker: Talk, label: str) -> None:
    done = await worker.outcome(label, kind="needs-file", input="/x")
    assert done.result is not None
    assert done.result["label"] == label


@given(st.text(st.characters(), max_size=600), st.integers(1, 500))
def test_fitted_text_can_be_sent(text: str, limit: int) -> None:
    fitted = protocol.fit_text(text, limit)
    assert len(fitted) <= limit
    assert "\0" not in fitted
    line = protocol.encode(protocol.Progress(id=1, message=fitted))
    assert line.count(b"\n") == 1
    assert protocol.decode_for_runner(line) == [protocol.Progress(id=1, message=fitted)]


def test_each_end_accepts_only_messages_meant_for_it() -> None:
    run = protocol.Run(id=1, kind="a", name="b", output="/c", options={"x": None})
    done = protocol.Done(id=1, state="failed", error=protocol.ItemError(code="c", message="m"), result={"a": [1]})
    assert protocol.decode_for_worker(protocol.encode(run, run)) == [run, run]
    assert protocol.decode_for_runner(protocol.encode(done)) == [done]
    with pytest.raises(protocol.MalformedMessageError, match="type"):
        protocol.decode_for_runner(protocol.encode(run))
    with pytest.raises(protocol.MalformedMessageError, match="type"):
        protocol.decode_for_worker(protocol.encode(done))
