"""`unstuck download`: decides where a job's results or errors are written.

It must not know what is in them.
See also: client/client.py, which reads them from the server.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.address import DEFAULT_URL
from unstuck.cli.console import AsJson, JobId, Url, err, plain, print_json
from unstuck.cli.remote import ask, full_id, short_id
from unstuck.errors import InvalidRequest

if TYPE_CHECKING:
    from unstuck.client import Client


def download(
    job_id: JobId,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Where to write. [default: results-JOB_ID.zip or errors-JOB_ID.csv]"),
    ] = None,
    errors: Annotated[
        bool, typer.Option("--errors", help="Download the errors of all failed items as CSV instead.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Download all results of a job as a ZIP file, or its errors as CSV.

    Results can be downloaded once the job is done, errors at any time. The file appears when it is whole: an
    interrupted download leaves nothing.

    Examples:
      unstuck download 1b4e28ba
      unstuck download 1b4e28ba thumbnails.zip
      unstuck download 1b4e28ba --errors

    Exit codes:
      0    downloaded
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C; then nothing is kept
    """

    async def question(client: Client) -> tuple[Path, int]:
        job = await client.job(await full_id(client, job_id))
        name = f"errors-{short_id(job)}.csv" if errors else f"results-{short_id(job)}.zip"
        path = target if target is not None else Path(name)
        if path.is_dir():
            path /= name
        if path.exists() and not force:
            raise InvalidRequest(f"{path} exists; name another file, or overwrite it with --force.")
        with err.status("Downloading…"):
            save = client.download_errors if errors else client.download
            return path, await save(job.id, path)

    path, size = ask(url, question)
    if as_json:
        print_json({"path": str(path), "bytes": size})
    else:
        print(plain(f"{path}: {size / 1024**2:,.1f} MiB"))
