"""What tests need of the machine beside Python: programs, and the right to mount.

`scripts/test` installs the programs. So a missing one fails the test where it could have been installed, as root
on Linux, and skips it elsewhere.
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
    """A mark: this test runs `program`, which Debian's `package` brings."""
    return pytest.mark.skipif(
        shutil.which(program) is None and not INSTALLS, reason=f"needs {program} (apt-get install {package})"
    )


@contextmanager
def mounted(place: Path, options: str = "rw") -> Iterator[None]:
    """A tmpfs with these options at `place`; skips the test where mounting is not allowed."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:  # a server that is being ended may keep it busy for a moment
        eventually(
            lambda: subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0
        )
