"""No command prints control codes that came from someone else: a terminal would obey them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest

from tests.support.command import unstuck, unstuck_on_a_terminal
from tests.support.server import Server
from unstuck.cli.console import plain
from unstuck.cli.serve import _PlainLines

#: Sets a title, copies to the clipboard, makes a link, clears the screen, goes back; the last ones need no ESC.
HOSTILE = "\x1b]0;PWN\x07\x1b]52;c;eA==\x07\x1b]8;;http://x\x07\x1b[2J\r\x08\x9b31m\u202e[red]"
OBEYED = set("\x1b\x07\x08\r\x9b\u202e")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for this module alone, so that its jobs can be counted."""
    server = Server(tmp_path_factory.mktemp("console") / "data", "--workers", "1").start()
    yield server
    server.stop()


def hostile_job(own: Server, *, done: bool) -> str:
    """Submit an external job with hostile text in every field that has room for it; return its id."""
    job_id = str(own.submit(f"k{HOSTILE}", name=f"n{HOSTILE}", external=True, items=[HOSTILE, "b"])["id"])
    reports = [
        {"message": HOSTILE, "stage": HOSTILE, "items": [{"index": 0, "message": HOSTILE}]},
        {"items": [{"index": 0, "state": "failed", "error": {"message": HOSTILE}}]},
        {"state": "failed", "error": {"message": HOSTILE}},
    ]
    for report in reports if done else reports[:1]:
        httpx.post(f"{own.url}/api/jobs/{job_id}/progress", json=report).raise_for_status()
    return job_id


@pytest.mark.parametrize(
    "command",
    [
        ("jobs",), ("jobs", "--json"), ("show", "{done}"), ("show", "{running}"), ("show", "{done}", "--failed"),
        ("show", "{done}", "--json"), ("cancel", "{done}"), ("download", "{running}"),
        ("jobs", "--state", "failed"), ("watch", "{done}"), ("retry", "{done}"), ("rescue", "{done}"),
        ("fail", "{running}", "--why", HOSTILE), ("prune", "--older-than", "0s", "--dry-run"), ("watch", HOSTILE),
        ("fail", "{done}", "--why", "x"), ("prune", "--older-than", HOSTILE), ("submit", f"no-such-{HOSTILE}"),
        ("rescue", HOSTILE), ("prune", "--older-than", "0s", "--state", HOSTILE),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_no_command_prints_control_codes_of_others(own: Server, command: tuple[str, ...]) -> None:
    ids = {"done": hostile_job(own, done=True), "running": hostile_job(own, done=False)}
    words = [ids.get(word.strip("{}"), word) for word in command]
    done = unstuck(*words, "--url", own.url)
    assert OBEYED.isdisjoint(done.stdout + done.stderr), (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


def test_nor_on_a_terminal(own: Server) -> None:
    hostile_job(own, done=True)
    for words in (("jobs", "--state", "failed"), ("prune", "--older-than", "0s", "--dry-run")):
        text = unstuck_on_a_terminal(*words, "--url", own.url, columns=200)
        assert (OBEYED - {"\r"}).isdisjoint(text), text
        assert "PWN" in text


def test_nor_the_log_on_a_terminal() -> None:
    record = logging.LogRecord("unstuck", logging.ERROR, "x", 1, "job=%s", (f"a\n{HOSTILE}",), None)
    assert _PlainLines("%(message)s").format(record) == f"job=a\n{plain(HOSTILE).replace(plain(chr(13)), chr(10))}"
