"""The start of a worker: its hello, or its refusal when its kinds cannot be loaded."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.runner.talk import Start, Talk
from unstuck.runner import protocol

KIND = "import unstuck\n@unstuck.kind('mine')\ndef mine(file, report): ...\n"


async def hello(start: Start, *arguments: str) -> protocol.Hello:
    said = await (await start(*arguments)).receive()
    assert isinstance(said, protocol.Hello), said
    return said


async def refusal(start: Start, *arguments: str) -> str:
    worker = await start(*arguments)
    said = await worker.receive()
    assert isinstance(said, protocol.LoadFailed), said
    assert await worker.receive() is None
    assert await worker.exit_code() == protocol.WORKER_LOAD_FAILED
    assert "\n" not in said.message
    return said.message


def names(hello: protocol.Hello) -> list[str]:
    return [kind.name for kind in hello.kinds]


async def test_the_built_in_kinds(start: Start) -> None:
    worker = await start()
    said = await worker.receive()
    assert isinstance(said, protocol.Hello)
    assert said.pid == worker.process.pid
    assert names(said) == ["checksum", "csv-profile", "thumbnail", "rehearsal"]


async def test_a_file_of_kinds(start: Start, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("TITLE = 'From the file beside'")
    (tmp_path / "my-work.py").write_text(
        "import dataclasses, unstuck\nfrom beside import TITLE\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\n"
        "@unstuck.kind('mine', title=TITLE)\ndef mine(file, report): ...\n"
    )
    said = await hello(start, "--app", "my-work.py")
    assert said.kinds[-1].title == "From the file beside"


async def test_a_module_of_kinds(start: Start, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "work.py").write_text(KIND)
    assert names(await hello(start, "--app", "package.work"))[-1] == "mine"


async def test_commands(start: Start) -> None:
    said = await hello(start, "--command", "copy=cp {input} {output}", "--command", "wait=sleep 1")
    assert [(kind.name, kind.needs_file) for kind in said.kinds[-2:]] == [("copy", True), ("wait", False)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", "app.py declares no kind of work: put @unstuck.kind(…) above a function in it"),
        (
            "import nothing_like_this",
            "cannot be imported: ModuleNotFoundError: No module named 'nothing_like_this'",
        ),
        ("def f(:", "cannot be imported: SyntaxError: invalid syntax (app.py, line 1)"),
        ("raise ValueError('a\\nb')", "cannot be imported: ValueError: a b"),
        ("import sys; sys.exit()", "cannot be imported: SystemExit:"),
        (f"{KIND}{KIND}", "cannot be imported: ValueError: there is already a kind 'mine' (app.mine)"),
        (KIND.replace("mine'", "checksum'"), "already a kind 'checksum' (unstuck.kinds.checksum.checksum)"),
        (KIND.replace(", report", ""), "cannot be imported: TypeError: app.mine: a kind takes (file, report)"),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()", "declares no kind"),
    ],
)
async def test_a_file_that_cannot_be_loaded(start: Start, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "app.py").write_text(content)
    assert message in await refusal(start, "--app", "app.py")


async def test_the_traceback_of_a_failed_import_is_in_the_log(start: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def inner():\n    raise ValueError('deep')\ninner()\n")
    worker = await start("--app", "app.py")
    await worker.receive()
    await worker.exit_code()
    assert "line 2, in inner" in worker.log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--app", "missing.py"], "missing.py does not exist or is not a file"),
        (["--app", "/"], "/ does not exist or is not a file"),
        (["--app", "no.such.module"], "no.such.module cannot be imported: ModuleNotFoundError"),
        (["--app", "json"], "json declares no kind of work"),
        (["--app", ".."], ".. cannot be imported"),
        (["--command", "nonsense"], "must look like NAME=PROGRAM"),
        (["--command", "x=no-such-program-here"], "was not found or is not executable"),
        (["--command", "checksum=sha256sum {input}"], "there is already a kind 'checksum'"),
        (["--command", "a=true", "--command", "a=true"], "there is already a kind 'a'"),
    ],
)
async def test_arguments_that_cannot_be_loaded(start: Start, arguments: list[str], message: str) -> None:
    assert message in await refusal(start, *arguments)


async def test_a_file_named_like_a_standard_module_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "statistics.py").write_text(KIND)
    assert "has the name of the Python module 'statistics'" in await refusal(start, "--app", "statistics.py")


async def test_descriptions_that_are_too_long_to_send_are_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(KIND.replace("'mine'", "'mine', description='x' * 2_000_000"))
    assert "descriptions" in await refusal(start, "--app", "app.py")


async def test_a_module_that_prints_does_not_disturb(worker: Talk) -> None:
    assert "printed while the module was loaded" in worker.log


async def test_a_worker_loads_no_heavy_modules_at_the_start(start: Start) -> None:
    worker = await start(PYTHONVERBOSE="1")
    await worker.receive()
    loaded = {line.split()[1].strip("'") for line in worker.log.splitlines() if line.startswith("import ")}
    assert "unstuck.kinds.thumbnail" in loaded
    heavy = {"PIL", "subprocess", "asyncio", "csv", "starlette", "sqlite3"}
    assert not loaded & heavy


async def test_limits_and_signals(start: Start) -> None:
    worker = await start("--memory", "700")
    await worker.receive()
    pid = worker.process.pid
    limit = 700 * 1024 * 1024
    assert resource.prlimit(pid, resource.RLIMIT_DATA) == (limit, limit)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    status = dict(
        line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    ignored = int(status["SigIgn"], 16)
    assert ignored & 1 << (2 - 1)  # SIGINT
    assert not ignored & 1 << (15 - 1)  # SIGTERM
    os.kill(pid, 15)
    assert await worker.exit_code() == -15


async def test_kinds_beside_the_host_app(start: Start, tmp_path: Path) -> None:
    """The module of a host app can be loaded by workers too: `create_app()` opens nothing."""
    (tmp_path / "host_app.py").write_text(
        "import unstuck\n\n@unstuck.kind\ndef beside(file, report): ...\n\napp = unstuck.create_app()\n"
    )
    worker = await start("--app", "host_app.py")
    hello = await worker.receive()
    assert isinstance(hello, protocol.Hello), hello
    assert names(hello)[-1] == "beside"
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name != "__pycache__"]
