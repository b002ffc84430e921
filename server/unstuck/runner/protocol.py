"""Defines the messages between runner and worker: one JSON object per line, distinguished by its "type".

Must not know: processes, stores, user code. Both ends import this file and agree on nothing else.
See also: worker.py (one end), process.py and assignment.py (the other).

    runner → worker   load, once · then run · stop · recall · (end of file: exit at once, with everything that was
                      started)
    worker → runner   hello or failed, once · then progress…, done for each item, in the order of the runs · back
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from unstuck.kinds.option import KindInfo

MESSAGE_LIMIT = 500  # characters of a progress message, and of a reason for skipping
ERROR_LIMIT = 2_500  # characters of an error's message: room for the last 2 KB of a command's stderr
RESULT_LIMIT = 64 * 1024  # bytes of an item's result as JSON; more belongs in a result file
#: Levels of objects and lists in a result. Encoders and decoders recurse, and give up near Python's own limit.
RESULT_LEVELS = 100
# A reader may refuse longer lines. A result is the largest part of a message, except for the list of kinds.
LINE_LIMIT = 1024 * 1024  # bytes

# The worker's own exit codes; any other is a crash.
WORKER_LOAD_FAILED = 2  # after a `failed` message
WORKER_BROKE = 70  # EX_SOFTWARE: its own code failed, outside of the kind's; the log says why
WORKER_OUT_OF_MEMORY = 75  # EX_TEMPFAIL: there was no answer, and another attempt may succeed
WORKER_MISUNDERSTOOD = 76  # EX_PROTOCOL: a line was not a message; the log shows it

ItemState = Literal["succeeded", "failed", "skipped", "cancelled"]


class MalformedMessageError(Exception):
    """A line is not a message, whatever the reason."""


class Load(msgspec.Struct, frozen=True, kw_only=True, tag="load"):
    """Load the built-in kinds, those of `app`, and one for each command line; then say hello.

    It comes over the pipe because the arguments of a process can be read by every user of the machine.
    """

    app: str = ""
    commands: tuple[str, ...] = ()
    memory_mib: int = 0  # the worker's limit; 0 for none


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Work on this item. Several may be sent ahead. The worker creates the folder `output`, or empties it.

    `job` and `item` (its index) are for the log.
    """

    id: int
    kind: str
    name: str
    output: str
    options: dict[str, Any] = {}
    input: str | None = None
    attempt: int = 1
    job: str = ""
    item: int = 0


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Stop this item, whether it is running or waiting. Ignored for an item that is done."""

    id: int


class Recall(msgspec.Struct, frozen=True, kw_only=True, tag="recall"):
    """Return this item if it has not started. Ignored for an item that is running or done."""

    id: int


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The worker is ready for runs of these kinds."""

    pid: int
    kinds: tuple[KindInfo, ...]


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The kinds could not be loaded; the worker exits with WORKER_LOAD_FAILED."""

    message: str


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """The progress of an item, from 0 to 1 (null: unknown), and its newest message (null: there was none)."""

    id: int
    fraction: float | None = None
    message: str | None = None


class ItemError(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why an item failed. If it is `transient`, another attempt may succeed."""

    code: str
    message: str
    transient: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """The outcome of an item, after which no message about it follows.

    `result` is a JSON value; None means that there is none. `file` names a regular file in `output`.

    After the `last` one the worker exits, because an item has changed its process: it starts no other item.
    """

    id: int
    state: ItemState
    message: str | None = None
    error: ItemError | None = None
    result: Any = None
    file: str | None = None
    last: bool = False


class Returned(msgspec.Struct, frozen=True, kw_only=True, tag="back"):
    """The item was recalled before it started, and will not run here."""

    id: int


ToWorker = Load | Run | Stop | Recall
ToRunner = Hello | LoadFailed | Progress | Done | Returned

_encoder = msgspec.json.Encoder()
_to_worker: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
_to_runner: msgspec.json.Decoder[ToRunner] = msgspec.json.Decoder(ToRunner)


def encode(*messages: ToWorker | ToRunner) -> bytes:
    """Encode each message as one line; JSON escapes line breaks inside texts."""
    return _encoder.encode_lines(messages)


def decode_for_worker(lines: bytes) -> list[ToWorker]:
    """Decode these whole lines from the runner. Raises MalformedMessageError if one is not a message."""
    try:
        return _to_worker.decode_lines(lines)
    except Exception as error:  # a RecursionError, for instance
        raise MalformedMessageError(str(error)) from error


def decode_for_runner(lines: bytes) -> list[ToRunner]:
    """Decode these whole lines from a worker. Raises MalformedMessageError if one is not a message."""
    try:
        return _to_runner.decode_lines(lines)
    except Exception as error:  # a RecursionError, for instance
        raise MalformedMessageError(str(error)) from error


def fit_text(text: str, limit: int) -> str:
    """Cut the text to `limit` characters, and remove or replace what UTF-8 or a database refuses."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.replace("\0", "").encode("utf-8", "replace").decode()
