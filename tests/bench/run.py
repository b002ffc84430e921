"""`scripts/bench`: measures the server beside what people would use instead, in one run on one machine.

SCENES names every measurement: a module with `measure(rounds, scale)`, which gives a table. Peers alternate
with ours; what is told are medians. Must not know how anything is measured.
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
from tests.bench.figures import Table, as_table, markdown, say
from tests.bench.peers import PEERS, Absent, available
from tests.bench.processes import CACHE, CORES, ROOT, raise_limits

#: Each scene, its module, and what it shows; in this order.
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
FILE = ROOT / "BENCHMARKS.md"
MARKS = "<!-- bench -->", "<!-- /bench -->"


def main() -> int:
    """See the module; the exit code is 1 where a scene broke, or a goal of the short form was missed."""
    options = _options()
    limit = raise_limits()
    if limit < 6_000:
        say(f"Only {limit} files may be open (ulimit -n): scenes with 5,000 viewers will fail.")
    _, versions, absent = available(list(PEERS))
    chosen = options.only or ([name for name in SCENES if name != "celery"] if options.short else list(SCENES))
    found: dict[str, Table] = {}
    broken: dict[str, str] = {}
    start = time.monotonic()
    for name in chosen:
        module, what = SCENES[name]
        say(f"{name}: {what}")
        if find_spec(f"tests.bench.{module}") is None:
            absent[name] = "not part of this version"
            continue
        try:
            measure = importlib.import_module(f"tests.bench.{module}").measure
            found[name] = as_table(measure(1 if options.short else options.rounds, 0.2 if options.short else 1.0))
        except Absent as why:
            absent[name] = str(why)
        except Exception as error:  # the other scenes are worth their time all the same
            traceback.print_exc()
            broken[name] = f"{type(error).__name__}: {error}"
    looked = goals.judged(found, short=options.short)
    text = _text(found, looked, _machine(versions, {**absent, **broken}, options, time.monotonic() - start))
    print(text)
    _keep(text, found, looked, versions, {**absent, **broken}, write=options.write)
    missed = [goal.words for goal, reached, most in looked if not goals.met(reached, most)]
    for words in missed:
        say(f"missed: {words}")
    return 1 if broken or (options.short and missed) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SCENES), metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are told (3)")
    parser.add_argument("--short", action="store_true", help="few viewers, one round, wide margins; for CI")
    parser.add_argument("--write", action="store_true", help="put the tables into BENCHMARKS.md")
    return parser.parse_args()


def _machine(versions: dict[str, str], absent: dict[str, str], options: argparse.Namespace, took_s: float) -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    how = "the server on the first, the viewers on the second" if len(CORES) > 1 else "shared with the viewers"
    rounds = "One round" if options.short else f"Medians of {options.rounds} rounds"
    packages = ("uvicorn", "uvloop", "starlette", "httptools", "msgspec")
    peers = "; ".join(f"{name}: {said}" for name, said in versions.items())
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.release()}, {_cpu()}, {len(CORES)} cores "
        f"({how}), {memory} GiB, Python {platform.python_version()}, unstuck {version('unstuck')} with "
        f"{', '.join(f'{name} {version(name)}' for name in packages)}. {peers}. "
        f"{rounds}; {took_s / 60:.0f} minutes."
    ]
    lines += [f"Not measured: {name} ({why})." for name, why in absent.items()]
    return "\n".join(lines)


def _cpu() -> str:
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _text(found: dict[str, Table], looked: list[tuple[goals.Goal, float, float]], machine: str) -> str:
    parts = [machine, goals.markdown(looked)]
    parts += [f"**{name}**: {SCENES[name][1]}\n\n{markdown(table)}" for name, table in found.items()]
    return "\n\n".join(parts)


def _keep(
    text: str,
    found: dict[str, Table],
    looked: list[tuple[goals.Goal, float, float]],
    versions: dict[str, str],
    absent: dict[str, str],
    *,
    write: bool,
) -> None:
    """As JSON in the cache, and as Markdown between the marks of BENCHMARKS.md."""
    told = {
        "at": datetime.now(UTC).isoformat(),
        "machine": {"cpu": _cpu(), "cores": len(CORES), "system": platform.platform()},
        "versions": {**versions, "unstuck": version("unstuck"), "python": platform.python_version()},
        "absent": absent,
        "figures": found,
        "goals": [{"goal": goal.words, "reached": reached, "most": most} for goal, reached, most in looked],
    }
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "bench.json").write_text(json.dumps(told, indent=1))
    say(f"JSON: {CACHE / 'bench.json'}")
    if write:
        before, _, rest = FILE.read_text().partition(MARKS[0])
        FILE.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")


if __name__ == "__main__":
    sys.exit(main())
