"""`find_dialect(file, delimiter)`: the encoding and the delimiter of a CSV file, judged by its beginning.

It decides what is certain enough: an encoding only by its byte order mark, a delimiter only if it gives every row
of the sample the same number of fields, at least two, and no other one does. Anything else is a hint for a person.
It refuses files that are not text, and says what they are.
See also: csv_rows.py (reads the rows), file_types.py (recognizes other formats).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from unstuck.kinds.file_types import FileType, recognize
from unstuck.kinds.outcome import Failed

SAMPLE_BYTES = 64 * 1024
DELIMITERS = (",", ";", "\t", "|")
#: Delimiters in words, where the character itself cannot be seen.
NAMES = {"\t": "tab", " ": "space"}

# UTF-32 first: its mark begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: The line by which Excel tells the delimiter.
_SEP_LINE = re.compile(r'"?sep=([^\w"\r\n])"?\r?(?:\n|$)', re.IGNORECASE)
_CURES: Mapping[str, str] = {
    "archive": "unpack it, and submit the CSV file inside",
    "workbook": "open it, and save the sheet as CSV (UTF-8)",
    "table": "export the table as CSV",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to read a file. `preamble` counts the lines before the table; `hint` is a sentence for a person."""

    encoding: str
    delimiter: str
    preamble: int = 0
    hint: str | None = None


def malformed(message: str) -> Failed:
    return Failed(message, code="malformed_csv")


def find_dialect(file: Path, delimiter: str | None) -> Dialect:
    """Return the dialect; `delimiter` is used if it is given. Raise Failed if the file is not text."""
    with file.open("rb") as stream:
        head = stream.read(SAMPLE_BYTES)
    encoding = _encoding(head)
    text = codecs.getincrementaldecoder(encoding)("ignore").decode(head)
    sep_line = _SEP_LINE.match(text)
    if sep_line:
        text = text[sep_line.end() :]
    if len(head) == SAMPLE_BYTES:
        text = text[: text.rfind("\n") + 1]
    preamble = 1 if sep_line else 0
    if sep_line and delimiter is None:
        return Dialect(encoding, sep_line[1], preamble)
    widths = {one: _widths(text, one) for one in DELIMITERS}
    regular = [one for one, found in widths.items() if len(set(found)) == 1 and found[0] > 1]
    used = delimiter or ("," if "," in regular or not regular else regular[0])
    return Dialect(encoding, used, preamble, _hint(used, regular, widths))


def _encoding(head: bytes) -> str:
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), "utf-8")
    if marked not in ("utf-8", "utf-8-sig"):
        return marked
    found = recognize(head)
    if found is not None:
        raise malformed(f"{_what(found)}, not a CSV file: {_CURES.get(found.group, 'submit a CSV file')}")
    if head.count(0) > len(head) / 4:
        raise malformed(
            "this is not a CSV file, or one in UTF-16 without a byte order mark: save the file as CSV (UTF-8)"
        )
    return marked


def _what(found: FileType) -> str:
    return f"the file is {found.name}"


def _widths(text: str, delimiter: str) -> list[int]:
    """Return the number of fields of each row that is not blank; nothing if the rows cannot be read like this."""
    import csv  # here, because every worker imports this file and few need it

    try:
        # Of an unfinished row at the end only the beginning is known.
        return [len(row) for row in csv.reader(_lines(text), delimiter=delimiter, strict=True) if row]
    except csv.Error:
        return []


def _lines(text: str) -> Iterator[str]:
    return (line + "\n" for line in text.split("\n"))


def _hint(used: str, regular: list[str], widths: Mapping[str, list[int]]) -> str | None:
    others = [one for one in regular if one != used]
    if not others and widths.get(used, [1])[:1] == [1]:
        others = [one for one, found in widths.items() if one != used and found[:1] > [1]]
    if not others:
        return None
    name = NAMES.get(others[0], others[0])
    return f"the first row also splits at {name!r}: choose the delimiter {name} if the columns look wrong"
