"""Requirements that tests have beyond Python: programs, and the right to mount file systems.

`scripts/test` installs the programs where it can, which is as root on Linux. A program that is missing there fails
its tests; elsewhere they are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import eventually

INSTALLS = sys.platform == "linux" and os.geteuid() == 0


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Mark a test that runs `program`, which is in Debian's `package`."""
    return pytest.mark.skipif(
        shutil.which(program) is None and not INSTALLS, reason=f"needs {program} (apt-get install {package})"
    )


@contextmanager
def mounted(place: Path, options: str = "rw") -> Iterator[None]:
    """Mount a tmpfs with these options at `place`; skip the test where mounting is not allowed."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:  # a server that is shutting down may keep it busy for a moment
        eventually(
            lambda: subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0
        )
