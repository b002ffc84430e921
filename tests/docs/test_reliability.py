"""Test that RELIABILITY.md has the tables that the suites write, and that what it advises exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import fields

import pytest

import unstuck.errors
from tests.crash import run as crash
from tests.faults import run as faults
from tests.faults import virtual_play
from tests.faults.schedule import KINDS
from tests.hostile import run as hostile
from tests.hostile.table import END_OF
from tests.siege import run as siege
from tests.support.documents import ROOT
from tests.support.tables import RELIABILITY, markdown_table, percentile, replace_block
from unstuck.settings import PREFIX, Settings

TEXT = RELIABILITY.read_text()
SUITES = {"scripts/faults": faults, "scripts/crash": crash, "scripts/hostile": hostile, "scripts/siege": siege}
SPANS = re.findall(r"`([^`\n]+)`", TEXT)


def block(name: str) -> str:
    return TEXT.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize(("name", "header"), [("faults", faults.HEADER), ("crash", crash.HEADER)])
def test_the_tables_have_the_columns_of_their_suites(name: str, header: tuple[str, ...]) -> None:
    rows = [cells(line) for line in block(name).splitlines() if line.startswith("|")]
    assert rows[0] == list(header)
    assert {len(row) for row in rows} == {len(header)}
    assert len(rows) > 2


def test_the_rows_of_the_first_table_are_faults_that_can_be_played() -> None:
    names = [cells(line)[0] for line in block("faults").splitlines() if line.startswith("|")][2:]
    assert {name for name in names if not name.startswith("all ")} <= {*KINDS, "several"}


def test_the_commands_of_the_suites_are_understood() -> None:
    lines = re.findall(r"^(scripts/(?:faults|crash|siege|hostile|awaits)[^#\n]*)", TEXT, re.MULTILINE)
    assert len(lines) >= 5
    for program, *options in map(shlex.split, lines):
        if program == "scripts/awaits":
            continue  # its module rewrites the server when it is imported
        if options[:1] == ["--virtual"]:
            virtual_play.parse_arguments(options[1:])
        else:
            SUITES[program].parse_arguments(options)


def test_a_siege_of_ten_minutes_cost_nothing() -> None:
    text = block("siege").strip()
    assert " 10 minutes: " in text
    for count in ("0 lost, 0 wedged, 0 acknowledged without", "was untrue 0 times", " 0 things left behind"):
        assert count in text


def test_all_hostile_kinds_were_played() -> None:
    assert block("hostile").strip() == f"{len(END_OF)} of {len(END_OF)} cost their own item only."


def test_no_broken_await_cost_anything_else() -> None:
    found = re.fullmatch(r"(\d+) of (\d+) broken awaits cost nothing else\.", block("awaits").strip())
    assert found is not None
    assert found[1] == found[2]


def test_the_problems_that_it_explains_exist() -> None:
    problems = {
        (str(error.status), error.code)
        for error in vars(unstuck.errors).values()
        if isinstance(error, type) and issubclass(error, unstuck.errors.UnstuckError)
    }
    told = re.findall(r"(\d{3}) `(\w+)`", TEXT)
    assert len(told) >= 5
    assert set(told) <= problems


def test_the_settings_and_options_that_it_advises_exist() -> None:
    settings = {f"{PREFIX}{one.name.upper()}" for one in fields(Settings)}
    assert {name for span in SPANS for name in re.findall(rf"{PREFIX}\w+", span)} <= settings
    commands: dict[str, set[str]] = {}
    for span in SPANS:
        words = span.split()
        if words[0] == "unstuck":
            commands.setdefault(words[1], set()).update(re.findall(r"--[a-z-]+", span))
        elif words[0].startswith("--"):
            commands.setdefault("serve", set()).add(words[0])
    assert {"serve", "doctor", "jobs", "rescue", "fail", "prune"} <= set(commands)
    for command, options in commands.items():
        shown = subprocess.check_output(
            [sys.executable, "-m", "unstuck", command, "--help"],
            text=True,
            env={"COLUMNS": "200", "TERM": "dumb"},
            cwd=ROOT,
        )
        assert {option for option in options if option not in shown} == set(), command


def test_the_messages_that_it_quotes_exist() -> None:
    quoted = re.findall(r'"(?:… )?([^"\n]+)"', TEXT.split("\n## Troubleshooting\n")[1])
    screens = (ROOT / "frontend" / "view" / "locale" / "en.js").read_text()
    messages = "".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    assert len(quoted) >= 4
    assert [text for text in quoted if f'"{text}' not in screens and text not in messages] == []


def test_it_is_short_and_ends_with_troubleshooting() -> None:
    assert TEXT.count("\n## Troubleshooting\n") == 1
    assert "\n## " not in TEXT.split("\n## Troubleshooting\n")[1]
    assert len(re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", TEXT, flags=re.DOTALL).split()) <= 1_060


def test_a_table_replaces_the_block_of_its_name() -> None:
    before = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n"
    after = replace_block(before, "one", markdown_table(("name", "n"), [("x", "1")]))
    assert after == before.replace("old", "| name | n |\n| --- | ---: |\n| x | 1 |")
    assert replace_block(after, "two", r"\1").endswith("<!-- two -->\n\\1\n<!-- /two -->\n")
    with pytest.raises(SystemExit, match="<!-- three -->"):
        replace_block(before, "three", "")


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.99, 1.0)] == [2.0, 4.0, 4.0]
