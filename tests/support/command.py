"""Runs the command `unstuck` as a shell does."""

from __future__ import annotations

import os
import subprocess
import sys


def unstuck(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "unstuck", *words], capture_output=True, text=True, timeout=60)


def refused_to_start(*arguments: str, **environ: str) -> str:
    """Run `unstuck …`, expect exit code 2 and one sentence; returns it."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("UNSTUCK_")}
    done = subprocess.run(
        [sys.executable, "-m", "unstuck", *arguments], capture_output=True, text=True, timeout=30,
        env={**clean, **environ, "COLUMNS": "200"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    if "--app" not in arguments:  # the author of an app file needs the traceback
        assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("unstuck: ")
    return done.stderr
