"""The program `unstuck`: decides which commands there are and what they have in common.

It must not know what any of them does.
Next: console.py and remote.py, which the commands share; one module for each command or group of like ones.
"""

from __future__ import annotations

from typing import Annotated

import typer

from unstuck import __version__
from unstuck.cli.act import cancel, fail, rescue
from unstuck.cli.backup import backup, restore
from unstuck.cli.console import out
from unstuck.cli.doctor import doctor
from unstuck.cli.download import download
from unstuck.cli.help import Command, Group
from unstuck.cli.jobs import jobs, kinds, show
from unstuck.cli.progress import watch
from unstuck.cli.prune import prune
from unstuck.cli.serve import serve
from unstuck.cli.settings import settings
from unstuck.cli.submit import retry, submit
from unstuck.cli.work import work

HELP = """Background work on many files, with progress that is never stuck.

`unstuck COMMAND --help` explains a command. The commands that talk to a server take its address as
--url or from UNSTUCK_URL, and the id of a job or its first characters. With --json they print JSON.

Examples:
  unstuck serve
  unstuck watch $(unstuck submit checksum *.csv)

Exit codes:
  0    success
  1    a negative result, such as a failed job; see the command's help
  2    a mistake, or the server refused or did not answer
  3    no news of a watched job for 30 minutes
  130  interrupted with Ctrl-C
"""

cli = typer.Typer(
    cls=Group,
    help=HELP,
    subcommand_metavar="COMMAND",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(show: bool) -> None:
    if show:
        out.print(f"unstuck {__version__}", highlight=False)
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for command in (
    serve, work, submit, watch, show, jobs, cancel, retry, download, kinds, rescue, fail, prune, backup, restore,
    doctor, settings,
):  # fmt: skip
    cli.command(cls=Command)(command)


def main() -> None:
    """Run the program."""
    cli(prog_name="unstuck")
