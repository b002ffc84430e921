"""Measures what users of a task queue have for progress: Celery's `update_state` on Redis, one call after another.

Redis runs on its own port and folder without persistence, so nothing here is durable. Celery is installed into the
benchmark's cache; nothing depends on either.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.figures import Samples, Table, log
from tests.bench.peers import Absent, Daemon
from tests.bench.processes import CACHE, CLIENT_CORE, PATIENCE_S, SERVER_CORE, free_port
from tests.support.waiting import eventually

CELERY = "Celery update_state on Redis"
PROGRAM = """
import sys, time
from celery import Celery
app = Celery(broker=sys.argv[1], backend=sys.argv[1])
seconds, count, start = float(sys.argv[2]), 0, time.perf_counter()
while time.perf_counter() < start + seconds:
    count += 1
    meta = {"current": count, "total": 100000, "message": "row %d" % count, "pad": "x" * 200}
    app.backend.store_result(str(count % 100), meta, "PROGRESS")
print(count / (time.perf_counter() - start))
"""


def measure(rounds: int, scale: float) -> Table:
    """Return one row: updates a second."""
    redis, python = _redis(), _python()
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="unstuck-bench-") as folder:
        port = free_port()
        command = [redis, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with Daemon(command, CLIENT_CORE):
            eventually(lambda: _answers(port))
            for turn in range(rounds):
                url = f"redis://127.0.0.1:{port}/0"
                seconds = max(3.0 * scale, 0.5)
                asked = ["taskset", "-c", str(SERVER_CORE), str(python), "-c", PROGRAM, url, str(seconds)]
                output = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
                samples.add(CELERY, **{"updates/s": float(output.stdout)})
                log(f"  celery: round {turn + 1} of {rounds}")
    return samples.medians()


def _redis() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise Absent("install it with: apt install redis-server")
    return found


def _python() -> Path:
    """Return a Python that has Celery, which is installed if need be."""
    python = CACHE / "celery" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE / "celery"], check=True, timeout=PATIENCE_S)
        install = [str(python), "-m", "pip", "install", "--quiet", "celery[redis]"]
        if subprocess.run(install, check=False, timeout=PATIENCE_S * 3, stderr=subprocess.DEVNULL).returncode:
            shutil.rmtree(CACHE / "celery")
            raise Absent("pip could not install celery[redis]")
    return python


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
