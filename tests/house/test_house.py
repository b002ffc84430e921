"""The layout holds: what is pure, who reads the environment, how long a file may be. Who may import whom stands
in pyproject.toml, and import-linter holds it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "server" / "unstuck"
LONGEST = 400

#: Modules without I/O: the standard library, each other, and msgspec, which only turns values into bytes; no
#: clock, no chance, no environment, no log.
PURE = {"errors", "labels", "backoff", "jobs.job", "jobs.decide", "jobs.external", "jobs.health", "jobs.rate",
        "jobs.snapshot", "jobs.timeline", "streaming.sse", "streaming.encoded", "streaming.config",
        "client.watch_state", "client.watchdog", "doctor.diagnosis", "webhooks.targets",
        "webhooks.signature", "wire.answers", "wire.events", "wire.job", "wire.mapping", "wire.requests",
        "wire.schema"}  # fmt: skip
UNCLEAN = {"asyncio", "time", "random", "os", "logging", "threading", "socket", "subprocess", "anyio", "secrets"}

#: JavaScript: the policy and the view know nothing else.
JS_ARROWS: dict[str, set[str]] = {
    "watch.js": set(),
    "watchdog.js": {"watch.js"},
    "words.js": set(),
    "dom.js": set(),
    "look.js": set(),
    "upload.js": set(),
    "health.js": {"words.js"},
    "view.js": {"health.js", "words.js"},
    "timeline.js": {"dom.js", "view.js", "words.js"},
    "one-stream.js": set(),
    "shared.js": {"one-stream.js"},
    "follow.js": {"shared.js", "watch.js", "watchdog.js"},
    "notice.js": {"follow.js", "view.js"},
    "card.js": {"dom.js", "view.js"},
    "item-pages.js": {"dom.js", "view.js"},
    "job-progress.js": {"card.js", "dom.js", "follow.js", "frame.js", "health.js", "item-pages.js", "look.js",
                        "notice.js", "once.js", "timeline.js", "view.js"},
    "define.js": {"job-progress.js"},
    "choose.js": {"words.js"},
    "options.js": {"dom.js", "words.js"},
    "jobs.js": {"dom.js", "health.js", "view.js", "words.js"},
    "attention.js": {"dom.js", "health.js", "view.js", "words.js"},
    "once.js": set(),
    "frame.js": set(),
    "new-job.js": {"choose.js", "dom.js", "once.js", "options.js", "upload.js", "view.js", "words.js"},
    "batch.js": {"attention.js", "define.js", "dom.js", "follow.js", "frame.js", "jobs.js", "new-job.js",
                 "view.js", "words.js"},
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


def test_only_settings_reads_the_environment() -> None:
    readers = [name for name, path in modules() if re.search(r"os\.(environ|getenv)", path.read_text())]
    assert readers == ["settings"]


def test_every_javascript_file_has_its_arrows() -> None:
    assert {path.name for path in (ROOT / "frontend").glob("*.js")} == set(JS_ARROWS)


@pytest.mark.parametrize("name", sorted(JS_ARROWS))
def test_javascript_arrows(name: str) -> None:
    text = (ROOT / "frontend" / name).read_text()
    found = set(re.findall(r'^import .*?from "\./(.+?)"', text, re.MULTILINE | re.DOTALL))
    assert found <= JS_ARROWS[name]


def sources() -> list[Path]:
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def test_no_file_is_longer_than_one_can_read() -> None:
    code = [path for path in sources() if path.suffix in {".py", ".js", ".css", ".html"}]
    assert {str(p.relative_to(ROOT)): n for p in code if (n := len(p.read_text().splitlines())) > LONGEST} == {}


def test_every_module_opens_with_what_it_decides() -> None:
    for path in [path for path in sources() if path.is_relative_to(PACKAGE) and path.suffix == ".py"]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_names_that_say_nothing_are_avoided() -> None:
    bad = re.compile(r"\bclass \w*(Manager|Handler|Service|Impl|Base)\b|^class Base", re.MULTILINE)
    for path in [path for path in sources() if path.suffix in {".py", ".js"} and "tests" not in path.parts]:
        assert not bad.search(path.read_text()), path
        assert path.stem not in {"utils", "util", "common", "helpers", "models", "types", "base"}


def test_tests_borrow_from_support_and_never_from_one_another() -> None:
    borrowed = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        if path.is_relative_to(ROOT / "tests") and path.suffix == ".py"
        for name in imports(path)
        if name.startswith("tests.") and re.match(r"test_|conftest$", name.rsplit(".", 1)[-1])
    }
    assert borrowed == set()
