"""Serves the commands that talk to a server: runs them, completes short ids, and continues after a refusal.

It must not know any command.
See also: console.py, which turns what goes wrong into a sentence and an exit code.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from unstuck.cli.console import client_errors, complain, plain
from unstuck.errors import InvalidRequest, JobNotFound, UnstuckError

if TYPE_CHECKING:
    from unstuck.client import Client
    from unstuck.wire import Item, Job

#: The characters of an id: as many as a list shows, as few as a server looks up, and all.
SHOWN, LEAST, WHOLE = 8, 4, 36
#: One page of items: more than any machine works on at a time.
ITEMS_ASKED = 1_000

T = TypeVar("T")


def ask(url: str, question: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run one command's conversation with the server, and return its result; what goes wrong ends the program."""
    with client_errors():
        from unstuck.client import Client  # here: it needs an extra, and --help stays fast

        async def run() -> T:
            async with Client(url) as client:
                return await question(client)

        return asyncio.run(run())


async def full_id(client: Client, text: str) -> str:
    """Return the id that `text` stands for: an id, or the first characters of one (4 or more).

    Raises JobNotFound, or InvalidRequest if several ids begin with it. What cannot begin an id is returned as it
    is, for the client to refuse.
    """
    if len(text) >= WHOLE or len(text) < LEAST or not set(text.lower()) <= set("0123456789abcdef-"):
        return text
    found = (await client.jobs(id_prefix=text, limit=3)).jobs
    if not found:
        raise JobNotFound(text)
    if len(found) > 1:
        raise InvalidRequest(f"{text} begins the ids of several jobs, such as {found[0].id} and {found[1].id}.")
    return found[0].id


def short_id(job: Job) -> str:
    """Return the first characters of a job's id, which commands take in its place."""
    return plain(job.id[:SHOWN])


async def running_items(client: Client, job: Job) -> list[Item]:
    """Return the items that workers have now."""
    if job.state != "running":
        return []
    return (await client.items(job.id, states=["running"], limit=ITEMS_ASKED)).items


def for_each(job_ids: Sequence[str], url: str, each: Callable[[Client, str], Awaitable[None]]) -> None:
    """Do it for one job after the other; a refusal does not stop the rest, but sets the exit code."""

    async def question(client: Client) -> bool:
        refused = False
        for text in dict.fromkeys(job_ids):
            try:
                await each(client, await full_id(client, text))
            except UnstuckError as error:
                complain(error.detail)
                refused = True
        return refused

    if ask(url, question):
        sys.exit(2)


def confirm(yes: bool, question: str) -> None:
    """Ask a person to confirm, unless `yes`; exit with 1 without it, and with 2 where there is no terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        complain("There is no terminal to ask for confirmation; add --yes to go ahead without.")
        sys.exit(2)
    if not typer.confirm(question, err=True):
        sys.exit(1)
