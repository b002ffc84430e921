"""Makes the bytes of a ZIP archive around contents that are sent as they are read.

Must not know: jobs, files, or HTTP. Pure.
See also: results.py (the contents), APPNOTE.TXT of PKWARE (the format).

Python's zipfile cannot write to a stream without a data descriptor behind each stored entry, where a reader that
reads front to back cannot find it. Here an entry is stored, and its header has size and checksum. Only if they are
not known before (a large file would have to be read twice), an entry is deflated: such data tell their own end.
"""

from __future__ import annotations

import struct
import time
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_STORED, _DEFLATED = 0, 8
_DESCRIPTOR, _UTF8 = 0x08, 0x800  # flags
_MADE_BY_UNIX = 3 << 8
_MODE = 0o100644 << 16  # a regular file
_MOST, _MOST_ENTRIES = 0xFFFFFFFF, 0xFFFF  # in fields of 4 and 2 bytes; these values refer to ZIP64
_FIRST_YEAR = 1980
#: The times that a DOS date can name (epoch seconds): 1980 to 2107.
_FIRST_TIME, _LAST_TIME = 315_532_800, 4_354_819_198


@dataclass(slots=True)
class _Entry:
    name: bytes
    at: float
    offset: int
    method: int
    crc: int = 0
    packed: int = 0
    size: int = 0


class ZipStream:
    """An archive. For each entry, send `begin`, its content through `pack`, and `finish`; then send `end`."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._offset = 0
        self._packer: zlib._Compress | None = None
        self._missing = 0  # bytes of the stored entry that are still to come

    def begin(self, name: str, at: float, known: tuple[int, int] | None = None) -> bytes:
        """Return the header of an entry of this time (epoch seconds); `known` are its size and its CRC-32."""
        method = _DEFLATED if known is None else _STORED
        entry = _Entry(name.encode(), at, self._offset, method)
        if known is not None:
            entry.size, entry.crc = known
            entry.packed = self._missing = entry.size
        else:
            self._packer = zlib.compressobj(0, zlib.DEFLATED, -15)  # not smaller, but with an end
        self._entries.append(entry)
        return self._sent(_local_header(entry))

    def pack(self, content: bytes) -> bytes:
        """Return a piece of the entry's content as it is sent."""
        entry = self._entries[-1]
        if self._packer is None:
            self._missing -= len(content)
            return self._sent(content)
        entry.size += len(content)
        entry.crc = zlib.crc32(content, entry.crc)
        return self._packed(self._packer.compress(content))

    def finish(self) -> bytes:
        """Return what follows the entry's content. Raise ValueError if its size is not the one that was told."""
        if self._packer is None:
            if self._missing:
                raise ValueError(f"an entry has {-self._missing:+d} bytes more than its header says")
            return b""
        rest = self._packed(self._packer.flush())
        self._packer, entry = None, self._entries[-1]
        return rest + self._sent(struct.pack("<4sLQQ", b"PK\7\10", entry.crc, entry.packed, entry.size))

    def end(self) -> bytes:
        """Return the directory of all entries."""
        directory = b"".join(map(_directory_entry, self._entries))
        return directory + _end(len(self._entries), len(directory), self._offset)

    def _packed(self, piece: bytes) -> bytes:
        self._entries[-1].packed += len(piece)
        return self._sent(piece)

    def _sent(self, piece: bytes) -> bytes:
        self._offset += len(piece)
        return piece


class Names:
    """Names of entries, none of them twice: `photo.jpg`, `photo (2).jpg`. Windows and macOS ignore case."""

    def __init__(self, *taken: str) -> None:
        self._taken = set(map(_key, taken))
        self._last: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Return the name, with a number if it is taken."""
        found = name
        for found in self._candidates(name):
            if _key(found) not in self._taken:
                break
        self._taken.add(_key(found))
        return found

    def _candidates(self, name: str) -> Iterator[str]:
        body, dot, suffix = name.rpartition(".")
        if not body:
            body, dot, suffix = name, "", ""
        if _key(name) not in self._taken:
            yield name
        number = self._last.get(_key(name), 1)
        while True:
            number += 1
            self._last[_key(name)] = number  # or a thousand equal names would take half a million steps
            yield f"{body} ({number}){dot}{suffix}"


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _local_header(entry: _Entry) -> bytes:
    unknown = entry.method == _DEFLATED
    large = unknown or entry.size >= _MOST
    extra = _time(entry) + (struct.pack("<HHQQ", 1, 16, entry.size, entry.packed) if large else b"")
    sizes = (_MOST, _MOST) if large else (entry.packed, entry.size)
    head = struct.pack(
        "<4s5H3L2H", b"PK\3\4", _version(large), *_common(entry), entry.crc, *sizes, len(entry.name), len(extra)
    )
    return head + entry.name + extra


def _directory_entry(entry: _Entry) -> bytes:
    large = [value for value in (entry.size, entry.packed, entry.offset) if value >= _MOST]
    extra = _time(entry) + (struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b"")
    packed, size, offset = (min(value, _MOST) for value in (entry.packed, entry.size, entry.offset))
    version = _version(bool(large) or entry.method == _DEFLATED)
    head = struct.pack(
        "<4s6H3L5H2L",
        b"PK\1\2",
        _MADE_BY_UNIX | version,
        version,
        *_common(entry),
        entry.crc,
        packed,
        size,
        len(entry.name),
        len(extra),
        0,
        0,
        0,
        _MODE,
        offset,
    )
    return head + entry.name + extra


def _end(entries: int, size: int, offset: int) -> bytes:
    large = b""
    if entries >= _MOST_ENTRIES or size >= _MOST or offset >= _MOST:
        large = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, _MADE_BY_UNIX | 45, 45, 0, 0, entries, entries, size, offset
        ) + struct.pack("<4sLQL", b"PK\6\7", 0, offset + size, 1)
    count = min(entries, _MOST_ENTRIES)
    return large + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, min(size, _MOST), min(offset, _MOST), 0)


def _common(entry: _Entry) -> tuple[int, int, int, int]:
    """Return the flags, the method, and time and date for DOS."""
    flags = (0 if entry.name.isascii() else _UTF8) | (_DESCRIPTOR if entry.method == _DEFLATED else 0)
    at = time.gmtime(min(max(entry.at, _FIRST_TIME), _LAST_TIME))
    return (
        flags,
        entry.method,
        at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2,
        (at.tm_year - _FIRST_YEAR) << 9 | at.tm_mon << 5 | at.tm_mday,
    )


def _version(large: bool) -> int:
    return 45 if large else 20


def _time(entry: _Entry) -> bytes:
    """Return the time in UTC, as Unix and macOS unpack it; the time for DOS has no zone."""
    return struct.pack("<HHBl", 0x5455, 5, 1, int(max(0, min(entry.at, 2**31 - 1))))
