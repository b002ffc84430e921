"""Measures the server beside its alternatives, in one run on one machine, and checks the figures against goals.

`scripts/bench` runs it. SCENES names every measurement: a module with `measure(rounds, scale)` that returns a
table. The servers alternate, and figures are medians. It must not know how anything is measured.
See also: goals.py, and BENCHMARKS.md for how to read the tables.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
import traceback
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tests.bench import goals
from tests.bench.figures import Table, as_table, log, markdown
from tests.bench.peers import PEERS, Absent, available
from tests.bench.processes import CACHE, CORES, ROOT, raise_limits
from tests.support.tables import write_block

#: The module and a description of each scene, in the order in which they run.
SCENES: dict[str, tuple[str, str]] = {
    "fan-out": ("fan_out", "N viewers of one job, 10,000 deliveries a second; CPU seconds per 100,000 deliveries"),
    "storm": ("storm", "a job that changes 1,000 times a second, with 1,000 viewers"),
    "many": ("many", "2,000 jobs that change five times a second, with two viewers each"),
    "idle": ("idle", "5,000 viewers of a job that does not change"),
    "stalled": ("stalled", "viewers that never read; figures per viewer"),
    "connect": ("connect", "5,000 viewers connect at once; each receives the job as it is"),
    "comeback": ("comeback", "1,000 viewers whose jobs end while 5,000 others connect at once"),
    "durable": ("durable", "item results and state changes, durable, in one process"),
    "celery": ("celery_redis", "the same with a task queue, without durability"),
    "reporting": ("reporting", "`report()` in user code"),
    "batch": ("batch", "a batch of files, from submission to end"),
    "large": ("large", "queries of the store, with a million finished jobs and a job of 10,000 items"),
    "page": ("page", "a page with a job of 10,000 items that changes 200 times a second; CPU of its main thread"),
}


def main() -> int:
    """Return 1 if a scene failed or the short form missed a goal, 0 otherwise."""
    options = _options()
    limit = raise_limits()
    if limit < 6_000:
        log(f"Only {limit} files may be open (ulimit -n), so scenes with 5,000 viewers will fail.")
    _, versions, absent = available(list(PEERS))
    chosen = options.only or ([name for name in SCENES if name != "celery"] if options.short else list(SCENES))
    found: dict[str, Table] = {}
    broken: dict[str, str] = {}
    start = time.monotonic()
    for name in chosen:
        module, what = SCENES[name]
        log(f"{name}: {what}")
        if find_spec(f"tests.bench.{module}") is None:
            absent[name] = "not part of this version"
            continue
        try:
            measure = importlib.import_module(f"tests.bench.{module}").measure
            found[name] = as_table(measure(1 if options.short else options.rounds, 0.2 if options.short else 1.0))
        except Absent as why:
            absent[name] = str(why)
        except Exception as error:  # the other scenes still run
            traceback.print_exc()
            broken[name] = f"{type(error).__name__}: {error}"
    results = goals.judged(found, short=options.short)
    text = _text(found, results, _machine(versions, {**absent, **broken}, options, time.monotonic() - start))
    print(text)
    _keep(text, found, results, versions, {**absent, **broken}, write=options.write)
    missed = [goal.name for goal, reached, most in results if not goals.met(reached, most)]
    for name in missed:
        log(f"missed: {name}")
    return 1 if broken or (options.short and missed) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--only", action="append", choices=list(SCENES), metavar="SCENE",
        help=f"measure only this scene (repeatable): {', '.join(SCENES)}",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="take the medians of N rounds [default: 3]"
    )
    parser.add_argument("--short", action="store_true", help="few viewers, one round and wide margins, for CI")
    parser.add_argument("--write", action="store_true", help="write the tables into BENCHMARKS.md")
    return parser.parse_args()


def _machine(versions: dict[str, str], absent: dict[str, str], options: argparse.Namespace, took_s: float) -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    how = (
        "the server on the first, the viewers on the second" if len(CORES) > 1 else "shared by server and viewers"
    )
    packages = ("uvicorn", "uvloop", "starlette", "httptools", "msgspec")
    rounds = "One round" if options.short else f"Medians of {options.rounds} rounds"
    peers = "; ".join(f"{name}: {number}" for name, number in versions.items())
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.release()}, {_cpu()}, {len(CORES)} cores "
        f"({how}), {memory} GiB, Python {platform.python_version()}, unstuck {version('unstuck')} with "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. {peers}. "
        f"{rounds}; {took_s / 60:.0f} minutes."
    ]
    lines += [f"Not measured: {name} ({why})." for name, why in absent.items()]
    return "\n".join(lines)


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _text(found: dict[str, Table], results: list[tuple[goals.Goal, float, float]], machine: str) -> str:
    parts = [machine, goals.markdown(results)]
    parts += [f"**{name}**: {SCENES[name][1]}\n\n{markdown(table)}" for name, table in found.items()]
    return "\n\n".join(parts)


def _keep(
    text: str,
    found: dict[str, Table],
    results: list[tuple[goals.Goal, float, float]],
    versions: dict[str, str],
    absent: dict[str, str],
    *,
    write: bool,
) -> None:
    """Write everything as JSON into the cache and, with `write`, the tables into BENCHMARKS.md."""
    summary = {
        "at": datetime.now(UTC).isoformat(),
        "machine": {"cpu": _cpu(), "cores": len(CORES), "system": platform.platform()},
        "versions": {**versions, "unstuck": version("unstuck"), "python": platform.python_version()},
        "absent": absent,
        "figures": found,
        "goals": [{"goal": goal.name, "reached": reached, "most": most} for goal, reached, most in results],
    }
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "bench.json").write_text(json.dumps(summary, indent=1))
    log(f"JSON: {CACHE / 'bench.json'}")
    if write:
        write_block(ROOT / "BENCHMARKS.md", "bench", text)


if __name__ == "__main__":
    sys.exit(main())
