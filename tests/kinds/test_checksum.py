"""The checksum equals that of hashlib, and progress follows the bytes read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from unstuck import Cancelled, Report
from unstuck.kinds.checksum import checksum


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024 - 1, 1024 * 1024, 1024 * 1024 + 1, 5_000_000])
def test_sizes(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    file = tmp_path / "input"
    file.write_bytes(content)
    report = Report("a", tmp_path)
    assert checksum(file, report) == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": size}
    assert report.fraction == (1.0 if size else None)


def test_it_stops(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"x")
    report = Report("a", tmp_path)
    report.cancel()
    with pytest.raises(Cancelled):
        checksum(file, report)
