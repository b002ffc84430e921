"""Every exception of unstuck, as one tree.

    UnstuckError
    ├── Refused               a command or request that the rules do not allow; the caller can correct it
    │   ├── InvalidRequest    the request cannot be read; `code` says which part
    │   ├── InvalidJobId      the job id is not a UUID
    │   ├── JobNotFound       no such job, or it was removed
    │   ├── NotFound          no such item, result file or page
    │   ├── UnknownKind       no such kind of work is registered
    │   ├── InvalidOptions    the kind does not accept these options
    │   ├── KeyReused         the Idempotency-Key belongs to another submission
    │   ├── TooLarge          a limit on files, bytes or names was exceeded
    │   ├── BodyTooSlow       the body of the request came too slowly
    │   ├── JobFinished       the job is finished and cannot change
    │   ├── ItemFinished      the item already ended in another state
    │   ├── NotExternal       a report about a job whose work this server does itself
    │   ├── ExternalJob       the work runs elsewhere, so no worker holds the job's items
    │   ├── JobNotDone        the job must be finished first
    │   ├── NothingToRetry    no item of the job failed or was cancelled
    │   ├── DamagedJob        the record of the job cannot be read in full, so it cannot be repeated
    │   ├── InputsGone        the job's files were removed
    │   ├── QueueFull         too many unfinished jobs; there is room again later
    │   ├── LeaseLost         a command under an outdated lease
    │   ├── RangeNotSatisfiable  the file has none of the requested ranges
    │   ├── HostNotAllowed    the request was sent to a host name that is not allowed
    │   ├── Forbidden         a cross-site request
    │   ├── WorkClosed        workers elsewhere are not let in
    │   └── Unauthorized      the secret of workers elsewhere is missing or wrong
    ├── StreamsFull           too many open streams; polls are still answered
    ├── UploadsFull           too many uploads at once; nothing was kept
    ├── StoreUnavailable      the store cannot be read or written now
    ├── StorageFull           no room for the uploaded files; nothing was kept
    ├── ServerRefused         raised by a client: the server refused; `code`, `status` and detail are the server's
    ├── NoAnswer              raised by a client: the server did not answer
    ├── FileUnusable          raised by a client: a file to submit cannot be read, or changed while it was sent
    │   └── FileMissing       raised by a client: a file to submit does not exist
    ├── JobTimeoutError       raised by a client: no news of a job for 30 minutes; the job itself continues
    └── CannotStart           a wrong setting, folder or file; exit code 2

An exception's message says what went wrong and what to do. `code` is a stable word for programs, `status` is the
HTTP status, `title` is a short heading.
The exceptions must not know requests, responses or the store.
"""

from __future__ import annotations

from typing import Protocol


class Reason(Protocol):
    """Why a job ended: a stable word, and a sentence for people."""

    @property
    def code(self) -> str: ...

    @property
    def message(self) -> str: ...


class UnstuckError(Exception):
    """The base of all exceptions of unstuck; `str(error)` says what went wrong and what to do."""

    code = "error"
    status = 500
    title = "Internal error"

    def __init__(self, detail: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class Refused(UnstuckError):
    """The rules do not allow the command or request; nothing was changed."""

    code, status, title = "refused", 409, "Refused"


class InvalidRequest(Refused):
    """The request cannot be read; the detail names the part and the form it must have."""

    code, status, title = "invalid_request", 400, "Invalid request"


class InvalidJobId(Refused):
    """The job id is not a UUID."""

    code, status, title = "invalid_job_id", 400, "Invalid job id"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text[:60]!r} is not a job id. A job id is a UUID such as "
            "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b; copy it from where the job was submitted."
        )


class JobNotFound(Refused):
    """There is no such job, or it was removed."""

    code, status, title = "job_not_found", 404, "Job not found"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"There is no job {job_id} on this server. It may have been removed, or it belongs to another server. "
            "A list of this server's jobs shows which there are (unstuck jobs)."
        )


class NotFound(Refused):
    """There is nothing at this address."""

    code, status, title = "not_found", 404, "Not found"


class UnknownKind(Refused):
    """No kind of work is registered under this name."""

    code, status, title = "unknown_kind", 422, "Unknown kind of work"


class KindUnavailable(Refused):
    """The kind of work cannot be used on this server; the message says what to do about it."""

    code, status, title = "kind_unavailable", 422, "Kind of work unavailable"


class InvalidOptions(Refused, ValueError):
    """The kind of work does not accept these options; the message names the option and what is allowed."""

    code, status, title = "invalid_options", 422, "Invalid options"


class KeyReused(Refused):
    """The Idempotency-Key was used for another submission."""

    code, status, title = "idempotency_key_reused", 422, "Idempotency key reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for a different submission. Use a new key for a new job, and repeat a "
            "key only to send exactly the same job again."
        )


class TooLarge(Refused):
    """A limit on files, bytes or names was exceeded; the code says which."""

    code, status, title = "too_large", 413, "Too large"


class BodyTooSlow(Refused):
    """The body of a request came too slowly, or not at all; nothing was kept."""

    code, status, title = "body_too_slow", 408, "Request body too slow"

    def __init__(self, window_s: float) -> None:
        super().__init__(
            f"The body of the request has brought almost nothing for {window_s:g} s. Nothing was kept; check the "
            "network and send it again."
        )


class JobFinished(Refused):
    """The job is finished, and a finished job cannot change."""

    code, status, title = "job_finished", 409, "Job finished"

    def __init__(self, job_id: str, state: str, reason: Reason | None = None) -> None:
        because = "" if reason is None else f" ({reason.code}: {reason.message})"
        super().__init__(
            f"Job {job_id} is already {state}{because}, and a finished job cannot change. To do the work again, "
            "retry it or submit a new job."
        )


class ItemFinished(Refused):
    """The item already ended, in another state than the one reported now."""

    code, status, title = "item_finished", 409, "Item finished"


class NotExternal(Refused):
    """This server does the work of the job itself, so it accepts no reports about it."""

    code, status, title = "not_external", 409, "Not an external job"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"This server does the work of job {job_id} itself, so it accepts no reports about it. To report on "
            'work that runs elsewhere, submit the job with "external": true.'
        )


class ExternalJob(Refused):
    """The work of the job runs elsewhere, where this server cannot stop or restart it."""

    code, status, title = "work_elsewhere", 409, "The work runs elsewhere"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The work of job {job_id} runs elsewhere, so no worker here holds its items. Restart the program "
            "that reports on the job; it may continue where it stopped. Or end the job as failed (unstuck fail)."
        )


class JobNotDone(Refused):
    """The job must be finished first."""

    code, status, title = "job_not_done", 409, "Job not done"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Job {job_id} is not finished yet. Wait for it to finish, or cancel it first.")


class NothingToRetry(Refused):
    """No item of the job failed or was cancelled."""

    code, status, title = "nothing_to_retry", 409, "Nothing to retry"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"No item of job {job_id} failed or was cancelled. To run all items again, send "
            '{"only": "all"} (unstuck retry --all).'
        )


class DamagedJob(Refused):
    """The record of the job is damaged, so it is not known what its work was."""

    code, status, title = "unreadable", 409, "Damaged record"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The server's record of job {job_id} is damaged, so its work cannot be repeated. Submit it as a new "
            "job."
        )


class InputsGone(Refused):
    """The job's input files were removed."""

    code, status, title = "inputs_gone", 410, "Files gone"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The server no longer has the files of job {job_id}, so the job cannot run again. "
            "Submit the files as a new job."
        )


class QueueFull(Refused):
    """The server has as many unfinished jobs as it accepts; nothing was kept."""

    code, status, title = "queue_full", 429, "Queue full"
    #: Jobs finish all the time, which makes room (seconds).
    retry_after_s = 5

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The server already has {most:,} unfinished jobs and accepts no more (setting max_waiting_jobs). "
            "Nothing was kept. Try again later, when some of them are done."
        )


class StreamsFull(UnstuckError):
    """The server has as many open streams as it accepts; polls are still answered."""

    code, status, title = "streams_full", 503, "Too many streams"
    #: Streams close all the time, which makes room (seconds).
    retry_after_s = 5

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The server already has {most:,} open streams and accepts no more (setting max_streams, or the limit "
            "on open files: ulimit -n). Poll the job's status instead, and try the stream again later."
        )


class UploadsFull(UnstuckError):
    """The server receives as many bodies as it can at once; nothing was kept."""

    code, status, title = "uploads_full", 503, "Too many uploads"
    #: Uploads end all the time, which makes room (seconds).
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__(
            "The server receives as many uploads as it can at once (setting max_uploads, and 64 MiB of JSON). "
            "Nothing was kept. Try again in a few seconds."
        )


class LeaseLost(Refused):
    """The item was taken from this runner, which must drop its work on it."""

    code, status, title = "lease_lost", 409, "Lease lost"


class RangeNotSatisfiable(Refused):
    """The file has none of the bytes that were asked for."""

    code, status, title = "range_not_satisfiable", 416, "Range not satisfiable"

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"The file has {size:,} bytes, and none of those that the header Range asks for.")


class HostNotAllowed(Refused):
    """The request was sent to a host name that is not allowed."""

    code, status, title = "host_not_allowed", 421, "Misdirected request"


class Forbidden(Refused):
    """The request came from a page of another site."""

    code, status, title = "forbidden", 403, "Forbidden"


class WorkClosed(Refused):
    """This server lets no workers elsewhere in."""

    code, status, title = "work_closed", 403, "Workers elsewhere are not let in"

    def __init__(self) -> None:
        super().__init__(
            "This server lets no workers on other machines in. Start it with UNSTUCK_WORK_TOKEN, a secret of 16 "
            "characters or more, and give the workers the same."
        )


class Unauthorized(Refused):
    """The secret of workers elsewhere is missing or wrong."""

    code, status, title = "unauthorized", 401, "Wrong token"

    def __init__(self) -> None:
        super().__init__(
            "The token is missing or wrong. Send the server's UNSTUCK_WORK_TOKEN as Authorization: Bearer TOKEN."
        )


class StoreUnavailable(UnstuckError):
    """The store cannot be read or written now. Nothing was changed, unless the message says otherwise."""

    code, status, title = "store_unavailable", 503, "Store unavailable"


class StorageFull(UnstuckError):
    """The data folder has no room for the files; nothing was kept."""

    code, status, title = "storage_full", 507, "Storage full"


class ServerRefused(UnstuckError):
    """The server answered a client with an error; `code`, `status` and detail are the server's."""

    code, status, title = "refused", 400, "The server refused the request"


class NoAnswer(UnstuckError):
    """The server could not be reached, or its answer never came."""

    code, status, title = "no_answer", 503, "No answer"

    def __init__(self, url: str, reason: str, advice: str) -> None:
        self.advice = advice
        super().__init__(f"No answer from {url}: {reason}. {advice}")


class FileUnusable(UnstuckError, OSError):
    """A file to submit cannot be read, or changed while it was sent; nothing was submitted."""

    code, status, title = "file_unusable", 400, "File unusable"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path!r} {why}")


class FileMissing(FileUnusable, FileNotFoundError):
    """A file to submit does not exist."""

    title = "File missing"


class JobTimeoutError(UnstuckError):
    """A client stopped watching after 30 minutes without news of the job. The job itself continues."""

    code, status, title = "job_timeout", 504, "No news of the job"

    def __init__(self, job_id: str, elapsed_minutes: int) -> None:
        self.job_id = job_id
        self.elapsed_minutes = elapsed_minutes
        super().__init__(
            f"Stopped watching job {job_id} after {elapsed_minutes} minutes, because there was no news of it for "
            "too long. The job itself continues, and can be watched again."
        )


class CannotStart(UnstuckError):
    """The server cannot start with this configuration; the message says what to change."""

    code, status, title = "cannot_start", 500, "Cannot start"
