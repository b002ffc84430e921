"""Runs the runner for a server on another machine, until it is told to end.

Must not know: terminals.
See also: remote_queue.py (the server as a queue), runner.py (the runner itself), cli/work.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from unstuck.errors import CannotStart, StoreUnavailable
from unstuck.runner.remote_queue import RemoteQueue
from unstuck.runner.runner import Runner, RunnerConfig
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import supervising

log = logging.getLogger("unstuck.work")


async def work_for(
    url: str,
    token: str,
    config: RunnerConfig,
    ending: asyncio.Event,
    *,
    only: Sequence[str] = (),
    ready: Callable[[Sequence[str]], None] = lambda kinds: None,
) -> None:
    """Work until `ending` is set; `ready` is called with the kinds once workers are up.

    Raises CannotStart, NoAnswer, ServerRefused.
    """
    try:
        queue = RemoteQueue(url, token, only)
    except OSError as error:
        raise CannotStart(f"There is no room for files here: {error}. Set TMPDIR to another folder.") from error
    try:
        server = await queue.hello()
        config = replace(
            config,
            lease_s=server.lease_s,
            item_limit_s=server.item_limit_s,
            cancel_grace_s=server.cancel_grace_s,
            pause=Backoff(server.retry_pause_s),
        )
        runner = Runner(queue, queue.scratch, config)
        try:
            async with supervising() as supervisor:
                await runner.start(supervisor)
                if missing := sorted(set(only) - runner.kinds.keys()):
                    known = ", ".join(sorted(runner.kinds))
                    raise CannotStart(f"There is no kind {missing[0]!r} here. There are: {known}. See --app.")
                kinds = sorted(only or runner.kinds)
                log.info("Working: server=%s workers=%d name=%s", url, config.workers, config.name)
                ready(kinds)
                await ending.wait()
                queue.end()
        finally:
            queue.end()
            with contextlib.suppress(StoreUnavailable):  # logged; the leases lapse
                await runner.stop()
    finally:
        await queue.close()
