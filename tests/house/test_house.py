"""Checks which modules are pure, which one reads the environment, and which may start tasks.

Which room may import which is checked elsewhere: by import-linter, with the contracts in pyproject.toml, and by
eslint, with frontend/eslint.config.mjs.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "server" / "unstuck"

#: Modules without I/O, clock, randomness, environment or log. They import the standard library, each other, and
#: msgspec, which only converts values.
PURE = {"errors", "supervision.backoff", "jobs.labels", "jobs.job", "jobs.decide", "jobs.external", "jobs.health",
        "jobs.rate", "jobs.snapshot", "jobs.timeline", "streaming.sse", "streaming.encoded", "streaming.config",
        "client.ending", "client.watch_state", "client.watch_step", "client.watchdog", "doctor.diagnosis",
        "webhooks.targets",
        "webhooks.signature", "wire.answers", "wire.events", "wire.job", "wire.mapping", "wire.requests",
        "wire.schema"}  # fmt: skip
UNCLEAN = {"asyncio", "time", "random", "os", "logging", "threading", "socket", "subprocess", "anyio", "secrets"}

#: Modules whose tasks or threads need no supervisor, and what waits for each of them. The server's loops run under
#: supervision/supervisor.py.
SHORT_LIVED = {
    "api.reports": "one write; the request waits for it",
    "api.uploads": "one write; the request waits for it",
    "runner.remote_queue": "one download; close() waits for it",
    "streaming.direct": "one send; the stream waits for it",
    "streaming.hub": "one read; close() waits for it",
    "webhooks.dispatcher": "one delivery; the task group of its loop waits for it",
}
#: Modules that run outside the server's process.
ELSEWHERE = {
    "cli.progress", "client.follower", "client.portal", "client.reporter", "doctor.measure", "runner.worker",
}  # fmt: skip


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module.split(".")[0] in {"unstuck", "tests"}:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_are_pure(name: str) -> None:
    outside = {one.split(".")[0] for one in imports(PACKAGE / f"{name.replace('.', '/')}.py")} - {
        "unstuck",
        "__future__",
    }
    assert outside <= {*sys.stdlib_module_names, "msgspec"}
    assert not outside & UNCLEAN


def test_sse_starlette_is_imported_in_one_place() -> None:
    users = [name for name, path in modules() if any(one.startswith("sse_starlette") for one in imports(path))]
    assert users == ["api.events"]


def test_the_environment_is_read_in_one_place_for_the_server_and_one_for_clients() -> None:
    readers = [name for name, path in modules() if re.search(r"os\.(environ|getenv)", path.read_text())]
    assert readers == ["address", "settings"]


def starts_tasks(path: Path) -> bool:
    """Return whether the module starts tasks or threads, other than asyncio's own for the length of one call."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
    return not names.isdisjoint({"create_task", "ensure_future", "start_soon", "Task", "Thread", "Timer"})


def test_loops_run_under_the_supervisor() -> None:
    found = {name for name, path in modules() if starts_tasks(path)}
    assert found == {"supervision.supervisor", *SHORT_LIVED, *ELSEWHERE}


def sources() -> list[Path]:
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def test_every_module_has_a_docstring() -> None:
    for path in [path for path in sources() if path.is_relative_to(PACKAGE) and path.suffix == ".py"]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_empty_names_are_avoided() -> None:
    bad = re.compile(r"\bclass \w*(Manager|Handler|Service|Impl|Base)\b|^class Base", re.MULTILINE)
    for path in [path for path in sources() if path.suffix in {".py", ".js"} and "tests" not in path.parts]:
        assert not bad.search(path.read_text()), path
        assert path.stem not in {"utils", "util", "common", "helpers", "models", "types", "base"}


def test_test_modules_do_not_import_one_another() -> None:
    imported = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        if path.is_relative_to(ROOT / "tests") and path.suffix == ".py"
        for name in imports(path)
        if name.startswith("tests.") and re.match(r"test_|conftest$", name.rsplit(".", 1)[-1])
    }
    assert imported == set()
