"""`Report`: what a kind's code is given to say how far it is, and to hear that it should stop.

Decides: what is passed on and when: the first report at once, then the newest at most every 0.1 s.
Must not know: where reports go. `send` is given; without one, the report only remembers (for tests of a kind).

A report that comes too early is kept, not dropped: somebody calls `pass_on()` every 0.1 s, so that the last
words before a long silence ("uploading…") reach the screen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from unstuck.kinds.outcome import Cancelled

# The screen is drawn a few times a second; more reports would only cost.
REPORT_INTERVAL = 0.1  # seconds


class Report:
    """`report(done, total, "message")`; or `report(fraction)` from 0 to 1; or `report(None)` where nobody knows.

    Costs about 0.3 µs when nothing is due, so call it in the inner loop, from any thread. Raises `Cancelled` once
    somebody asked to stop.

    `name`       the item's label for people; not a safe file name
    `output`     an existing, empty, private folder for result files
    `attempt`    1, and more when the item is tried again
    `cancelled`  true once somebody asked to stop, for code that would rather look than be interrupted
    `fraction`, `message`  the newest report
    """

    def __init__(
        self,
        name: str,
        output: Path | str,
        attempt: int = 1,
        send: Callable[[float | None, str | None], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        prepare: Callable[[Path], None] | None = None,
    ) -> None:
        self.name, self.attempt = name, attempt
        self.cancelled = False
        self.fraction: float | None = None
        self.message: str | None = None
        self._send, self._clock = send, clock
        self._due = clock()
        self._news = False
        self._lock = threading.Lock()
        self._output, self._prepare = output, prepare

    @property
    def output(self) -> Path:
        # Made when it is asked for: of ten thousand items that write no file, none needs a folder (nor a Path of
        # it, which takes 2.6 µs).
        if self._prepare is not None:
            with self._lock:
                if self._prepare is not None:
                    self._prepare(Path(self._output))
                    self._prepare = None
        return Path(self._output)

    def __call__(self, done: float | None, total: float | None = None, message: str | None = None) -> None:
        if self.cancelled:
            raise Cancelled
        # 0 of 0 is 0, and a text raises TypeError here, in the code that gave it.
        self.fraction = None if done is None else done / (total or 1)
        if message is not None:
            self.message = str(message)
        self._news = True
        if self._clock() >= self._due:
            self.pass_on()

    def hush(self, seconds: float) -> None:
        """Pass nothing on before so long from now: of what ends sooner, only the end is worth saying."""
        self._due = self._clock() + seconds

    def pass_on(self) -> None:
        """Send the newest report if there is one and it is due."""
        with self._lock:
            now = self._clock()
            if not self._news or now < self._due or self._send is None:
                return
            self._news, self._due = False, now + REPORT_INTERVAL
            self._send(_clamped(self.fraction), self.message)

    def cancel(self) -> None:
        """Ask the code to stop: its next report raises `Cancelled`."""
        self.cancelled = True

    def close(self) -> None:
        """The item has ended: nothing is sent any more, and a thread that was left behind gets `Cancelled`."""
        self.cancelled = True
        with self._lock:
            self._send = None


def _clamped(fraction: float | None) -> float | None:
    """Within 0 and 1; None for NaN, which is neither."""
    if fraction is None or fraction != fraction:
        return None
    return min(max(float(fraction), 0.0), 1.0)
