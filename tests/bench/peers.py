"""The servers that are compared: how each is obtained, started and published to, or why it is not available.

Each has one serving process, on the server's core; its memory and CPU are those of all its processes. It must
not know what is measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.bench.processes import CACHE, CLIENT_CORE, PATIENCE_S, Program, compiled, free_port
from tests.support.waiting import eventually

OURS, NAIVE, NCHAN, BETTER, BARE = "unstuck", "sse-starlette", "nchan", "better-sse", "bare C"


class Absent(Exception):
    """A peer is not available here; the message says why."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running server: the program measured, the one that publishes, and the port and paths of its streams."""

    program: Program
    publisher: Program
    port: int
    paths: list[str]

    def publish(self, rate: float, count: int = 0, size: int = 300) -> None:
        self.publisher.send(f"publish {rate} {count} {size}")


Start = Callable[[], AbstractContextManager[RunningServer]]


def ours(jobs: int = 1, **settings: str) -> Start:
    """Return how to start the product with this many jobs and these settings."""

    @contextmanager
    def start() -> Iterator[RunningServer]:
        port = free_port()
        environ = {f"UNSTUCK_{name.upper()}": text for name, text in settings.items()}
        with tempfile.TemporaryDirectory(prefix="unstuck-bench-") as folder:
            command = [sys.executable, "-m", "tests.bench.product", str(port), folder, str(jobs)]
            with Program(command, environ=environ) as program:
                yield RunningServer(program, program, port, program.paths())

    return start


def _simple(make: Callable[[int], list[str | Path]]) -> Start:
    """Return how to start a program that takes orders itself."""

    @contextmanager
    def start() -> Iterator[RunningServer]:
        port = free_port()
        with Program(make(port)) as program:
            yield RunningServer(program, program, port, program.paths())

    return start


def naive() -> tuple[Start, str]:
    return _simple(lambda port: [sys.executable, "-m", "tests.bench.naive", str(port)]), version("sse-starlette")


def bare() -> tuple[Start, str]:
    path = compiled("broadcast.c")
    return _simple(lambda port: [path, str(port)]), "epoll, one send for each event and stream"


def better() -> tuple[Start, str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    package = CACHE / "node_modules" / "better-sse"
    if not node or not (package.exists() or npm):
        raise Absent("node and npm are needed")
    if not package.exists():
        command = [
            str(npm),
            "install",
            "--silent",
            "--no-fund",
            "--no-audit",
            "--prefix",
            str(CACHE),
            "better-sse",
        ]
        if subprocess.run(command, check=False, timeout=PATIENCE_S, stdout=sys.stderr).returncode:
            raise Absent("npm could not install it")
    script = Path(__file__).with_name("better.mjs")
    entry = package / "build" / "index.mjs"
    node_version = _output([node, "--version"])
    named = json.loads((package / "package.json").read_text())["version"]
    return _simple(lambda port: [node, script, str(port), entry]), f"{named} on node {node_version}"


NCHAN_CONFIGURATION = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
load_module {module};
events {{ worker_connections 16000; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    nchan_channel_id bench;
    location = /events {{ nchan_subscriber eventsource; nchan_subscriber_first_message newest; }}
    location = /publish {{ nchan_publisher; nchan_message_buffer_length 5000; }}
  }}
}}
"""


def nchan() -> tuple[Start, str]:
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    folders = ("/usr/lib/nginx/modules", "/usr/share/nginx/modules")
    module = next((path for one in folders if (path := Path(one, "ngx_nchan_module.so")).exists()), None)
    if nginx is None or module is None:
        raise Absent("install it with: apt install nginx-light libnginx-mod-nchan")

    @contextmanager
    def start() -> Iterator[RunningServer]:
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="unstuck-bench-") as folder:
            Path(folder).chmod(0o755)
            conf = Path(folder, "nginx.conf")
            user = "user root;" if os.geteuid() == 0 else ""
            conf.write_text(NCHAN_CONFIGURATION.format(folder=folder, module=module, port=port, user=user))
            publish = [sys.executable, "-m", "tests.bench.publisher", str(port), "/publish"]
            # nginx takes no orders; the publisher does, on the viewers' core.
            with (
                Daemon([nginx, "-p", folder, "-c", str(conf)]) as program,
                Program(publish, CLIENT_CORE) as publisher,
            ):
                eventually(lambda: Path(folder, "pid").exists())
                yield RunningServer(program, publisher, port, ["/events"])

    return start, f"{_debian('libnginx-mod-nchan')} in nginx {_debian('nginx-light') or _debian('nginx')}"


class Daemon(Program):
    """A program that does not read stdin, and is ended by a signal."""

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        super().__exit__()


#: Every peer of a broadcast, by name.
PEERS: dict[str, Callable[[], tuple[Start, str]]] = {NAIVE: naive, NCHAN: nchan, BETTER: better, BARE: bare}


def available(names: list[str]) -> tuple[dict[str, Start], dict[str, str], dict[str, str]]:
    """Return the available peers, their versions, and why the others are not available."""
    starts, versions, absent = {}, {}, {}
    for name in names:
        try:
            starts[name], versions[name] = PEERS[name]()
        except (Absent, OSError, subprocess.SubprocessError) as error:
            absent[name] = str(error)
    return starts, versions, absent


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S).stdout.strip()


def _debian(package: str) -> str:
    return _output(["dpkg-query", "-W", "-f", "${Version}", package]) if shutil.which("dpkg-query") else ""
