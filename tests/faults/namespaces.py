"""A real network: client, router and server in three network namespaces.

The router can drop, refuse or delay what it should forward, one way or both. Packets are dropped in the router,
never at the sender, where TCP would notice, skip its back-off and recover sooner than in the field. Needs root,
`ip`, `tc` and `iptables`; leaves nothing behind. It must not know dialogs, jobs, or what is true.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import count
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_SET_UP = """
ip netns add {r}
ip netns add {t}
ip link add {a} type veth peer name {b}
ip link set {b} netns {r}
ip link add {c} type veth peer name {d}
ip link set {c} netns {r}
ip link set {d} netns {t}
ip addr add {near}.1/24 dev {a}
ip link set {a} up
ip -n {r} addr add {near}.2/24 dev {b}
ip -n {r} link set {b} up
ip -n {r} addr add {far}.1/24 dev {c}
ip -n {r} link set {c} up
ip -n {t} addr add {far}.2/24 dev {d}
ip -n {t} link set {d} up
ip -n {t} link set lo up
ip -n {t} route add default via {far}.1
ip netns exec {r} sysctl -qw net.ipv4.ip_forward=1
ip route add {far}.0/24 via {near}.2
"""


def missing() -> str:
    """Return why namespaces cannot be used here, or an empty string if they can."""
    tools = [name for name in ("ip", "iptables", "sysctl", "tc") if not shutil.which(name)]
    if os.geteuid() != 0:
        return "namespaces need root"
    if tools:
        return f"namespaces need {' and '.join(tools)}"
    probe = f"u{os.getpid() % 100_000}p"
    try:
        _run(f"ip netns add {probe}")
        _run(f"ip netns del {probe}")
    except subprocess.CalledProcessError as error:
        return f"namespaces are not allowed here: {error.stderr.strip()}"
    return ""


class Way(StrEnum):
    """Which packets are affected."""

    BOTH = "both ways"
    REQUESTS = "requests"
    ANSWERS = "responses"


class Router:
    """A router between this namespace and the server's; see `set_up`."""

    _number = count()

    def __init__(self, number: int) -> None:
        name = f"u{os.getpid() % 100_000}x{number}"
        # Two private networks, on either side of the router; they differ for each router and process.
        third = os.getpid() % 120 * 2
        near, far = f"10.{77 + number}.{third}", f"10.{77 + number}.{third + 1}"
        self.server = f"{far}.2"
        self._router, self._server = f"{name}r", f"{name}t"
        self._to_client, self._to_server = f"{name}b", f"{name}c"
        self._names = {"near": near, "far": far, **{end: f"{name}{end}" for end in "rtabcd"}}

    @staticmethod
    @contextmanager
    def set_up() -> Iterator[Router]:
        """Create the three namespaces, and remove them at the end even if creating them failed halfway."""
        router = Router(next(Router._number))
        try:
            for line in _SET_UP.strip().format(**router._names).splitlines():
                _run(line)
            yield router
        finally:
            for line in ("ip netns del {r}", "ip netns del {t}", "ip link del {a}"):
                with suppress(subprocess.CalledProcessError):  # never created, or removed with the rest
                    _run(line.format(**router._names))

    def drop(self, way: Way = Way.BOTH, share: float = 1.0) -> None:
        """Drop this share of the packets that go this way."""
        chance = "" if share >= 1 else f"-m statistic --mode random --probability {share} "
        arriving = {Way.BOTH: "", Way.REQUESTS: f"-i {self._to_client} ", Way.ANSWERS: f"-i {self._to_server} "}
        self._forward(f"{arriving[way]}{chance}-j DROP")

    def refuse(self) -> None:
        """Answer every packet with a reset."""
        self._forward("-p tcp -j REJECT --reject-with tcp-reset")

    def slow(self, rate: str) -> None:
        """Limit each direction to a rate such as `16kbit`; packets that would wait over 0.4 s are dropped."""
        for device in (self._to_client, self._to_server):
            self._run_in_router(f"tc qdisc add dev {device} root tbf rate {rate} burst 16kbit latency 400ms")

    def heal(self) -> None:
        self._run_in_router("iptables -F FORWARD")
        for device in (self._to_client, self._to_server):
            with suppress(subprocess.CalledProcessError):  # it was not slow
                self._run_in_router(f"tc qdisc del dev {device} root")

    def _forward(self, rule: str) -> None:
        self._run_in_router(f"iptables -A FORWARD {rule}")

    def _run_in_router(self, line: str) -> None:
        _run(f"ip netns exec {self._router} {line}")

    def in_server_namespace(self, call: Callable[[], T]) -> T:
        """Call this in the server's namespace, and return what it returns; processes that it starts stay there."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                with open(f"/run/netns/{self._server}") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "the namespace cannot be entered")
                results.append(call())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter)  # a namespace applies to a thread, and this one ends
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]


def _run(line: str) -> None:
    try:
        subprocess.run(line.split(), check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        error.add_note(f"{line}: {error.stderr.strip()}")
        raise
