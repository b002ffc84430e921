"""Sets up logging in a worker process, and logs the exceptions of kinds and of the worker itself.

Must not know: the protocol's messages beyond the run that failed.
See also: worker.py (the caller), item_error.py (what users read).

User code logs as in any program: the root logger passes level INFO to descriptor 2, the server's log. Handlers
that the code installs (for Sentry, for example) receive what the worker logs about its kinds, as `unstuck.kind`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import traceback

from unstuck.runner import protocol

log = logging.getLogger("unstuck.kind")


class _ToDescriptor(logging.Handler):
    """Writes to descriptor 2 and not to sys.stderr, which user code may have replaced or closed."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 (as logging's own handlers do)
            self.handleError(record)


def set_up() -> None:
    """Let the log lines of user code through, with time and level."""
    handler = _ToDescriptor()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def log_failure(run: protocol.Run, error: BaseException) -> None:
    """Log the exception of a kind, once."""
    log.disabled = False  # dictConfig and fileConfig switch existing loggers off, if not told otherwise
    try:
        log.error(
            "Item failed: job=%s item=%d attempt=%d kind=%s name=%r worker=%d",
            run.job,
            run.item,
            run.attempt,
            run.kind,
            run.name,
            os.getpid(),
            exc_info=error,
            extra={"job": run.job, "item": run.item, "attempt": run.attempt},
        )
    except MemoryError:
        raise
    except BaseException as failure:  # noqa: BLE001 (a handler or filter of user code)
        log_exception("Item failed and could not be logged", error, job=run.job, item=run.item)
        log_exception("Logging failed", failure)


def log_exception(what: str, error: BaseException, **details: object) -> None:
    """Log an exception without the logging module, which user code may have changed."""
    trace = "".join(traceback.format_exception(error))
    pairs = "".join(f" {name}={value!r}" for name, value in details.items())
    with contextlib.suppress(OSError):  # the log is no longer read
        _write(f"{what}: worker={os.getpid()}{pairs}\n{trace}")


def _write(text: str) -> None:
    os.write(2, text.encode("utf-8", "backslashreplace"))
