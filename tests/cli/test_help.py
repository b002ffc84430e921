"""`--help` of every command: whole at 80 columns, in words, with examples that can be parsed, and exit codes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.support.command import unstuck_from_a_shell
from unstuck.cli.commands import cli
from unstuck.cli.prune import seconds, states

GROUP: Any = typer.main.get_command(cli)
COMMANDS: dict[str, Any] = GROUP.commands
JOB_ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
#: These end at once, or have their own answer to Ctrl-C.
NOT_INTERRUPTED = {"serve", "settings", "work"}


def help_of(*words: str) -> str:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(cli, [*words, "--help"], prog_name="unstuck")
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def sections(text: str) -> tuple[str, list[str], dict[int, str]]:
    """What stands before the examples, the examples, and the exit codes."""
    before, _, rest = text.partition("\nExamples:\n")
    examples, _, codes = rest.partition("\nExit codes:\n")
    pairs = [line.split(maxsplit=1) for line in codes.splitlines()]
    return before, [line.strip() for line in examples.splitlines()], {int(code): says for code, says in pairs}


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_help_is_whole_at_80_columns_and_in_words(words: tuple[str, ...]) -> None:
    text = help_of(*words)
    assert text.startswith(f"Usage: {' '.join(['unstuck', *words])} [OPTIONS]")
    assert max(len(line) for line in text.splitlines()) <= 80
    cut = text.replace("FILE…", "").replace("JOB_ID…", "")
    assert "…" not in cut
    assert "..." not in cut
    before, examples, codes = sections(text)
    assert not re.search(r"[{<]\w|--no-|\bNone\b", before)
    assert examples
    assert codes


def test_the_summary_of_every_command_is_whole() -> None:
    text = help_of()
    for name, command in COMMANDS.items():
        summary = command.callback.__doc__.splitlines()[0]
        assert summary.endswith(".")
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_has_a_word_for_its_value_and_a_meaning(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        is_flag = parameter.param_type_name == "option" and parameter.is_flag
        assert is_flag or parameter.metavar, parameter.name


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("submit", "[OPTIONS] KIND [FILE…]"),
        ("watch", "[OPTIONS] JOB_ID"),
        ("rescue", "[OPTIONS] JOB_ID…"),
        ("doctor", "[OPTIONS] URL"),
    ],
)
def test_usage_names_the_arguments_also_beside_a_mistake(name: str, usage: str) -> None:
    assert help_of(name).startswith(f"Usage: unstuck {name} {usage}\n")
    mistaken = CliRunner().invoke(cli, [name, "--no-such-option"], prog_name="unstuck")
    assert mistaken.exit_code == 2
    assert mistaken.stderr.startswith(f"Usage: unstuck {name} {usage}\n")


def test_defaults_and_what_is_required_are_shown() -> None:
    for name, shown in (
        ("jobs", "[default: 50]"), ("doctor", "[default: 40]"), ("watch", "[default: http://127.0.0.1:8765]"),
        ("fail", "[required]"),
    ):  # fmt: skip
        assert shown in " ".join(help_of(name).split()), name


def test_exit_codes_mean_the_same_everywhere() -> None:
    _, _, root = sections(help_of())
    assert set(root) == {0, 1, 2, 3, 130}
    for name in COMMANDS:
        _, _, codes = sections(help_of(name))
        assert set(codes) <= set(root), name
        assert {0, 2} <= set(codes), name
        assert (130 in codes) == (name not in NOT_INTERRUPTED), name
        assert codes.get(130, root[130]).startswith(root[130]), name
        assert (3 in codes) == (name == "watch")


def command_lines(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, those in $(…) first, without variables and pipes."""
    for inner in re.findall(r"\$\((.*?)\)", line):
        yield from command_lines(inner)
    words = shlex.split(re.sub(r"\$\(.*?\)", JOB_ID, line).split(" | ")[0].split(" && ")[0])
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    yield words


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_examples_are_right(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "*.csv").touch()
    _, examples, _ = sections(help_of(*filter(None, [name])))
    for program, command, *words in [parts for line in examples for parts in command_lines(line)]:
        assert program == "unstuck"
        given = COMMANDS[command].make_context(command, words).params
        if command == "prune":
            assert given["orphans"] or seconds(given["older_than"]) > 0
            assert states(given["state"] or ()) is not None
    assert any(f"unstuck {name}" in line for line in examples)


def test_a_shell_completes_commands_and_options() -> None:
    for words, completed in (("unstuck pr", "prune"), ("unstuck prune --old", "--older-than")):
        asked = {"_UNSTUCK_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        answer = unstuck_from_a_shell(**asked)
        assert answer.stdout.split() == [completed], answer.stderr
