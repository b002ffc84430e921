"""`recognize(head)`: says what a file is by its first bytes, for the errors of kinds that cannot read it.

It decides the words and the group of each format. It must not know what a kind reads.
See also: csv_dialect.py and thumbnail.py (which advice follows).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

#: Bytes from the start of a file that `recognize` wants to see.
HEAD_BYTES = 4096

Group = Literal["archive", "workbook", "table", "document", "picture", "video"]


class FileType(NamedTuple):
    """A format: its name, with an article, and the group that decides what to do about it."""

    name: str
    group: Group


# In this order: a workbook is also a ZIP, an SVG picture is also XML.
_PATTERNS: tuple[tuple[bytes, FileType], ...] = (
    (rb"PK\x03\x04.*(?:xl/|\[Content_Types\]\.xml.*xl)", FileType("an Excel workbook", "workbook")),
    (rb"PK\x03\x04.*opendocument\.spreadsheet", FileType("an OpenDocument spreadsheet", "workbook")),
    (rb"PK\x03\x04.*(?:word/|ppt/|\[Content_Types\])", FileType("an Office document", "document")),
    (rb"PK(?:\x03\x04|\x05\x06)", FileType("a ZIP archive", "archive")),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileType("a workbook or document of an old Office", "workbook")),
    (rb"\x1f\x8b", FileType("compressed with gzip", "archive")),
    (rb"BZh[1-9]", FileType("compressed with bzip2", "archive")),
    (rb"\xfd7zXZ\0", FileType("compressed with xz", "archive")),
    (rb"\x28\xb5\x2f\xfd", FileType("compressed with zstd", "archive")),
    (rb"7z\xbc\xaf\x27\x1c", FileType("a 7-Zip archive", "archive")),
    (rb"Rar!\x1a\x07", FileType("a RAR archive", "archive")),
    (rb".{257}ustar", FileType("a tar archive", "archive")),
    (rb"PAR1", FileType("a Parquet file", "table")),
    (rb"(?:ARROW1|FEA1)", FileType("an Arrow or Feather file", "table")),
    (rb"Obj\x01", FileType("an Avro file", "table")),
    (rb"SQLite format 3\0", FileType("an SQLite database", "table")),
    (rb"%PDF-", FileType("a PDF document", "document")),
    (rb"\{\\rtf", FileType("an RTF document", "document")),
    (rb"%!PS", FileType("a PostScript document", "document")),
    (rb"\x89PNG\r\n\x1a\n", FileType("a PNG picture", "picture")),
    (rb"\xff\xd8\xff", FileType("a JPEG picture", "picture")),
    (rb"GIF8[79]a", FileType("a GIF picture", "picture")),
    (rb"RIFF....WEBP", FileType("a WebP picture", "picture")),
    (rb"(?:II\*\0|MM\0\*|II\x2b\0|MM\0\x2b)", FileType("a TIFF or raw camera picture", "picture")),
    (rb"....ftyp(?:avif|avis)", FileType("an AVIF picture", "picture")),
    (rb"....ftyp(?:heic|heix|hevc|hevx|heim|heis|mif1|msf1)", FileType("a HEIC picture", "picture")),
    (rb"....ftypcrx ", FileType("a raw camera picture", "picture")),
    (rb"....ftyp", FileType("a video or sound", "video")),
    (rb"(?:\0\0\0\x0cJXL |\xff\x0a)", FileType("a JPEG XL picture", "picture")),
    (rb"(?:\0\0\0\x0cjP  |\xff\x4f\xff\x51)", FileType("a JPEG 2000 picture", "picture")),
    (rb"8BPS", FileType("a Photoshop picture", "picture")),
    (rb"\0\0[\1\2]\0[^\0]", FileType("an icon", "picture")),
    (rb"\x1a\x45\xdf\xa3", FileType("a video or sound", "video")),
    (rb"\s*(?:<\?xml.*)?(?:<!--.*-->\s*)?<svg[\s>]", FileType("an SVG drawing", "picture")),
    (rb"\s*(?i:<!doctype html|<html[\s>])", FileType("a web page (HTML)", "document")),
    (rb"\s*<\?xml", FileType("an XML document", "document")),
    (rb'\s*(?:\{\s*(?:"|\})|\[\s*[\[{"])', FileType("JSON", "table")),
)
_COMPILED = tuple((re.compile(pattern, re.DOTALL), found) for pattern, found in _PATTERNS)


def recognize(head: bytes) -> FileType | None:
    """Return the format of a file that begins with `head`; None for plain text and for what is not known."""
    head = head[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    return next((found for pattern, found in _COMPILED if pattern.match(head)), None)
