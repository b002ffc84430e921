"""A program: `unstuck serve` whose wall clock goes ahead by what stands in a file, in seconds, read each time.

    CLOCK_FILE=ahead python -m tests.crash.set_clock serve …

Its steady clock is the machine's, as it is where somebody sets the wall clock. (libfaketime would do the same, but
makes time.sleep() of Python fail in the workers.) Nothing in the product knows of this.
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
