"""The server in numbers, as Prometheus reads them (text format 0.0.4). Names and labels are part of PROTOCOL.md.

Made by hand: a dozen lines of text need no library. A store that cannot be read leaves its numbers out, and
shows in `unstuck_store_trouble`; the rest is told all the same.
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
    """GET /metrics"""
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
    yield from _gauge("work_trouble", "1 if no work can be done (no worker starts, or the runner ended), else 0.",
                      not work.able)  # fmt: skip
    yield from _gauge("workers", "Worker processes that are alive.", work.workers)
    yield from _total("worker_deaths", "Worker processes that ended by themselves or were killed.", work.deaths)
    yield from _total("leases_lapsed", "Items taken from a runner that gave no sign of life.", work.lapsed)
    loops = services.supervisor.loops
    yield from _gauge(
        "loops_down", "Background loops that broke and do not run again yet.", services.supervisor.down
    )
    restarts: list[Sample] = [({"loop": name}, loop.restarts) for name, loop in loops.items()]
    yield from _family("loop_restarts_total", "counter", "Starts of a background loop after it broke.", restarts)
    yield from _gauge("streams_open", "Streams that are open.", hub.streams)
    yield from _gauge("jobs_watched", "Jobs that somebody looks at.", hub.watched)
    yield from _total("streams_opened", "Streams that were opened.", counts.opened)
    yield from _total("streams_refused", "Streams that were refused for want of room.", counts.refused)
    yield from _total("broadcasts", "Changes of jobs brought to their viewers.", counts.broadcasts)
    yield from _total("broadcast_retries", "Attempts at a broadcast that failed.", counts.broadcast_retries)
    yield from _total("broadcast_failures", "Broadcasts given up after all attempts.", counts.broadcast_failures)
    yield from _total("viewers_rescued", "Viewers whom a heartbeat found without the truth.", counts.rescues)
    polls: list[Sample] = [({"reason": reason}, count) for reason, count in sorted(services.polls.items())]
    yield from _family("polls_total", "counter", "Polls of a job's status, by the reason that they gave.", polls)


def _about_the_store(overview: Overview) -> Iterator[str]:
    states: list[Sample] = [({"state": state}, overview.by_state.get(state, 0)) for state in State]
    healths: list[Sample] = [({"health": health}, overview.by_health.get(health, 0)) for health in Health]
    yield from _family("jobs", "gauge", "Jobs that are kept, by state.", states)
    yield from _family("jobs_health", "gauge", "Jobs that are not done, by health.", healths)
    webhooks: list[Sample] = [({"state": state}, count) for state, count in overview.webhooks.items()]
    yield from _family("webhooks", "gauge", "Webhooks not delivered, by what becomes of them.", webhooks)
    yield from _gauge("items_waiting", "Items that wait for a worker.", overview.waiting_items)
    yield from _gauge("items_leased", "Items in the hands of a runner.", overview.leased_items)
    yield from _gauge("oldest_wait_seconds", "How long the oldest job with waiting items has been there; 0: none.",
                      overview.oldest_wait_s or 0)  # fmt: skip


def _gauge(name: str, about: str, value: float | str | None) -> Iterator[str]:
    """A trouble counts as 1, none as 0."""
    return _family(name, "gauge", about, [({}, value if isinstance(value, int | float) else int(bool(value)))])


def _total(name: str, about: str, value: float) -> Iterator[str]:
    return _family(f"{name}_total", "counter", f"{about} Since the start.", [({}, value)])


def _family(name: str, kind: str, about: str, samples: Sequence[Sample]) -> Iterator[str]:
    yield f"# HELP unstuck_{name} {about}"
    yield f"# TYPE unstuck_{name} {kind}"
    for labels, value in samples:
        told = ",".join(f'{label}="{text}"' for label, text in labels.items())
        yield f"unstuck_{name}{f'{{{told}}}' if told else ''} {value:.10g}"
