"""Runs `unstuck serve` with a wall clock that is ahead by the number of seconds in a file, read each time.

    CLOCK_FILE=ahead python -m tests.crash.set_clock serve …

The steady clock is unchanged, as when the wall clock of a machine is set. (libfaketime would do the same, but
makes Python's time.sleep() fail in the workers.) Nothing in the product knows of this.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

if __name__ == "__main__":
    ahead = Path(os.environ["CLOCK_FILE"])
    real = time.time
    time.time = lambda: real() + float(ahead.read_text())

    from unstuck.cli.commands import main

    main()
