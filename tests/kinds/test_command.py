"""Command kinds: words without a shell, results and failures, and no process that outlives its item."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from pathlib import Path

import pytest

from tests.support.processes import alive, all_dead
from tests.support.waiting import eventually
from unstuck import Cancelled, Failed, Report
from unstuck.kinds.command import STDERR_KEPT, STDOUT_KEPT, MalformedCommand, command_kind

PYTHON = shlex.quote(sys.executable)


def python(code: str) -> str:
    return f"{PYTHON} -c {shlex.quote(code)}"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def report(output: Path) -> Report:
    return Report("my film.mkv", output)


def test_the_output_file_is_the_result(tmp_path: Path, report: Report) -> None:
    file = tmp_path / "input"
    file.write_text("text")
    made = command_kind("copy=cp {input} {output}.bak").work(file, report)
    assert made == report.output / "my_film.bak"
    assert made.read_text() == "text"


def test_without_a_file_stdout_is_the_result(tmp_path: Path, report: Report) -> None:
    file = tmp_path / "input"
    file.write_text("one\ntwo\n")
    assert command_kind("lines=wc -l {input}").work(file, report) == {"stdout": f"2 {file}"}


def test_no_output_is_no_result(report: Report) -> None:
    assert command_kind("nothing=true").work(None, report) is None


def test_several_files_are_a_failure(report: Report) -> None:
    with pytest.raises(
        Failed, match=r"left 2 files, but only one can be the result: my_film\.a, my_film\.b"
    ) as failed:
        command_kind("two=touch {output}.a {output}.b").work(None, report)
    assert failed.value.code == "several_files"


@pytest.mark.parametrize("make", ["mkdir {output}", "ln -s /etc/passwd {output}", "mkfifo {output}"])
def test_a_result_is_a_regular_file(report: Report, make: str) -> None:
    with pytest.raises(Failed, match="not a regular file"):
        command_kind(f"odd={make}").work(None, report)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo", "must look like NAME=PROGRAM"),
        ("=echo", "must look like NAME=PROGRAM"),
        ("Echo=echo", "must look like NAME=PROGRAM"),
        ("echo=", "is empty"),
        ("echo=   ", "is empty"),
        ("echo=echo 'a", "cannot be split into words: No closing quotation"),
        ("run={input} x", "cannot be a placeholder"),
        ("run=no-such-program-here {input}", "was not found or is not executable: no-such-program-here"),
        ("run=/etc/passwd {input}", "was not found or is not executable: /etc/passwd"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(MalformedCommand, match=message):
        command_kind(text)


def test_only_the_program_of_a_command_is_published() -> None:
    info = command_kind("send=curl --user me:secret {input}").info if Path("/usr/bin/curl").exists() else None
    info = info or command_kind("send=cp --user me:secret {input}").info
    assert "secret" not in info.description
    assert info.needs_file
    assert not command_kind("wait=sleep 1").info.needs_file


def test_labels_are_never_code(output: Path) -> None:
    """Each label arrives as one harmless word, and one that looks like a placeholder is not expanded."""
    show = command_kind("show=" + python("import sys; print(sys.argv[1:])") + " {name} x{output}")
    for label in ("$(touch /tmp/x)", "; rm -rf /", "--help", "{input}", "a b", "`id`", "../../x", "\n"):
        result = show.work(Path("/nowhere"), Report(label, output))
        assert isinstance(result, dict)
        name, stem = result["stdout"][2:-2].split("', '")
        assert name[0] not in "-."
        assert all(c.isalnum() or c in "._-" for c in name)
        assert Path(stem.removeprefix("x")).parent == output


def test_a_failure_quotes_the_end_of_stderr(report: Report) -> None:
    noisy = command_kind(
        "noisy="
        + python(
            "import sys; sys.stderr.write('x' * 5_000_000 + '\\x1b[31mno\\x1b[0m\\0 codec\\r\\n'); sys.exit(3)"
        )
    )
    with pytest.raises(Failed) as failed:
        noisy.work(None, report)
    assert failed.value.code == "command_failed"
    message = str(failed.value)
    assert message.startswith("exit code 3: xxx")
    assert message.endswith("xno codec")
    assert len(message) <= STDERR_KEPT + 20


def test_a_failure_without_stderr_quotes_stdout(report: Report) -> None:
    with pytest.raises(Failed, match=r"^exit code 1: sorry$"):
        command_kind("f=sh -c 'echo sorry; exit 1'").work(None, report)
    with pytest.raises(Failed, match=r"^exit code 1: it printed nothing$"):
        command_kind("f=false").work(None, report)


def test_a_signal_is_named(report: Report) -> None:
    with pytest.raises(Failed, match=r"^killed by SIGSEGV"):
        command_kind("f=sh -c 'kill -SEGV $$'").work(None, report)


def test_output_is_bounded_and_may_be_any_bytes(report: Report) -> None:
    flood = command_kind("flood=" + python("import sys; sys.stdout.buffer.write(bytes(range(256)) * 40_000)"))
    result = flood.work(None, report)
    assert isinstance(result, dict)
    assert 0 < len(result["stdout"]) <= STDOUT_KEPT
    assert "\0" not in result["stdout"]


def test_the_newest_line_is_the_progress(output: Path) -> None:
    said: list[str | None] = []
    report = Report("a", output, send=lambda fraction, message: said.append(message))
    command_kind("talk=sh -c 'echo frame 1; echo frame 2'").work(None, report)
    assert {text for text in said if text} <= {"frame 1", "frame 2"}
    assert report.message == "frame 2"


def test_stdin_is_empty(report: Report) -> None:
    assert command_kind("read=cat").work(None, report) is None


def test_closed_outputs_do_not_end_the_item(report: Report) -> None:
    quiet = command_kind("quiet=sh -c 'exec >&- 2>&-; sleep 0.3; exit 4'")
    with pytest.raises(Failed, match="exit code 4"):
        quiet.work(None, report)


def test_background_processes_are_killed_and_not_waited_for(tmp_path: Path, report: Report) -> None:
    note = tmp_path / "pid"
    left = command_kind(f"left=sh -c 'sleep 1000 & echo $! > {note}; echo done'")
    assert left.work(None, report) == {"stdout": "done"}
    eventually(lambda: not alive(int(note.read_text())))


@pytest.mark.parametrize(
    "code",
    [
        "sleep 1000 & {note}; wait",
        'trap "" TERM INT HUP; sleep 1000 & {note}; sleep 1000',
        '(trap "" TERM INT HUP; exec sleep 1000) & {note}; wait',
    ],
    ids=["polite", "stubborn", "stubborn child"],
)
def test_a_stop_kills_the_whole_group(tmp_path: Path, report: Report, code: str) -> None:
    note = tmp_path / "pids"
    code = code.format(note=f"echo $! $$ > {note}.new; mv {note}.new {note}")
    work = command_kind(f"long=sh -c '{code}'")

    def stop() -> None:
        eventually(note.exists)
        report.cancel()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Cancelled):
        work.work(None, report)
    thread.join()
    pids = [int(pid) for pid in note.read_text().split()]
    eventually(lambda: all_dead(pids))


def test_a_program_that_has_disappeared(tmp_path: Path, report: Report) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    made = command_kind(f"gone={program}")
    program.unlink()
    with pytest.raises(Failed, match=r"cannot start .*program: No such file"):
        made.work(None, report)


def test_a_relative_program_is_found_from_any_working_directory(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho here\n")
    program.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    made = command_kind("rel=./program")
    monkeypatch.chdir("/")
    assert made.work(None, report) == {"stdout": "here"}
    assert os.getcwd() == "/"


@pytest.mark.parametrize("word", ["<", ">", ">>", "|", "||", "&&", "&", ";", "2>&1"])
def test_words_of_a_shell_are_refused_unless_they_are_quoted(word: str) -> None:
    with pytest.raises(MalformedCommand, match="only a shell understands"):
        command_kind(f"x=cat {{input}} {word} wc")
    for quoted in (f"'{word}'", f'"{word}"', f"-d'{word}'"):
        assert command_kind(f"x=cut -d {quoted} {{input}}").info.name == "x"
