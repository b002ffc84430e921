"""Every way in which a kind's code can end, and what the worker reports to the runner."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.runner.talk import Start, Talk
from tests.support.waiting import soon
from unstuck.runner import protocol


async def test_a_dict_is_the_result(worker: Talk) -> None:
    done = await worker.outcome("return", options={"number": 5})
    assert done == protocol.Done(id=1, state="succeeded", result={"number": 5})


async def test_nothing_is_a_success(worker: Talk) -> None:
    assert await worker.outcome("none") == protocol.Done(id=1, state="succeeded")


async def test_a_path_is_the_result_file(worker: Talk) -> None:
    assert (await worker.outcome("file my report.txt")).file == "my report.txt"
    assert (worker.output(1) / "my report.txt").read_text() == "made"
    assert (await worker.outcome("relative", id=2)).file == "here.txt"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "OUT",
        "OUT/folder",
        "OUT/folder/inner",
        "OUT/link",
        "OUT/pipe",
        "OUT/missing",
        "OUT/../1/folder",
    ],
)
async def test_paths_that_are_not_result_files(worker: Talk, path: str) -> None:
    done = await worker.outcome(f"path {path}")
    assert done.file is None
    assert done.error is not None
    assert done.error.code == "bad_result_file"
    assert not done.error.transient


async def test_a_file_name_that_is_not_text(worker: Talk, tmp_path: Path) -> None:
    done = await worker.outcome("path OUT/\\udcff")  # JSON escapes it, so the label has the surrogate
    assert done.state == "failed"


async def test_any_json_value_is_a_result(worker: Talk) -> None:
    """A value has the form that msgspec gives it."""
    results = {
        "integer": 5, "zero": 0, "text": "text", "nothing": "", "list": [1], "tree": [{"a": [True, None, 1.5]}],
        "false": False, "date": {"day": "2024-02-29"}, "set": [7], "record": {"mean": 1.5}, "large": 2**70,
        "null": {"it": None, "them": [None]},
    }  # fmt: skip
    for odd, result in results.items():
        assert await worker.outcome(f"odd {odd}") == protocol.Done(id=1, state="succeeded", result=result)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ("object", "cannot be written as JSON at result['it']: Encoding objects of type object is unsupported"),
        ("surrogate", "cannot be written as JSON at result['it']"),
        ("keys", "cannot be written as JSON: Only dicts with str-like"),
        ("loop", "cannot be written as JSON"),
        ("nan", "has a number at result['it'] that is not finite"),
        ("infinite", "has a number at result['means'][1]['top'] that is not finite"),
        ("nan record", "has a number at result[0]['mean'] that is not finite"),
        ("nan alone", "has a number at result that is not finite"),
        ("coroutine", "is a coroutine: call asyncio.run(…)"),
        ("generator", "is a generator: call"),
    ],
)
async def test_results_that_are_no_json(worker: Talk, odd: str, why: str) -> None:
    done = await worker.outcome(f"odd {odd}")
    assert done.error is not None
    assert done.error.code == "bad_result"
    assert done.error.message.startswith(f"the kind's result {why}")
    await worker.lives()


async def test_a_result_has_a_limit(worker: Talk) -> None:
    room = protocol.RESULT_LIMIT - len('{"text":""}')
    assert (await worker.outcome("large", options={"number": room})).state == "succeeded"
    done = await worker.outcome("large", options={"number": room + 1})
    assert done.error is not None
    assert done.error.code == "result_too_large"
    assert str(protocol.RESULT_LIMIT) in done.error.message


async def test_a_result_has_a_limit_on_its_levels(worker: Talk) -> None:
    """Decoders recurse: a result that one process can decode might break another, deeper in its stack."""
    done = await worker.outcome("nest", options={"number": protocol.RESULT_LEVELS})
    assert done.state == "succeeded"
    for levels in (protocol.RESULT_LEVELS + 1, 978, 9_990):
        done = await worker.outcome("nest", options={"number": levels})
        assert done.error is not None
        assert done.error.code == "bad_result"
    await worker.lives()


@pytest.mark.parametrize(
    ("name", "code"), [("wordless", "exception"), ("wordless_skip", "exception"), ("odd_code", "bad_result")]
)
async def test_exceptions_that_break_while_they_are_described(worker: Talk, name: str, code: str) -> None:
    done = await worker.outcome(name)
    assert done.error is not None
    assert done.error.code == code
    await worker.lives()


@pytest.mark.parametrize("name", ["take_descriptors", "take_threads"])
async def test_an_item_that_changes_the_process_is_its_last(worker: Talk, name: str) -> None:
    """The next item might fail because of it; the end says that none is started."""
    done = await worker.outcome(name)
    assert done.last
    assert done.error is not None
    assert done.error.transient
    assert await worker.receive() is None
    assert await worker.exit_code() == 0


async def test_an_item_leaves_no_umask_alarm_or_recursion_limit_behind(worker: Talk) -> None:
    await worker.outcome("set_everything")
    left = await worker.outcome("settings")
    assert left.result == {"umask": 0o022, "alarm": 0.0, "recursion": 1000}
    await worker.lives()


async def test_skipped(worker: Talk) -> None:
    done = await worker.outcome("skip nothing to do")
    assert done == protocol.Done(id=1, state="skipped", message="nothing to do")


async def test_failed_on_purpose(worker: Talk) -> None:
    done = await worker.outcome("failed so sorry")
    assert done.error == protocol.ItemError(code="my_code", message="so sorry")
    done = await worker.outcome("transient come back")
    assert done.error == protocol.ItemError(code="transient", message="come back", transient=True)
    assert "Traceback" not in worker.log
    long = await worker.outcome("failed " + "x" * 10_000)
    assert long.error is not None
    assert len(long.error.message) == protocol.ERROR_LIMIT


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raise value", "ValueError: the words"),
        ("raise bytes", "ValueError: ab?c\nd"),
        ("raise unreadable", "Unreadable: (its message cannot be read)"),
        ("raise empty", "KeyError"),
        ("raise base", "BaseException: deep"),
        ("raise interrupt", "KeyboardInterrupt"),
        ("raise exit", "SystemExit: the code called sys.exit(0); a kind must return or raise instead"),
        ("raise cancelled", "Cancelled: raised without a request to stop"),
        ("raise asyncio", "CancelledError"),
        ("raise group", "ExceptionGroup: several (2 sub-exceptions)"),
        ("recurse", "RecursionError: maximum recursion depth exceeded"),
        ("code", "ValueError: the code 'My code' must be"),
        ("nonsense", "KeyError: 'do_nonsense'"),
    ],
)
async def test_exceptions(worker: Talk, name: str, message: str) -> None:
    """An exception fails the item and is logged with its traceback, and the worker lives on."""
    done = await worker.outcome(name)
    assert done.state == "failed"
    assert done.error is not None
    assert done.error.code == "exception"
    assert done.error.message.startswith(message)
    assert not done.error.transient
    await worker.lives()
    line = f"ERROR unstuck.kind Item failed: job= item=0 attempt=1 kind=behave name={name!r} "
    assert worker.log.count(f"{line}worker={worker.process.pid}\n") == 1
    assert "behaviour.py" in worker.log


async def test_user_code_logs_as_in_any_program(worker: Talk) -> None:
    """Its lines have time and level; a handler of its own receives its exceptions, once, with the item's place."""
    done = await worker.outcome("log", job="j", item=3, attempt=2)
    assert done.result == []
    assert re.search(r"^\d{4}-\d\d-\d\d [\d:,]+ INFO my\.work first$", worker.log, re.MULTILINE)
    assert "not shown" not in worker.log
    await worker.outcome("raise value", job="j", item=4, attempt=2)
    await worker.outcome("failed on purpose")
    seen = (await worker.outcome("log")).result
    assert seen == [["unstuck.kind", "ERROR", "ValueError", "j", 4, 2]]
    assert "Item failed: job=j item=4 attempt=2 kind=behave name='raise value'" in worker.log


async def test_logging_that_fails_costs_no_item(worker: Talk) -> None:
    await worker.outcome("break_logging")
    done = await worker.outcome("raise value")
    assert done.error is not None
    assert done.error.message.startswith("ValueError: the words")
    assert "ValueError: the words" in worker.log
    await worker.lives()


async def test_people_read_the_name_of_a_file_and_no_path_of_the_server(worker: Talk, tmp_path: Path) -> None:
    """However the code came to the path: as given, absolute, without links, or its last part."""
    folder = tmp_path / "data" / "in"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    file = folder / "00000.jpg"
    file.write_text("x")
    for given in (file, tmp_path / "link" / "in" / file.name, Path("data/in/00000.jpg")):
        for way in ("given", "absolute", "real", "part", "open"):
            for end in ("raise", "fail", "skip"):
                done = await worker.outcome(f"path_text {end} {way} holiday.jpg", input=str(given))
                text = done.message if done.error is None else done.error.message
                assert text is not None
                assert f"{way} holiday.jpg'" in text, text
                for part in ("data", "link", "00000", str(worker.outputs)):
                    assert part not in text
    done = await worker.outcome("path_text output x", input=str(file))
    assert done.error is not None
    assert done.error.message.startswith("FileNotFoundError: [Errno 2] No such file or directory: 'missing.txt'")
    await worker.outcome("path_text report holiday.jpg", input=str(file))
    assert worker.reports[-1].message == "reading path_text report holiday.jpg"


async def test_a_long_message_is_cut(worker: Talk) -> None:
    done = await worker.outcome("raise long")
    assert done.error is not None
    assert len(done.error.message) == protocol.MESSAGE_LIMIT
    assert re.search(r"x… \(behaviour\.py, line \d+\)$", done.error.message)


async def test_runs_that_the_server_should_have_refused(worker: Talk) -> None:
    async def code(**fields: Any) -> str:
        done = await worker.outcome("return", **fields)
        assert done.error is not None
        return done.error.code

    assert await code(kind="unheard-of") == "unknown_kind"
    assert await code(kind="needs-file") == "file_missing"
    assert await code(options={"number": "x"}) == "invalid_options"
    assert await code(options={"numbre": 1}) == "invalid_options"


async def test_the_code_gets_file_attempt_and_label(worker: Talk) -> None:
    done = await worker.outcome("label", kind="needs-file", input="/some/where.csv", attempt=3)
    assert done.result == {"name": "where.csv", "attempt": 3, "label": "label"}


async def test_the_output_folder_is_made_private_and_emptied(worker: Talk) -> None:
    assert not worker.output(1).exists()
    await worker.outcome("litter")
    assert len(list(worker.output(1).iterdir())) == 3
    again = await worker.outcome("listed")
    assert again.result is not None
    assert again.result["left"] == []
    assert stat.S_IMODE(again.result["mode"]) == 0o700
    assert worker.outputs.exists()  # the link to it was removed, not followed


async def test_an_unusable_output_folder_is_a_transient_failure(worker: Talk) -> None:
    worker.outputs.write_text("in the way")
    assert (await worker.outcome("return")).state == "succeeded", "no output folder is needed"
    done = await worker.outcome("litter")
    assert done.error is not None
    assert (done.error.code, done.error.transient) == ("output_unusable", True)


# -- ends without an answer


async def test_a_failure_of_the_worker_itself_has_an_exit_code(worker: Talk) -> None:
    await worker.run("close_descriptors")
    assert await worker.receive() is None
    assert await worker.exit_code() == protocol.WORKER_BROKE


async def test_the_process_may_exit(worker: Talk) -> None:
    await worker.run("exit")
    assert await worker.receive() is None
    assert await worker.exit_code() == 7


async def test_a_crash_leaves_its_traceback_in_the_log(worker: Talk) -> None:
    await worker.run("segfault")
    assert await worker.receive() is None
    assert await worker.exit_code() == -11
    assert "Segmentation fault" in worker.log
    assert "in do_segfault" in worker.log


async def test_out_of_memory_has_an_exit_code(start: Start) -> None:
    worker = await start("--app", str(Path(__file__).with_name("behaviour.py")), "--memory", "300")
    await worker.receive()
    await worker.lives()
    await worker.run("eat")
    assert await worker.receive() is None
    assert await worker.exit_code() == protocol.WORKER_OUT_OF_MEMORY


async def test_a_command_that_is_out_of_memory_fails_alone(start: Start) -> None:
    """The memory limit applies to each process separately."""
    eat = "import sys; x = b'x' * 500_000_000"
    worker = await start("--memory", "300", "--command", f'eat=python3 -c "{eat}"')
    await worker.receive()
    done = await worker.outcome("a", kind="eat")
    assert done.error is not None
    assert "MemoryError" in done.error.message


async def test_a_fork_does_not_hide_the_end(worker: Talk) -> None:
    """The pipe is closed when the worker dies, even if a forked child lives on."""
    forked = await worker.outcome("fork")
    assert forked.result is not None
    try:
        await worker.run("exit")
        assert await worker.receive() is None
        assert Path(f"/proc/{forked.result['pid']}").exists()
    finally:
        os.kill(forked.result["pid"], 9)


async def test_only_one_of_two_processes_answers(worker: Talk) -> None:
    done = await worker.outcome("stray_fork")
    assert done.result == {"who": "parent"}
    await worker.lives()


async def test_a_malformed_message_ends_the_worker(worker: Talk) -> None:
    await worker.write(b'{"type":"dance"}\n')
    assert await worker.exit_code() == protocol.WORKER_MISUNDERSTOOD
    await soon(lambda: "Line from the runner is not a message: worker=" in worker.log)
