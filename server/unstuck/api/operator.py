"""Lets an operator deal with a stuck job: restart its running items, or fail it.

Must not know: what that does to the job; both are commands like any other.
See also: jobs/decide.py, PROTOCOL.md section 3.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from unstuck.api.bodies import Body
from unstuck.api.context import JSON_ERRORS, Services, job_id_of, json_response, services_of, shown
from unstuck.errors import InvalidRequest, TooLarge, UnstuckError
from unstuck.jobs.job import Fail, JobError
from unstuck.wire import FailRequest

WHY_LENGTH = 500
#: Most bytes of the body: a reason of the greatest length fits in, however it is escaped.
BODY_BYTES = 16_384
RESCUE = "An operator asked for another attempt."


async def rescue_job(request: Request) -> Response:
    """Serve POST /api/jobs/{id}/rescue."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    await services.store.rescue(job_id, RESCUE)
    return await _job(request, services, job_id)


async def fail_job(request: Request) -> Response:
    """Serve POST /api/jobs/{id}/fail."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    await services.store.snapshot(job_id)  # raises JobNotFound before the body is asked for
    error = JobError("failed_by_operator", await _why(request))
    (outcome,) = await services.store.apply([Fail(job_id, error)])
    if isinstance(outcome, UnstuckError):
        raise outcome
    return await _job(request, services, job_id)


async def _why(request: Request) -> str:
    refusal = TooLarge(f"The body may have at most {BODY_BYTES:,} bytes.", code="body_too_large")
    with Body(request, services_of(request).bodies) as arriving:
        body = await arriving.read(BODY_BYTES, refusal)
    try:
        why = msgspec.json.decode(body, type=FailRequest).why.strip()
    except JSON_ERRORS as error:
        raise InvalidRequest(f'Send the reason as JSON: {{"why": "…"}} ({error}).', status=422) from None
    if not 1 <= len(why) <= WHY_LENGTH:
        raise InvalidRequest(
            f"why must give the reason for failing the job in 1 to {WHY_LENGTH} characters; all its viewers can "
            "read it.",
            status=422,
        )
    return why


async def _job(request: Request, services: Services, job_id: str) -> Response:
    snapshot = await services.store.snapshot(job_id)
    return json_response(shown(request, snapshot), 202)
