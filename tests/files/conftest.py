"""A data folder without a server, and a monotonic clock that tests move."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clock import Clock
from unstuck.files.folder import DataFolder


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path)
    folder.files.mkdir()
    return folder


@pytest.fixture
def steady() -> Clock:
    return Clock(5.0)
