"""A program of greenlets that submit and report, each its own job; it prints one line of JSON."""

from __future__ import annotations

from gevent import monkey  # type: ignore[import-untyped]

monkey.patch_all()

import json  # noqa: E402

import gevent  # noqa: E402

from unstuck.client import job, report, submit  # noqa: E402


def work(number: int) -> str:
    job_id = submit("import", external=True, total=2, name=str(number)).id
    with report(job_id) as reporter:
        for index in range(2):
            gevent.sleep(0)
            reporter.item(index, "succeeded")
    return job(job_id).state


def main() -> None:
    greenlets = [gevent.spawn(work, number) for number in range(5)]
    gevent.joinall(greenlets, timeout=30)
    print(json.dumps([one.value for one in greenlets]))


if __name__ == "__main__":
    main()
