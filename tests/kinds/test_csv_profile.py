"""Profiles of real files, and the line of everything that can be broken in one."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from unstuck import Cancelled, Failed, Report
from unstuck.kinds import csv_rows
from unstuck.kinds.csv_profile import SAMPLE, csv_profile

Delimiter = Literal[",", ";", "|", "tab"]


@pytest.fixture
def profile(tmp_path: Path) -> Any:
    def profile(content: bytes | str, delimiter: Delimiter = ",", has_header: bool = True) -> dict[str, Any]:
        file = tmp_path / "input[1]*.csv"  # a name that is no pattern
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return csv_profile(file, Report("a.csv", tmp_path), delimiter=delimiter, has_header=has_header)

    return profile


def test_every_type(profile: Any) -> None:
    seen = profile(
        "n,share,yes,day,at,word,nothing,mixed\n"
        "1,0.5,true,2024-02-29,2024-02-29T23:59:59,b,,1\n"
        "-2,1e3,FALSE,2023-01-01,2024-02-29 23:59:59.5Z,a,,x\n"
        '3,"",true,2025-12-31,2024-03-01T00:00:00,,,2024-01-01\n'
    )
    assert seen["rows"] == 3
    assert seen["columns_left_out"] == seen["blank_lines"] == 0
    assert [tuple(column.values()) for column in seen["columns"]] == [
        ("n", "integer", 0, -2, 3, pytest.approx(2 / 3)),
        ("share", "number", 1, 0.5, 1000.0, 500.25),
        ("yes", "boolean", 0, False, True, None),
        ("day", "date", 0, "2023-01-01", "2025-12-31", None),
        ("at", "datetime", 0, "2024-02-29T23:59:59", "2024-03-01T00:00:00", None),
        ("word", "text", 1, "a", "b", None),
        ("nothing", "empty", 3, None, None, None),
        ("mixed", "text", 0, "1", "x", None),
    ]
    assert list(seen["columns"][0]) == ["name", "type", "nulls", "min", "max", "mean"]


def test_a_type_is_decided_by_the_whole_file(profile: Any) -> None:
    """One late value that the sample does not hold turns integers into numbers, numbers into text."""
    rows = "".join("1,1,\n" for _ in range(SAMPLE + 5))
    seen = profile(f"a,b,c\n{rows}2.5,x,7\n")
    assert [column["type"] for column in seen["columns"]] == ["number", "text", "integer"]
    assert seen["columns"][0]["max"] == 2.5
    assert seen["columns"][2]["nulls"] == SAMPLE + 5


@pytest.mark.parametrize(("delimiter", "character"), [(",", ","), (";", ";"), ("|", "|"), ("tab", "\t")])
def test_delimiters(profile: Any, delimiter: Delimiter, character: str) -> None:
    seen = profile(f"a{character}b\n1{character}2\n", delimiter=delimiter)
    assert [column["name"] for column in seen["columns"]] == ["a", "b"]


def test_without_a_header(profile: Any) -> None:
    seen = profile("1,x\n2,y\n", has_header=False)
    assert seen["rows"] == 2
    assert [(column["name"], column["min"]) for column in seen["columns"]] == [("column_1", 1), ("column_2", "x")]


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"a,b\n1,2",
        b"a,b\r\n1,2\r\n",
        b"\xef\xbb\xbfa,b\n1,2\n",
        b'"a","b"\n"1","2"\n',
    ],
    ids=["plain", "no last line end", "CRLF", "BOM", "quoted"],
)
def test_the_same_table(profile: Any, content: bytes) -> None:
    seen = profile(content)
    assert seen["rows"] == 1
    assert [(c["name"], c["type"], c["max"]) for c in seen["columns"]] == [
        ("a", "integer", 1),
        ("b", "integer", 2),
    ]


def test_quotes_delimiters_and_line_ends_inside_fields(profile: Any) -> None:
    seen = profile('name,"two\nlines"\n"Smith, ""Jo""","1\n2\n3"\n')
    assert seen["rows"] == 1
    assert [column["name"] for column in seen["columns"]] == ["name", "two\nlines"]
    assert seen["columns"][0]["min"] == 'Smith, "Jo"'


def test_names_may_be_empty_or_the_same(profile: Any) -> None:
    seen = profile("a,a,,\n1,2,3,4\n")
    assert [(column["name"], column["min"]) for column in seen["columns"]] == [
        ("a", 1),
        ("a", 2),
        ("", 3),
        ("", 4),
    ]


def test_a_header_alone(profile: Any) -> None:
    seen = profile("a,b\n")
    assert seen["rows"] == 0
    assert [column["type"] for column in seen["columns"]] == ["empty", "empty"]


def test_blank_lines(profile: Any) -> None:
    """They are counted apart, except where they may be the missing values of an only column."""
    seen = profile("a,b\n1,2\n\n3,4\r\n\r\n\n")
    assert (seen["rows"], seen["blank_lines"], seen["columns"][0]["nulls"]) == (2, 3, 0)
    seen = profile("a\n1\n\n3\n")
    assert (seen["rows"], seen["blank_lines"], seen["columns"][0]["nulls"]) == (3, 0, 1)


def test_numbers_beyond_every_integer_type(profile: Any) -> None:
    seen = profile("a,b\n9223372036854775807,1\n9223372036854775808,nan\n")
    assert [column["type"] for column in seen["columns"]] == ["number", "number"]
    assert msgspec.json.decode(msgspec.json.encode(seen))["columns"][1]["mean"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 is empty"),
        (b"\n\n", "line 1 is empty"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 fields, but the first row has 2"),
        (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, but the first row has 2"),
        (b"a,b\n1,2\n  \n", "line 3 has 1 fields"),
        (b'a,b\n"1\n1\n1",2\n3\n', "line 5 has 1 fields"),
        (b'a,b\n1,2\n3,"x\n5,6\n', "line 3: a quote is opened here and never closed"),
        (b'a,b\n1,2\n"x"y,2\n', "line 3: text follows a closing quote"),
        (b'a,b\n1,2\n5" pipe,2\n1,2\n', "line 3 has a quote inside an unquoted field"),
        (b'a\n5" pipe\n6" pipe\n7\n', "line 2 has a quote inside an unquoted field"),
        (b"a,b\n1,2\n\xff,4\n", "line 3 is not UTF-8"),
        (b"a\xff,b\n1,2\n", "line 1 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"a,b\n" + b"1,2\n" * 50_000 + b"\xff,4\n", "line 50002 is not UTF-8"),
        (b"a,b\r1,2\r3,4\r", "line 1: a carriage return without a line feed"),
        (b"\x1f\x8b\x08\x00 gzip", "line 1 is not UTF-8"),
    ],
)
def test_malformed(profile: Any, content: bytes, message: str) -> None:
    with pytest.raises(Failed) as failed:
        profile(content)
    assert str(failed.value).startswith(message)
    assert failed.value.code == "malformed_csv"
    assert not failed.value.transient


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(profile: Any) -> None:
    with pytest.raises(Failed, match=r"^line 2: a field has more than .* perhaps a quote is never closed"):
        profile('a,b\n1,"2\n' + "3,4\n" * 1_000_000)


def test_a_line_that_never_ends_does_not_fill_the_memory(profile: Any) -> None:
    with pytest.raises(Failed, match=r"^line 2 has more than"):
        profile("a\n" + "x," * csv_rows.LINE_LIMIT)


def test_a_wide_table_fits_into_a_result(profile: Any) -> None:
    names = ",".join(f"“{place}”" * 30 for place in range(2_000))
    values = ",".join("“”" * 50 for _ in range(2_000))
    seen = profile(f"{names}\n{values}\n{values}\n")
    assert len(msgspec.json.encode(seen)) < 64 * 1024
    assert len(seen["columns"]) + seen["columns_left_out"] == 2_000
    assert len(seen["columns"]) > 50
    assert all(len(column["name"]) <= 60 and len(column["max"]) <= 40 for column in seen["columns"])


def test_it_reports_while_it_reads_and_stops(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("a,b\n" + "1,2\n" * 100_000)
    said: list[float] = []
    ticks = iter(range(10**9))
    report = Report(
        "a", tmp_path, send=lambda fraction, _: said.append(fraction or 0.0), clock=lambda: next(ticks)
    )
    csv_profile(file, report)
    assert len(said) > 20
    assert said == sorted(said)
    assert said[-1] == 0.7
    report.cancel()
    with pytest.raises(Cancelled):
        csv_profile(file, report)


def test_without_polars_it_says_what_to_install(profile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(Failed, match=r"pip install 'unstuck\[csv\]'"):
        profile("a\n1\n")


def test_random_tables_are_counted_as_written(profile: Any) -> None:
    """Well-formed tables of nasty fields: rows and nulls as written, whatever the quoting."""
    import csv
    import io

    chance = random.Random(5)
    pieces = ["", "a", '"', ",", "\n", "\r\n", " ", "é", "1", "\t", "\u2028"]
    for _ in range(200):
        width, height = chance.randint(2, 5), chance.randint(0, 8)
        rows = [
            ["".join(chance.choices(pieces, k=chance.randint(0, 3))) for _ in range(width)] for _ in range(height)
        ]
        text = io.StringIO()
        quoting: Literal[0, 1] = chance.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
        writer = csv.writer(text, lineterminator=chance.choice(["\n", "\r\n"]), quoting=quoting)
        writer.writerows([[f"c{place}" for place in range(width)], *rows])
        seen = profile(text.getvalue())
        assert seen["rows"] == height, text.getvalue()
        empty = [sum(row[place] == "" for row in rows) for place in range(width)]
        assert [column["nulls"] for column in seen["columns"]] == empty, text.getvalue()
