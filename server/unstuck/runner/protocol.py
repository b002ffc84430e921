"""The messages between runner and worker: one JSON object a line, told apart by its "type".

Decides: the messages, their fields, their limits and the worker's exit codes.
Must not know: processes, stores, user code. Both ends import this file, and nothing else is agreed.
Read on: worker.py (one end), process.py and assignment.py (the other).

    runner → worker   run · stop · recall · (end of file: end at once, with all that was started)
    worker → runner   hello or failed, once · then progress…, done for each item, in the order of the runs · back
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from unstuck.kinds.option import KindInfo

MESSAGE_LIMIT = 500  # characters of a progress message, and of a reason for skipping
ERROR_LIMIT = 2_500  # characters of an error's message: room for the last 2 KB of a command's stderr
RESULT_LIMIT = 64 * 1024  # bytes of an item's result as JSON; more belongs into a result file
# A reader may refuse longer lines. A result is the largest part of a message, except for the list of kinds.
LINE_LIMIT = 1024 * 1024  # bytes

# The worker's own exit codes; any other is a crash.
WORKER_LOAD_FAILED = 2  # after a `failed` message
WORKER_OUT_OF_MEMORY = 75  # EX_TEMPFAIL: nothing was answered, another attempt may fare better
WORKER_MISUNDERSTOOD = 76  # EX_PROTOCOL: a line that is no message; the log shows it

ItemState = Literal["succeeded", "failed", "skipped", "cancelled"]


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Work on this item. Several may be sent ahead. `output` is made by the worker, and emptied if it exists."""

    id: int
    kind: str
    name: str
    output: str
    options: dict[str, Any] = {}
    input: str | None = None
    attempt: int = 1


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Stop this item, running or still waiting. Ignored for an item that is done."""

    id: int


class Recall(msgspec.Struct, frozen=True, kw_only=True, tag="recall"):
    """Give this item back, if it has not begun. Ignored for an item that runs or is done."""

    id: int


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The worker is ready for runs of these kinds."""

    pid: int
    kinds: tuple[KindInfo, ...]


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The kinds could not be loaded; the worker exits with WORKER_LOAD_FAILED."""

    message: str


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far an item is: 0 to 1, null if not known. `message` is the newest one given, null if there was none."""

    id: int
    fraction: float | None = None
    message: str | None = None


class ItemError(msgspec.Struct, frozen=True, kw_only=True):
    """Why an item failed; `transient` says that another attempt may succeed."""

    code: str
    message: str
    transient: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """How an item ended; its last message. `file` is the name of a regular file inside `output`."""

    id: int
    state: ItemState
    message: str | None = None
    error: ItemError | None = None
    result: dict[str, Any] | None = None
    file: str | None = None


class Returned(msgspec.Struct, frozen=True, kw_only=True, tag="back"):
    """This item was recalled before it began, and is not done here."""

    id: int


ToWorker = Run | Stop | Recall
ToRunner = Hello | LoadFailed | Progress | Done | Returned

_encoder = msgspec.json.Encoder()
_to_worker: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
_to_runner: msgspec.json.Decoder[ToRunner] = msgspec.json.Decoder(ToRunner)


def encode(*messages: ToWorker | ToRunner) -> bytes:
    """One line for each message; JSON escapes line ends inside texts."""
    return _encoder.encode_lines(messages)


def decode_for_worker(lines: bytes) -> list[ToWorker]:
    """The runner's messages in these whole lines. Raises msgspec.DecodeError if a line is no message."""
    return _to_worker.decode_lines(lines)


def decode_for_runner(lines: bytes) -> list[ToRunner]:
    """The worker's messages in these whole lines. Raises msgspec.DecodeError if a line is no message."""
    return _to_runner.decode_lines(lines)


def fit_text(text: str, limit: int) -> str:
    """The text cut to `limit` characters, without what UTF-8 or a database refuses."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.replace("\0", "").encode("utf-8", "replace").decode()
