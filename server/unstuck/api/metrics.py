"""Serves the server's metrics to Prometheus (text format 0.0.4).

See also: health.py (the same for people), PROTOCOL.md section 7 (names and labels, which are stable).

The text is written by hand, since a dozen lines need no library. If the store cannot be read its metrics are
missing and `unstuck_store_trouble` is 1; the rest is reported all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from unstuck import __version__
from unstuck.api.context import NO_STORE, Services, services_of
from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Health, State
from unstuck.store.protocol import Overview

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]


async def get_metrics(request: Request) -> Response:
    """Serve GET /metrics."""
    services = services_of(request)
    lines = [*_about_the_process(services)]
    try:
        overview = await services.store.overview()
    except StoreUnavailable:
        lines += _gauge("store_trouble", "1 if the store cannot be written or read, else 0.", 1)
    else:
        lines += _gauge(
            "store_trouble", "1 if the store cannot be written or read, else 0.", services.store.trouble
        )
        lines += _about_the_store(overview)
    text = "\n".join(lines) + "\n"
    return Response(text, headers={**NO_STORE, "Content-Type": CONTENT_TYPE})


def _about_the_process(services: Services) -> Iterator[str]:
    hub, counts, work = services.hub, services.hub.stats, services.work()
    yield from _family("build_info", "gauge", "Always 1; the version is a label.", [({"version": __version__}, 1)])
    yield from _gauge("work_trouble", "1 if no work can be done (no worker starts, or a loop is down), else 0.",
                      not work.able)  # fmt: skip
    yield from _gauge("workers", "Worker processes that are alive.", work.workers)
    yield from _total("worker_deaths", "Worker processes that exited or were killed.", work.deaths)
    yield from _total("leases_lapsed", "Items taken from a runner that stopped renewing its leases.", work.lapsed)
    yield from _gauge("store_log_bytes", "Size of the database's log (its -wal file).", services.store.log_bytes)
    loops = services.supervisor.loops
    yield from _gauge("loops_down", "Background loops that failed and are not back.", services.supervisor.down)
    restarts: list[Sample] = [({"loop": name}, loop.restarts) for name, loop in loops.items()]
    yield from _family("loop_restarts_total", "counter", "Restarts of a background loop that failed.", restarts)
    yield from _gauge("streams_open", "Streams that are open.", hub.streams)
    yield from _gauge("jobs_watched", "Jobs with at least one viewer.", hub.watched)
    yield from _total("streams_opened", "Streams opened.", counts.opened)
    yield from _total("streams_refused", "Streams refused for lack of room.", counts.refused)
    yield from _total("broadcasts", "Changes of jobs broadcast to their viewers.", counts.broadcasts)
    yield from _total("broadcast_retries", "Failed attempts at a broadcast.", counts.broadcast_retries)
    yield from _total("broadcast_failures", "Broadcasts given up after all attempts.", counts.broadcast_failures)
    yield from _total("viewers_rescued", "Viewers that a heartbeat found behind.", counts.rescues)
    polls: list[Sample] = [({"reason": reason}, count) for reason, count in sorted(services.polls.items())]
    yield from _family("polls_total", "counter", "Polls of a job's status, by the reason given.", polls)


def _about_the_store(overview: Overview) -> Iterator[str]:
    states: list[Sample] = [({"state": state}, overview.by_state.get(state, 0)) for state in State]
    healths: list[Sample] = [({"health": health}, overview.by_health.get(health, 0)) for health in Health]
    yield from _family("jobs", "gauge", "Stored jobs, by state.", states)
    yield from _family("jobs_health", "gauge", "Unfinished jobs, by health.", healths)
    yield from _gauge("rows_unreadable", "Damaged rows of the store that cannot be read in full, since the start.",
                      overview.unreadable)  # fmt: skip
    webhooks: list[Sample] = [({"state": state}, count) for state, count in overview.webhooks.items()]
    yield from _family("webhooks", "gauge", "Undelivered webhooks, by state.", webhooks)
    yield from _gauge("items_waiting", "Items waiting for a worker.", overview.waiting_items)
    yield from _gauge("items_leased", "Items claimed by a runner.", overview.leased_items)
    yield from _gauge("oldest_wait_seconds", "Age of the oldest job with waiting items; 0 if there is none.",
                      overview.oldest_wait_s or 0)  # fmt: skip


def _gauge(name: str, about: str, value: float | str | None) -> Iterator[str]:
    """Yield the lines of a gauge; a text, which describes a trouble, counts as 1, and None as 0."""
    return _family(name, "gauge", about, [({}, value if isinstance(value, int | float) else int(bool(value)))])


def _total(name: str, about: str, value: float) -> Iterator[str]:
    return _family(f"{name}_total", "counter", f"{about} Since the start.", [({}, value)])


def _family(name: str, kind: str, about: str, samples: Sequence[Sample]) -> Iterator[str]:
    yield f"# HELP unstuck_{name} {about}"
    yield f"# TYPE unstuck_{name} {kind}"
    for labels, value in samples:
        pairs = ",".join(f'{label}="{text}"' for label, text in labels.items())
        yield f"unstuck_{name}{f'{{{pairs}}}' if pairs else ''} {value:.10g}"
