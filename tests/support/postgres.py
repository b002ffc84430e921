"""Runs a PostgreSQL server for tests, and ends it with the last process that uses it.

A cluster lives in a temporary folder of its own and never touches another one of this machine. It listens on a
socket in that folder and on a free port of 127.0.0.1; `fsync` stays on, as in production.
Must not know what is stored.
See also: tests/conftest.py (the fixtures).

A guardian, this module run as a program, starts the server, starts it again when it crashes, and ends it. Each
process that uses the cluster holds a shared lock; when the kernel has released the last one, even because all
processes were killed, the guardian gets the lock for itself, and ends the server and its folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.machine import INSTALLS
from tests.support.processes import alive
from tests.support.waiting import eventually

#: The role that tests connect as: it owns its databases and nothing else.
ROLE = "unstuck"
#: Accounts to run the server as where the tests run as root, which PostgreSQL refuses.
ACCOUNTS = ("postgres", "nobody")
#: Folders of the programs, for packages that do not put them on the PATH.
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
MISSING = "needs PostgreSQL: apt-get install postgresql, or put its initdb and postgres on the PATH"

#: Empties the tables of a store, if there are any. For a few rows it is faster than TRUNCATE.
EMPTY_STORE = """
    DO $$ BEGIN
        IF to_regclass('unstuck.removals') IS NOT NULL THEN
            DELETE FROM unstuck.jobs; DELETE FROM unstuck.items; DELETE FROM unstuck.timeline;
            DELETE FROM unstuck.deliveries; DELETE FROM unstuck.removals;
        END IF;
    END $$
"""


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs, or None if there is no server."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).resolve().parent] if on_path else []
    for pattern in PLACES:
        found += sorted(Path("/").glob(pattern[1:]), key=_version, reverse=True)
    return next((place for place in found if (place / "initdb").exists() and (place / "postgres").exists()), None)


def require() -> None:
    """Skip the test where there is no PostgreSQL, or fail it where scripts/test would have installed one."""
    if programs() is None:
        (pytest.fail if INSTALLS else pytest.skip)(MISSING)


class Cluster:
    """A running PostgreSQL server, which all processes that use the same place share."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        self.folder = folder
        self.port = port
        self.password = password
        self._numbers = itertools.count(1)

    def url(self, database: str, *, role: str = ROLE) -> str:
        """Return the URL of a database through the socket, which needs no password."""
        return f"postgresql://{role}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, *, role: str = ROLE) -> str:
        """Return the URL of a database through TCP, which proxies and networks can break."""
        return f"postgresql://{role}:{self.password}@127.0.0.1:{self.port}/{database}"

    def run(self, sql: str, database: str = "postgres") -> str:
        """Run statements as the superuser, each committed by itself; return the rows, one per line."""
        found = programs()
        assert found is not None
        command = [str(found / "psql"), self.url(database, role="postgres"), "-qXAt", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """Create a database for one test, empty or a copy of `template`, and drop it after it; yield its name."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template}")
        try:
            yield name
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    # -- trouble

    def crash(self) -> None:
        """End the server at once, as if its machine had lost power; the guardian starts it again."""
        before = self._pid()
        os.kill(before, signal.SIGQUIT)
        eventually(lambda: self.is_ready() and self._pid() != before)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """End the server at once, and start it again afterwards."""
        (self.folder / "down").touch()
        before = self._pid()
        os.kill(before, signal.SIGQUIT)
        eventually(lambda: not alive(before))
        try:
            yield
        finally:
            (self.folder / "down").unlink()
            eventually(self.is_ready)

    def is_ready(self) -> bool:
        """Return whether connections are accepted."""
        with contextlib.suppress(OSError, IndexError):
            return (self.folder / "data" / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        return False

    def _pid(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])


@contextlib.contextmanager
def cluster(place: Path) -> Iterator[Cluster]:
    """Use the cluster of this place, which the first process starts and which ends with the last one."""
    place.mkdir(parents=True, exist_ok=True)
    found = place / "cluster.json"
    with (place / "users").open("w") as users, (place / "starting").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if not found.exists():
            _start_guardian(place)
        fcntl.flock(starting, fcntl.LOCK_UN)
        described = json.loads(found.read_text())
        yield Cluster(Path(described["folder"]), described["port"], described["password"])


def _start_guardian(place: Path) -> None:
    with (place / "guardian.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.postgres", str(place)],
            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.readline()
    threading.Thread(target=process.wait, daemon=True).start()  # it outlives this process, or is reaped here
    assert said == "ready\n", (place / "guardian.log").read_text()


# -- the guardian


def guard(place: Path) -> None:
    """Run a new cluster until no process uses it any more, then remove it."""
    folder = Path(tempfile.mkdtemp(prefix="unstuck-pg-"))  # short: the path of a socket has 107 bytes at most
    described = place / "cluster.json"
    try:
        made = Cluster(folder, _free_port(), secrets.token_hex(8))
        _create(folder)
        server = _start(made)
        eventually(lambda: made.is_ready() or server.poll() is not None)
        made.run(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{made.password}'")
        described.write_text(json.dumps({"folder": str(folder), "port": made.port, "password": made.password}))
        print("ready", flush=True)
        with (place / "users").open("w") as users:
            while not _is_last(users):
                if server.poll() is not None and not (folder / "down").exists():
                    server = _start(made)
                time.sleep(0.05)
            if server.poll() is None:
                server.send_signal(signal.SIGQUIT)
            server.wait()
            described.unlink()
            shutil.rmtree(folder)  # before the lock is released: the next user starts another cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_last(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _create(folder: Path) -> None:
    found, account = programs(), _account()
    assert found is not None
    if account is not None:
        shutil.chown(folder, *account)
    command = [
        str(found / "initdb"), "--pgdata", str(folder / "data"), "--username", "postgres", "--encoding", "UTF8",
        "--locale", "C", "--auth-local", "trust", "--auth-host", "scram-sha-256", "--no-sync",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, **_as(account))
    assert done.returncode == 0, done.stderr


def _start(made: Cluster) -> subprocess.Popen[bytes]:
    found = programs()
    assert found is not None
    options = {
        "listen_addresses": "127.0.0.1",
        "port": made.port,
        "unix_socket_directories": made.folder,
        "max_connections": 200,
        "shared_buffers": "64MB",
    }
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    command = [str(found / "postgres"), "-D", str(made.folder / "data"), *words]
    with (made.folder / "log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, **_as(_account()))


def _account() -> tuple[int, int] | None:
    """Return user and group to run the server as where the tests run as root, else None."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid, pwd.getpwnam(name).pw_gid
    raise AssertionError(f"PostgreSQL does not run as root, and there is no account of these: {ACCOUNTS}")


def _as(account: tuple[int, int] | None) -> dict[str, Any]:
    return (
        {"cwd": "/"}
        if account is None
        else {"cwd": "/", "user": account[0], "group": account[1], "extra_groups": ()}
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _version(place: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(place))]


if __name__ == "__main__":
    guard(Path(sys.argv[1]))
