"""Every exception of unstuck, as one tree.

    UnstuckError
    ├── Refused               a command or request that the rules do not allow; the caller can mend it
    │   ├── InvalidRequest    the request cannot be read: see `code` for which part
    │   ├── InvalidJobId      not a UUID
    │   ├── JobNotFound       no such job, or no longer
    │   ├── NotFound          no such item, result file or page
    │   ├── UnknownKind       no such kind of work is registered
    │   ├── InvalidOptions    the kind does not take these options
    │   ├── KeyReused         the Idempotency-Key belongs to another submission
    │   ├── TooLarge          a limit on files, bytes or names was passed
    │   ├── JobFinished       the job is final; nothing may change it
    │   ├── ItemFinished      the item ended in another way already
    │   ├── NotExternal       a report about work that the server does itself
    │   ├── ExternalJob       its work runs elsewhere; no worker holds its items
    │   ├── JobNotDone        the job must be finished first
    │   ├── NothingToRetry    no item of the job failed or was cancelled
    │   ├── InputsGone        the job's files were removed
    │   ├── QueueFull         as many jobs are unfinished as may be; later there is room
    │   ├── LeaseLost         a command under an outdated lease
    │   ├── HostNotAllowed    the request came in under a host name that was not allowed
    │   └── Forbidden         another site's page wanted to change something
    ├── StoreUnavailable      the store cannot read or write now; nothing was changed
    ├── StorageFull           no room for the uploaded files; nothing was kept
    ├── ServerRefused         seen by a client: the server said no; `code`, `status` and detail are its own
    ├── NoAnswer              seen by a client: the server did not answer
    ├── JobTimeoutError       seen by a client: no news of a job for 30 minutes; the job goes on
    └── CannotStart           a wrong setting, folder or file; exit code 2

An exception's message says what to do. `code` is a stable word for programs, `status` the HTTP status.
This file knows neither HTTP nor the store; it only names what can go wrong.
"""


class UnstuckError(Exception):
    """Something went wrong in unstuck; `str(error)` says what, and what to do about it."""

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
    """The rules do not allow it; nothing was changed."""

    code, status, title = "refused", 409, "Refused"


class InvalidRequest(Refused):
    """The request cannot be read; the detail names the part and its form."""

    code, status, title = "invalid_request", 400, "Invalid request"


class InvalidJobId(Refused):
    """The job id is not a UUID."""

    code, status, title = "invalid_job_id", 400, "Invalid job id"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text[:60]!r} is no job id. A job id is a UUID such as "
            "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b; copy it from the answer to POST /api/jobs."
        )


class JobNotFound(Refused):
    """There is no such job, or it was removed."""

    code, status, title = "job_not_found", 404, "Job not found"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"There is no job {job_id} here. It may have been removed, or it belongs to another server; "
            "GET /api/jobs lists the jobs of this one."
        )


class NotFound(Refused):
    """There is nothing at this address."""

    code, status, title = "not_found", 404, "Not found"


class UnknownKind(Refused):
    """No such kind of work is registered."""

    code, status, title = "unknown_kind", 422, "Unknown kind of work"


class InvalidOptions(Refused, ValueError):
    """The kind of work does not take these options; the message names the option and what is allowed."""

    code, status, title = "invalid_options", 422, "Invalid options"


class KeyReused(Refused):
    """The Idempotency-Key was used for another submission."""

    code, status, title = "idempotency_key_reused", 422, "Idempotency key reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key belongs to a submission with another content. Use a new key for a new job, "
            "and the same one only to send the very same job again."
        )


class TooLarge(Refused):
    """A limit on files, bytes or names was passed; the code says which."""

    code, status, title = "too_large", 413, "Too large"


class JobFinished(Refused):
    """The job is finished, and what is finished never changes."""

    code, status, title = "job_finished", 409, "Job finished"

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"Job {job_id} is {state} already; a finished job never changes. Submit a new one.")


class ItemFinished(Refused):
    """The item ended, and in another way than is said now."""

    code, status, title = "item_finished", 409, "Item finished"


class NotExternal(Refused):
    """The server itself works on this job; nobody else may report of it."""

    code, status, title = "not_external", 409, "Not work that runs elsewhere"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"This server works on job {job_id} itself, so nobody else may report of it. Jobs whose work runs "
            'elsewhere are submitted with "external": true.'
        )


class ExternalJob(Refused):
    """The work of this job runs elsewhere, where the server cannot reach."""

    code, status, title = "work_elsewhere", 409, "The work runs elsewhere"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The work of job {job_id} runs elsewhere, so there is nobody to take it from. Start what reports of "
            "it again: it may go on where it stopped. Or give the job up (unstuck fail)."
        )


class JobNotDone(Refused):
    """The job has to be finished for this."""

    code, status, title = "job_not_done", 409, "Job not done"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"Job {job_id} is not done yet. Wait for its end, or cancel it first.")


class NothingToRetry(Refused):
    """No item of the job failed or was cancelled."""

    code, status, title = "nothing_to_retry", 409, "Nothing to retry"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"No item of job {job_id} failed or was cancelled. To do all of them over, send "
            '{"only": "all"} (unstuck retry --all).'
        )


class InputsGone(Refused):
    """The files that the job worked on were removed."""

    code, status, title = "inputs_gone", 410, "Files gone"

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"The server no longer has the files that job {job_id} worked on, so it cannot be done over. "
            "Send them again as a new job."
        )


class QueueFull(Refused):
    """As many jobs are unfinished as the server takes; nothing was kept."""

    code, status, title = "queue_full", 429, "Queue full"
    #: A job that ends makes room (seconds).
    retry_after_s = 5

    def __init__(self, most: int) -> None:
        super().__init__(
            f"There are {most:,} unfinished jobs here already, and the server takes no more at a time (setting "
            "max_waiting_jobs). Nothing was kept. Try again in a while, when some of them are done."
        )


class StreamsFull(UnstuckError):
    """As many streams are open as the server can hold; polls are answered all the same."""

    code, status, title = "streams_full", 503, "No room for another stream"
    #: Streams come and go (seconds).
    retry_after_s = 5

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most:,} streams are open here, and the server holds no more at a time (setting max_streams, or "
            "the limit on open files: ulimit -n). Ask for the job's status, and for a stream again in a while."
        )


class LeaseLost(Refused):
    """The runner was given up on, and its item went to another: drop the work."""

    code, status, title = "lease_lost", 409, "Lease lost"


class HostNotAllowed(Refused):
    """The request came in under a host name that was not allowed."""

    code, status, title = "host_not_allowed", 421, "Misdirected request"


class Forbidden(Refused):
    """Another site's page wanted to change something."""

    code, status, title = "forbidden", 403, "Forbidden"


class StoreUnavailable(UnstuckError):
    """The store cannot be read or written now; nothing was changed; try again."""

    code, status, title = "store_unavailable", 503, "Store unavailable"


class StorageFull(UnstuckError):
    """The data folder has no room for the files; nothing was kept."""

    code, status, title = "storage_full", 507, "Storage full"


class ServerRefused(UnstuckError):
    """The server answered a client with an error; `code`, `status` and detail are the server's."""

    code, status, title = "refused", 400, "The server refused"


class NoAnswer(UnstuckError):
    """The server could not be asked, or its answer never came."""

    code, status, title = "no_answer", 503, "No answer"

    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__(
            f"No answer from {url} ({str(cause) or type(cause).__name__}). Is the server running, and is this "
            "its address?"
        )


class JobTimeoutError(UnstuckError):
    """There was no news of the job for 30 minutes, so a client stopped watching. The job itself goes on."""

    code, status, title = "job_timeout", 504, "No news of the job"

    def __init__(self, job_id: str, elapsed_minutes: int) -> None:
        self.job_id = job_id
        self.elapsed_minutes = elapsed_minutes
        super().__init__(
            f"Stopped watching job {job_id} after {elapsed_minutes} minutes, with no news of it for too long. "
            "The job itself goes on, and can be watched again."
        )


class CannotStart(UnstuckError):
    """The server cannot start as it was told to; the message says what to change."""

    code, status, title = "cannot_start", 500, "Cannot start"
