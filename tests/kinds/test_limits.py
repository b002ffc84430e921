"""A kind's time limit and transient failures, as real workers of a real server apply them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.server import StartServer

APP = """
import time
from pathlib import Path
import unstuck

class Busy(ConnectionError):
    pass

class Rejected(unstuck.Failed):
    pass

@unstuck.kind("moody", needs_file=False, limit_s=1.5, transient=(ConnectionError, TimeoutError, Rejected))
def moody(file: Path | None, report: unstuck.Report) -> dict:
    what, _, attempts = report.name.partition(" ")
    if report.attempt > int(attempts or 99):
        return {"attempt": report.attempt}
    match what:
        case "busy":
            raise Busy("not now")
        case "late":
            raise TimeoutError
        case "rejected":
            raise Rejected("by the other side", code="rejected")
        case "broken":
            deep()
        case "hangs":
            time.sleep(600)
        case "spins":
            while True:
                report(0.5)
    return {}

def deep():
    return {}["nothing"]

@unstuck.kind("calm", needs_file=False)
def calm(file: Path | None, report: unstuck.Report) -> None:
    raise ConnectionError("of no kind that passes here")
"""


def test_only_transient_failures_are_retried(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "moody_work.py").write_text(APP)
    server = start_server("--workers", "2", "--app", str(tmp_path / "moody_work.py"), retry_pause_s="0.01")
    names = ["busy 1", "busy", "late 2", "rejected 1", "broken", "hangs", "spins"]
    job = server.submit("moody", items=names, max_attempts=3)
    calm = server.submit("calm", total=1)
    assert {one["name"]: one["limit_s"] for one in server.get("/api/kinds")["kinds"]}["moody"] == 1.5
    assert server.until_done(job["id"])["progress"]["succeeded"] == 3
    items = {item["name"]: item for item in server.items(job["id"])}
    assert [items[name]["result"] for name in ("busy 1", "late 2", "rejected 1")] == [
        {"attempt": 2}, {"attempt": 3}, {"attempt": 2},
    ]  # fmt: skip
    ends = {name: (one["error"]["code"], one["attempt"]) for name, one in items.items() if one["error"]}
    assert ends == {
        "busy": ("exception", 3),
        "broken": ("exception", 1),
        "hangs": ("time_limit_exceeded", 1),
        "spins": ("time_limit_exceeded", 1),
    }
    assert items["busy"]["error"]["transient"]
    assert not items["broken"]["error"]["transient"]
    server.until_done(calm["id"])
    assert server.items(calm["id"])[0]["attempt"] == 1
    # The item's error names the line in the kind's file; the log has the whole traceback.
    line = re.fullmatch(r"KeyError: 'nothing' \(moody_work\.py, line (\d+)\)", items["broken"]["error"]["message"])
    assert line
    assert "nothing" in APP.splitlines()[int(line[1]) - 1]
    log = server.log.read_text()
    assert re.search(
        rf"ERROR unstuck.kind Item failed: job={job['id']} item=4 attempt=1 kind=moody name='broken'", log
    )
    assert log.count(", in moody") >= 1
    assert ", in deep" in log
