"""A program whose children report, each in its own way; it prints one line of JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from unstuck.client import job, report, submit
from unstuck.client.plain_reporter import PlainReporter


def work(reporter: PlainReporter, index: int) -> str:
    said = ""
    try:
        reporter.item(index, "succeeded")
    except RuntimeError as error:
        said = str(error)
    with reporter:
        reporter.item(index, "succeeded")
    return said


def fork(reporter: PlainReporter, index: int) -> None:
    """Leave the parent's block in a child, as an exception or sys.exit() does."""
    if os.fork() == 0:
        try:
            with reporter:
                reporter.item(index, "succeeded")
            reporter.__exit__(None, None, None)
        finally:
            os._exit(0)
    os.wait()


def main() -> None:
    job_id = submit("import", external=True, items=[str(n) for n in range(6)]).id
    with report(job_id) as reporter:
        processes = [
            multiprocessing.get_context("fork").Process(target=work, args=(reporter, 0)),
            multiprocessing.get_context("spawn").Process(target=work, args=(reporter, 1)),
        ]
        for process in processes:
            process.start()
            process.join()
        fork(reporter, 2)
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            said = pool.submit(work, reporter, 3).result()
        during = job(job_id)
        reporter.item(4, "succeeded")
        reporter.flush()
    after = job(job_id)
    print(json.dumps({"said": said, "during": [during.state, during.progress.processed], "after": after.state}))


if __name__ == "__main__":
    main()
