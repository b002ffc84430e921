"""`unstuck submit`, `watch` and `retry`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.command import unstuck, unstuck_from_a_shell
from tests.support.server import Server
from tests.support.waiting import eventually
from unstuck.cli.commands import cli
from unstuck.client import watch_state as w


def test_submit_prints_the_id_and_watch_prints_the_outcome(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    words = ("submit", "checksum", str(tmp_path / "a.txt"), "--name", "[bold]one", "--url", server.url)
    submitted = unstuck_from_a_shell(*words)
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    assert server.job(job_id)["name"] == "[bold]one"
    watched = unstuck_from_a_shell("watch", job_id, "--url", server.url)
    assert (watched.returncode, watched.stdout) == (0, "completed: 1 succeeded of 1 file\n"), watched.stderr
    assert watched.stderr == "" or watched.stderr.startswith("[bold]one · ")


def test_a_failed_job_exits_with_1_and_a_reason(server: Server) -> None:
    options = ("--option", "seconds=0", "--option", "failures=1")
    submitted = unstuck("submit", "rehearsal", "--total", "2", *options, "--url", server.url)
    watched = unstuck("watch", submitted.stdout.strip(), "--url", server.url)
    assert watched.returncode == 1
    assert watched.stdout.startswith("failed: 2 failed of 2 items")
    assert "item 1: failed on purpose" in watched.stdout


def test_retry_prints_the_id_of_the_new_job(server: Server) -> None:
    limits = ("--max-attempts", "2", "--deadline-seconds", "60", "--item-limit-seconds", "5", "--priority", "1")
    options = ("--total", "2", "--option", "seconds=0", "--option", "failures=1", *limits, "--url", server.url)
    old = server.until_done(unstuck("submit", "rehearsal", *options).stdout.strip())
    assert (old["max_attempts"], old["priority"], old["deadline_at"] is None) == (2, 1, False)
    again = unstuck("retry", old["id"], "--url", server.url)
    assert server.job(again.stdout.strip())["retry_of"] == old["id"], again.stderr
    good = server.until_done(server.submit("rehearsal", total=1, options={"seconds": 0})["id"])
    nothing = unstuck("retry", good["id"], "--url", server.url)
    assert (nothing.returncode, "retry --all" in nothing.stderr) == (2, True)
    everything = unstuck("retry", good["id"], "--all", "--url", server.url)
    assert server.job(everything.stdout.strip())["retry_of"] == good["id"]


def test_mistakes_exit_with_2_and_one_sentence(server: Server) -> None:
    for words, said in (
        (("watch", str(uuid4()), "--url", server.url), "There is no job"),
        (("watch", "x/y", "--url", server.url), "is not a job id"),
        (("show", "0000", "--url", server.url), "There is no job 0000"),
        (("kinds", "--url", "http://127.0.0.1:1"), "No answer from http://127.0.0.1:1"),
        (("download", str(uuid4()), "--url", server.url), "There is no job"),
        (("submit", "nonsense", "--total", "1", "--url", server.url), "There is no kind of work 'nonsense'"),
        (("submit", "rehearsal", "--option", "seconds", "--url", server.url), "is not NAME=VALUE"),
        (("submit", "checksum", "/no/such/file", "--url", server.url), "does not exist"),
    ):
        answer = unstuck(*words)
        assert answer.returncode == 2, words
        assert said in " ".join(answer.stderr.split())
        assert "Traceback" not in answer.stderr


def test_ctrl_c_exits_with_130_and_the_job_continues(server: Server) -> None:
    eventually(lambda: server.get("/api/health")["streams"]["open"] == 0)
    job_id = server.submit("rehearsal", total=50, options={"seconds": 60})["id"]
    watching = subprocess.Popen(
        [sys.executable, "-m", "unstuck", "watch", job_id, "--url", server.url],
        stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    eventually(lambda: server.get("/api/health")["streams"]["open"] > 0)
    watching.send_signal(signal.SIGINT)
    _, complaint = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "Traceback" not in complaint
    assert f"the job itself continues. Watch it again: unstuck watch {job_id}" in " ".join(complaint.split())
    assert not server.job(job_id)["done"]


def test_no_news_exits_with_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(w, "GIVE_UP_MS", 300)
    with pytest.raises(SystemExit) as caught:
        cli(["watch", str(uuid4()), "--url", "http://127.0.0.1:1"])
    assert caught.value.code == 3
    assert "itself continues" in capsys.readouterr().err
