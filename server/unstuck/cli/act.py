"""`unstuck cancel`, `rescue` and `fail`: decide how a person acts on jobs from a terminal.

Each command says what it is about to do, and then what it did. It must not know what that means for a job: the
server decides that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from unstuck.address import DEFAULT_URL
from unstuck.cli.console import AsJson, JobIds, Url, err, out, plain, print_json, shortened, spaced
from unstuck.cli.remote import confirm, for_each, running_items, short_id
from unstuck.jobs.labels import counted

if TYPE_CHECKING:
    from unstuck.client import Client
    from unstuck.wire import Job


def cancel(job_ids: JobIds, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Cancel jobs.

    Running items are asked to stop, and are stopped after a grace period; waiting ones are cancelled, and finished
    ones keep their results. A finished job does not change.

    Examples:
      unstuck cancel 1b4e28ba
      unstuck cancel $(unstuck jobs --state queued --ids)

    Exit codes:
      0    cancelled, or cancelling as soon as the running items have stopped
      2    a mistake, a job was refused, or the server did not answer
      130  interrupted with Ctrl-C
    """

    async def each(client: Client, job_id: str) -> None:
        job = await client.cancel(job_id)
        if as_json:
            print_json(job, indent=None)
        elif job.state == "cancelled":
            _say(job, "cancelled.")
        elif job.done:
            _say(job, f"is already {spaced(job.state)}; nothing was changed.")
        else:
            _say(job, "cancelling; it ends as soon as its running items have stopped.")

    for_each(job_ids, url, each)


def rescue(
    job_ids: JobIds,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Take a job's running items from their workers to try them again.

    Says how many there are and asks for confirmation. Items on their last attempt fail instead.

    Examples:
      unstuck rescue 1b4e28ba
      unstuck rescue $(unstuck jobs --stuck --ids)

    Exit codes:
      0    rescued, or there was nothing to rescue
      1    not confirmed
      2    a mistake, a job was refused, or the server did not answer
      130  interrupted with Ctrl-C
    """

    async def each(client: Client, job_id: str) -> None:
        job = await client.job(job_id)
        running = await running_items(client, job)
        if not running and not job.done:  # a finished job is refused by the server, with its own message
            if as_json:
                print_json(job, indent=None)
            else:
                _say(job, "no item is running, so there is nothing to rescue. It continues when a worker is free.")
            return
        if not job.done:
            last = sum(item.attempt >= job.max_attempts for item in running)
            workers = "its worker" if len(running) == 1 else "their workers"
            sentences = [f"{_counted(len(running))} will be taken from {workers} and tried again."]
            sentences += [f"{last:,} of them will fail instead: no attempt is left."] if last else []
            _say(job, " ".join([*sentences, "Finished items do not change."]), err if as_json else out)
            confirm(yes, "Continue?")
        after = await client.rescue(job_id)
        failed = after.progress.failed - job.progress.failed
        again = _counted(max(len(running) - failed, 0))
        if as_json:
            print_json(after, indent=None)
        else:
            _say(
                job, f"rescued: {again} will be tried again, {failed:,} failed; the job is {spaced(after.state)}."
            )

    for_each(job_ids, url, each)


def fail(
    job_ids: JobIds,
    why: Annotated[str, typer.Option(metavar="REASON", help="The reason, shown to every viewer of the job.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Stop a job and end it as failed.

    Running items are stopped, by force if need be, and waiting ones are cancelled; finished items do not change.

    Examples:
      unstuck fail 1b4e28ba --why "the source is gone"

    Exit codes:
      0    failed, or failing as soon as its running items have stopped
      2    a mistake, a job was refused, or the server did not answer
      130  interrupted with Ctrl-C
    """

    async def each(client: Client, job_id: str) -> None:
        job = await client.job(job_id)
        running = len(await running_items(client, job))
        waiting = max((job.progress.total or 0) - job.progress.processed - running, 0)
        if not job.done:
            plan = f"{_counted(running)} will be stopped, {_counted(waiting)} cancelled."
            _say(job, f"{plan} Finished items do not change.", err if as_json else out)
        after = await client.fail(job_id, why)
        if as_json:
            print_json(after, indent=None)
        else:
            ended = (
                "failed, as asked." if after.done else "it will fail as soon as its running items have stopped."
            )
            _say(job, ended)

    for_each(job_ids, url, each)


def _say(job: Job, message: str, on: Console = out) -> None:
    name = shortened(plain(job.name), 60)
    on.print(Text.assemble((name, "bold"), f" ({short_id(job)}): {message}"), soft_wrap=True)


def _counted(count: int) -> str:
    return counted(count, "item", "items")
