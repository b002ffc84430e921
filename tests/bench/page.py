"""Measures the page with a live job of ten thousand files in a real Chromium: the main thread's CPU, and memory.

    python -m tests.bench.page [--minutes 2]

The dialog is open over the batch page, both live, on a job that changes 200 times a second, while lists are
opened, paged and scrolled; then ten thousand files are chosen. Tasks are measured by their CPU time, since a
busy machine makes any of them long, from Chromium's own trace, once the page is loaded. Prints JSON. It must not
know how the page draws.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

from tests.browser.chromium import browser
from tests.faults.stage import free_port

ITEMS, RATE = 10_000, 200
#: After this time the page is loaded, its code compiled, its lists at full length (seconds).
SETTLED_S = 6.0
#: The length of one trace, which Chromium keeps in memory (seconds).
TRACE_S = 20.0
#: Longer tasks are listed one by one (milliseconds of CPU).
NOTABLE_MS = 20.0
CATEGORIES = ["-*", "disabled-by-default-devtools.timeline", "devtools.timeline"]
HEAP = {"JSHeapUsedSize": "heap_bytes", "Nodes": "nodes", "JSEventListeners": "listeners"}


@dataclass
class Tasks:
    """The tasks of the page's main thread, in milliseconds of CPU.

    `longest_call_ms` is the longest call of the page's own code; the rest is the browser's, such as making a
    File of each file chosen.
    """

    longest_ms: float = 0.0
    longest_call_ms: float = 0.0
    over_50: int = 0
    busy_ms: float = 0.0
    seconds: float = 0.0
    notable: list[dict[str, float]] = field(default_factory=list)

    def add(self, trace: bytes, seconds: float) -> None:
        """Add the tasks of one trace."""
        self.seconds += seconds
        events = json.loads(trace)["traceEvents"]
        named = (one for one in events if one.get("name") == "thread_name")
        mains = {(one["pid"], one["tid"]) for one in named if one["args"]["name"] == "CrRendererMain"}
        for one in (one for one in events if (one["pid"], one["tid"]) in mains):
            cpu, wall = one.get("tdur", 0) / 1_000, one.get("dur", 0) / 1_000
            if one["name"] == "RunTask":
                self._task(cpu, wall)
            elif one["name"] == "FunctionCall" and "/static" in one["args"]["data"].get("url", ""):
                self.longest_call_ms = max(self.longest_call_ms, cpu)

    def _task(self, cpu: float, wall: float) -> None:
        self.busy_ms += cpu
        self.longest_ms = max(self.longest_ms, cpu)
        self.over_50 += cpu > 50
        if cpu > NOTABLE_MS:
            self.notable.append({"cpu_ms": round(cpu, 1), "wall_ms": round(wall, 1)})

    def summary(self) -> dict[str, Any]:
        """Return the figures for JSON; `busy` is a share of one core."""
        busy = round(self.busy_ms / 1_000 / self.seconds, 4) if self.seconds else None
        return {**asdict(self), "busy_ms": round(self.busy_ms), "busy": busy}


@contextmanager
def serve_crowd(folder: Path, seconds: float) -> Iterator[tuple[str, str]]:
    """Run a server with the large job, and yield its URL and the job's id."""
    port = free_port()
    given = [str(one) for one in (port, folder / "data", ITEMS, RATE, seconds)]
    with (folder / "server.log").open("w") as log:
        command = [sys.executable, "-m", "tests.bench.crowd", *given]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        assert job_id, (folder / "server.log").read_text()
        yield f"http://127.0.0.1:{port}", job_id
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def held_after_gc(cdp: CDPSession) -> dict[str, float]:
    """Return what the page holds after garbage collection."""
    for _ in range(2):
        cdp.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in cdp.send("Performance.getMetrics")["metrics"]}
    return {ours: metrics[theirs] for theirs, ours in HEAP.items()}


def trace(chromium: Browser, page: Page, tasks: Tasks, seconds: float) -> None:
    """Trace the page for this long while it is used."""
    begun = time.monotonic()
    chromium.start_tracing(page=page, categories=CATEGORIES)
    turn = 0
    while time.monotonic() < begun + seconds:
        use(page, turn)
        turn += 1
        page.wait_for_timeout(250)
    tasks.add(chromium.stop_tracing(), time.monotonic() - begun)


def use(page: Page, turn: int) -> None:
    """Do one thing that a user does: scroll a list, turn a page, open the details, scroll the list below."""
    page.evaluate(
        """(turn) => {
          const root = document.querySelector("job-progress")?.shadowRoot;
          for (const list of root?.querySelectorAll(".list") ?? []) list.scrollTop = (turn % 8) * 120;
          const press = (text) => [...root?.querySelectorAll("button") ?? []]
            .find((one) => one.textContent.startsWith(text) && !one.closest("[hidden]"))?.click();
          if (turn === 2) press("Show all");
          if (turn % 6 === 3) press("Next");
          if (turn % 24 === 23) press("Back to the start");
          if (turn % 12 === 5) root?.querySelector(".timeline summary")?.click();
          if (turn % 12 === 9) press("Check status");
          if (!root) document.scrollingElement.scrollTop = (turn % 8) * 60;
        }""",
        turn,
    )


def watch(chromium: Browser, url: str, seconds: float) -> dict[str, Any]:
    """Open a page at this address and measure it for this long."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        page.add_init_script(
            "window.longTasks = []; new PerformanceObserver((list) => window.longTasks.push("
            "...list.getEntries().map((one) => [one.startTime, one.duration]))).observe({ type: 'longtask' });"
        )
        cdp = context.new_cdp_session(page)
        cdp.send("Performance.enable")
        page.goto(url)
        trace(chromium, page, Tasks(), SETTLED_S)
        settled_ms, before, tasks = page.evaluate("performance.now()"), held_after_gc(cdp), Tasks()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 1:
            trace(chromium, page, tasks, min(TRACE_S, left))
        late = page.evaluate(
            "(after) => window.longTasks.filter(([at]) => at > after).map(([, ms]) => ms)", settled_ms
        )
        return {"tasks": tasks.summary(), "before": before, "after": held_after_gc(cdp), "longtask_wall_ms": late}
    finally:
        context.close()


def choose(chromium: Browser, url: str, folder: Path) -> dict[str, Any]:
    """Measure choosing ten thousand files, filling in the form, and sending it."""
    (folder / "files").mkdir()
    files = [folder / "files" / f"{number:05d}.csv" for number in range(ITEMS)]
    for path in files:
        path.write_bytes(b"a,b\n1,2\n")
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        page.goto(url)
        page.locator("input[name=kind][value=checksum]").check()
        found = {}
        for step in ("choose", "type", "send"):
            tasks, begun = Tasks(), time.monotonic()
            chromium.start_tracing(page=page, categories=CATEGORIES)
            if step == "choose":
                page.locator("#pick-files").set_input_files([str(path) for path in files])
                page.locator("#chosen-sum").filter(has_text="10,000 files").wait_for(timeout=60_000)
            elif step == "type":
                page.locator("#name").press_sequentially("ten thousand", delay=30)
            else:
                page.locator("#start").click()
                page.locator("job-progress").wait_for(state="attached", timeout=120_000)
            tasks.add(chromium.stop_tracing(), time.monotonic() - begun)
            found[step] = tasks.summary()
        return found
    finally:
        context.close()


def play(minutes: float = 2.0, *, choosing: bool = True) -> dict[str, Any]:
    """Measure the dialog and the batch page for this long each; then choosing files."""
    with tempfile.TemporaryDirectory() as text, browser() as chromium:
        folder = Path(text)
        seconds = minutes * 60
        with serve_crowd(folder, 2 * (seconds + 3 * SETTLED_S)) as (url, job_id):
            found = {
                "dialog": watch(chromium, f"{url}/#job={job_id}", seconds),
                "list": watch(chromium, f"{url}/", seconds),
            }
            if choosing:
                found["choose"] = choose(chromium, url, folder)
        return {"items": ITEMS, "changes_per_second": RATE, "seconds": seconds, **found}


def measure(rounds: int, scale: float) -> dict[str, dict[str, float]]:
    """Return a row for each part, from one run of ten minutes (at scale 1) rather than several short ones."""
    del rounds
    found = play(10 * scale)
    rows = {name: found[name]["tasks"] for name in ("dialog", "list")}
    rows |= {f"choosing 10,000 files: {step}": summary for step, summary in found["choose"].items()}
    table = {name: {what: value for what, value in row.items() if isinstance(value, int | float)}
             for name, row in rows.items()}  # fmt: skip
    for name in ("dialog", "list"):
        for what, before in found[name]["before"].items():
            table[name] |= {f"{what}, start": before, f"{what}, end": found[name]["after"][what]}
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=2.0)
    print(json.dumps(play(parser.parse_args().minutes), indent=2))
