"""The server starts and works on macOS, as far as that can be played: without the calls that only Linux has."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.server import Server
from unstuck.store.disk_reserve import RESERVE_BYTES

#: Takes away from Python what macOS lacks, and refuses the limits that it refuses.
AS_ON_MACOS = """
import fcntl, os, resource, select, signal, socket, time

LACKING = {
    os: "sched_getaffinity sched_setaffinity sched_getscheduler process_cpu_count posix_fallocate posix_fadvise "
    "copy_file_range sendfile splice memfd_create eventfd pidfd_open pipe2 fdatasync getrandom getxattr setxattr "
    "setresuid O_TMPFILE O_PATH O_DIRECT O_NOATIME O_LARGEFILE SCHED_BATCH unshare setns",
    fcntl: "F_SETPIPE_SZ F_GETPIPE_SZ F_ADD_SEALS F_OFD_SETLK F_NOTIFY",
    resource: "prlimit RUSAGE_THREAD RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_NICE RLIMIT_SIGPENDING",
    select: "epoll EPOLLIN",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo SIGRTMIN SIGPOLL",
    socket: "TCP_USER_TIMEOUT TCP_QUICKACK SO_PEERCRED AF_NETLINK SO_BINDTODEVICE",
    time: "CLOCK_BOOTTIME CLOCK_TAI pthread_getcpuclockid",
}
for module, names in LACKING.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

get_limit, set_limit = resource.getrlimit, resource.setrlimit

def getrlimit(what):
    soft, hard = get_limit(what)
    return soft, resource.RLIM_INFINITY if what == resource.RLIMIT_NOFILE else hard

def setrlimit(what, limits):
    soft, hard = limits
    if what in (resource.RLIMIT_DATA, resource.RLIMIT_AS) or (what == resource.RLIMIT_NOFILE and soft > 10_240):
        raise ValueError("current limit exceeds maximum limit")
    set_limit(what, (soft, get_limit(what)[1]) if what == resource.RLIMIT_NOFILE else limits)

resource.getrlimit = getrlimit
resource.setrlimit = setrlimit
"""


def test_a_server_without_what_only_linux_has(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(AS_ON_MACOS)  # Python runs it first, in workers too
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    server = Server(tmp_path / "data", environ={"PYTHONPATH": path}).start()
    try:
        work(server)
    finally:
        assert server.stop() == 0


def work(server: Server) -> None:
    assert server.until_done(server.submit("checksum", {"a.txt": b"a"})["id"])["state"] == "completed"
    assert (server.data / "reserve").stat().st_size == RESERVE_BYTES
