"""Profiles of real files, and the line number of whatever is malformed in them."""

from __future__ import annotations

import random
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from unstuck import Cancelled, Failed, Report
from unstuck.kinds import csv_rows
from unstuck.kinds.csv_profile import csv_profile
from unstuck.kinds.csv_rows import BATCH_ROWS

Delimiter = Literal["auto", ",", ";", "|", "tab"]


@pytest.fixture
def profile(tmp_path: Path) -> Any:
    def profile(content: bytes | str, delimiter: Delimiter = "auto", has_header: bool = True) -> dict[str, Any]:
        file = tmp_path / "input[1]*.csv"  # must not be read as a glob pattern
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
    """One value beyond the first batch turns integers into numbers, or numbers into text."""
    rows = "".join("1,1,\n" for _ in range(BATCH_ROWS + 5))
    seen = profile(f"a,b,c\n{rows}2.5,x,7\n")
    assert [column["type"] for column in seen["columns"]] == ["number", "text", "integer"]
    assert seen["columns"][0]["max"] == 2.5
    assert seen["columns"][0]["mean"] == (BATCH_ROWS + 7.5) / (BATCH_ROWS + 6)
    assert seen["columns"][2]["nulls"] == BATCH_ROWS + 5


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
    """Blank lines are counted separately, except in a single column, where they are missing values."""
    seen = profile("a,b\n1,2\n\n3,4\r\n\r\n\n")
    assert (seen["rows"], seen["blank_lines"], seen["columns"][0]["nulls"]) == (2, 3, 0)
    seen = profile("a\n1\n\n3\n")
    assert (seen["rows"], seen["blank_lines"], seen["columns"][0]["nulls"]) == (3, 0, 1)


def column(profile: Any, *values: str) -> dict[str, Any]:
    """Return the profile of a column with these values, beside one that is never empty."""
    seen = profile("x,y\n" + "".join(f"{value},1\n" for value in values))
    return dict(msgspec.json.decode(msgspec.json.encode(seen["columns"][0])))


@pytest.mark.parametrize(
    "marker",
    [
        "NaN",
        "nan",
        "NAN",
        "-nan",
        "+NaN",
        "1.#IND",
        "-1.#QNAN",
        "NA",
        "N/A",
        "<NA>",
        "#N/A",
        "null",
        "NULL",
        "None",
        "",
    ],
)
def test_a_missing_value_among_numbers_is_null(profile: Any, marker: str) -> None:
    """Each way in which programs write it; the numbers around it keep their type and mean."""
    seen = column(profile, "1", marker, "3")
    assert seen == {"name": "x", "type": "integer", "nulls": 1, "min": 1, "max": 3, "mean": 2.0}
    seen = column(profile, marker, "1.5", "2.5")
    assert seen == {"name": "x", "type": "number", "nulls": 1, "min": 1.5, "max": 2.5, "mean": 2.0}
    assert column(profile, "2024-01-02", marker)["type"] == "date"


def test_a_marker_among_texts_is_a_text(profile: Any) -> None:
    """NA is Namibia, and Null a name."""
    assert column(profile, "NA", "DE", "") == {
        "name": "x", "type": "text", "nulls": 1, "min": "DE", "max": "NA", "mean": None,
    }  # fmt: skip
    assert column(profile, "NA", "NA")["type"] == "text"
    assert column(profile, "NaN", "nan")["type"] == "empty"
    assert column(profile, "NaN", "nan")["nulls"] == 2


@pytest.mark.parametrize("endless", ["inf", "-Infinity", "+inf", "INF", "1e400", "-1E+999"])
def test_infinite_numbers_are_counted_apart(profile: Any, endless: str) -> None:
    seen = column(profile, "1", endless, "3", "NaN")
    assert seen == {
        "name": "x", "type": "number", "nulls": 1, "min": 1.0, "max": 3.0, "mean": 2.0, "infinite": 1,
    }  # fmt: skip
    assert column(profile, endless)["type"] == "text"


def test_means_do_not_overflow(profile: Any) -> None:
    assert column(profile, "1.7e308", "1.7e308", "-1.7e308", "-1.7e308", "5.0")["mean"] == 1.0
    assert column(profile, "1e308", "1e308")["mean"] == 1e308


@pytest.mark.parametrize(
    "code",
    ["02134", "-007", "+4930123456", "1E5", "12E10", "00.5", "1_000", " 1", "1 ", "1,000.0", "0x10", "١", "--1",
     "1e", "9" * 40, "20240229", "2024-2-29", "2024-02-30", "24-02-29"],
)  # fmt: skip
def test_a_code_stays_as_it_is_written(profile: Any, code: str) -> None:
    """A column is a number only if each value is one as programs write it."""
    quoted = f'"{code}"'
    seen = column(profile, quoted, quoted)
    if code == "20240229":
        assert (seen["type"], seen["min"]) == ("integer", 20240229)
        return
    assert (seen["type"], seen["min"], seen["max"], seen["mean"]) == ("text", code, code, None)
    assert column(profile, "5", quoted)["type"] == "text"


@pytest.mark.parametrize("written", ["1e5", "1E+5", "1.0E5", "1e-05", ".5", "5.", "-0.5", "0.0", "1.50"])
def test_numbers_as_programs_write_them(profile: Any, written: str) -> None:
    seen = column(profile, written, written)
    assert (seen["type"], seen["min"], seen["mean"]) == ("number", float(written), float(written))


def test_large_integers_are_exact(profile: Any) -> None:
    """Beyond 2^53, where readers of JSON may round, they are strings."""
    seen = column(profile, "9007199254740991", "9007199254740992", "-12345678901234567890")
    assert (seen["type"], seen["min"], seen["max"]) == ("integer", "-12345678901234567890", "9007199254740992")
    assert column(profile, "9007199254740991")["max"] == 9007199254740991
    near = column(profile, "12345678901234567890", "12345678901234567891")
    assert (near["min"], near["max"]) == ("12345678901234567890", "12345678901234567891")


def test_names_are_as_they_stand(profile: Any) -> None:
    """Equal, empty and very long names, and names that a parser might have made of them."""
    names = ["a", "a_duplicated_0", "a", "", "", "column_1", "_duplicated_0", "long" * 100]
    seen = profile(",".join(names) + "\n" + ",".join("12345678") + "\n")
    assert [one["name"] for one in seen["columns"]] == [*names[:-1], ("long" * 100)[:59] + "…"]
    assert [one["min"] for one in seen["columns"]] == list(range(1, 9))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_the_delimiter_is_found(profile: Any, mark: str) -> None:
    """It is certain if it alone gives all rows the same number of fields."""
    name = {"\t": "tab"}.get(mark, mark)
    seen = profile(f"name{mark}price\nA{mark}1,5\nB{mark}2\n")
    assert [one["name"] for one in seen["columns"]] == ["name", "price"]
    assert seen["delimiter"] == name
    assert "hint" not in seen
    assert profile(f'"a{mark}b",c\n1,2\n')["delimiter"] == ","


def test_a_delimiter_that_is_not_certain_is_a_hint(profile: Any) -> None:
    both = profile("1,5;2,5\n3,1;4,0\n", has_header=False)
    assert both["delimiter"] == ","
    assert "';'" in both["hint"]
    assert profile("1,5;2,5\n3,1;4,0\n", delimiter=";", has_header=False)["columns"][0]["max"] == "3,1"
    one = profile("a;b\n1;2\n", delimiter=",")
    assert len(one["columns"]) == 1
    assert "choose the delimiter ;" in one["hint"]
    with pytest.raises(Failed, match=r"^line 2 has 2 fields, but the first row has 1 \(the first row also splits"):
        profile("a;b\n1,5;2\n3\n")
    assert "hint" not in profile("note\nfirst; second\nthird\n")


@pytest.mark.parametrize("line", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n'])
def test_the_line_that_tells_the_delimiter(profile: Any, line: str) -> None:
    seen = profile(f"{line}a;b\n1;2\n")
    assert (seen["rows"], seen["delimiter"], [one["max"] for one in seen["columns"]]) == (1, ";", [1, 2])
    with pytest.raises(Failed, match=r"^line 3 has 1 fields"):
        profile(f"{line}a;b\n1\n")
    assert profile("sep=,\na;b\n1;2\n", delimiter=";")["rows"] == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_mark(profile: Any, encoding: str) -> None:
    seen = profile("näme\tb\nÄ\t2\n".encode(encoding))
    assert [(one["name"], one["max"]) for one in seen["columns"]] == [("näme", "Ä"), ("b", 2)]
    if encoding != "utf-8-sig":
        with pytest.raises(Failed, match="not whole"):
            profile("a\n1\n".encode(encoding)[:-1])


def workbook() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08\0gz", "the file is compressed with gzip, not a CSV file: unpack it"),
        (workbook(), "the file is an Excel workbook, not a CSV file: open it, and save the sheet as CSV"),
        (b"PK\x03\x04" + bytes(26) + b"a.csv", "the file is a ZIP archive, not a CSV file: unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "the file is a workbook or document of an old Office"),
        (b"PAR1\x15\x04", "the file is a Parquet file, not a CSV file: export the table as CSV"),
        (b"<!DOCTYPE html>\n<p>", "the file is a web page"),
        (b"\n <html lang=en>", "the file is a web page"),
        (b'[{"a": 1}]', "the file is JSON, not a CSV file: export"),
        (b'\xef\xbb\xbf{\n  "a": 1}', "the file is JSON"),
        (b"SQLite format 3\0", "the file is an SQLite database"),
        (b"%PDF-1.7", "the file is a PDF document"),
        (b"\xff\xd8\xff\xe0", "the file is a JPEG picture"),
        ("a,b\n1,2\n".encode("utf-16-le"), "this is not a CSV file, or one in UTF-16 without"),
        ("a\nFülle\n".encode("latin-1"), "line 2 is not UTF-8 (byte 0xfc, which may be Windows-1252 or Latin-1)"),
    ],
)
def test_other_files_are_named(profile: Any, content: bytes, message: str) -> None:
    with pytest.raises(Failed) as failed:
        profile(content)
    assert str(failed.value).startswith(message)
    assert failed.value.code == "malformed_csv"


@pytest.mark.parametrize("content", ["[a],b\n1,2\n", "{a},b\n1,2\n", "<b>,c\n1,2\n", "PK,b\n1,2\n", "BZ,b\n1,2\n"])
def test_text_that_begins_like_another_format_is_text(profile: Any, content: str) -> None:
    assert profile(content)["rows"] == 1


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
        (b"a,b\n" + b"1,2\n" * 50_000 + b"\xff,4\n", "line 50002 is not UTF-8"),
        (b"a,b\r1,2\r3,4\r", "line 1: a carriage return without a line feed"),
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


def test_progress_is_reported_while_reading_and_a_stop_is_obeyed(tmp_path: Path) -> None:
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
    assert said[-1] == 1.0
    report.cancel()
    with pytest.raises(Cancelled):
        csv_profile(file, report)


def test_random_tables_are_counted_as_written(profile: Any) -> None:
    """Rows and nulls of well-formed tables with nasty fields are counted, whatever the quoting."""
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
