"""Simulates power cuts: the data folder is on its own disk, and a copy of the stopped disk becomes the next one.

The copy lacks what the kernel still held in memory. The loop device bypasses the page cache, so that the backing
file has what a disk would have. Needs root and loop devices; `missing()` says what is not there. It must not
know what is wrong (siege.py).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.crash.siege import Figures, Siege, workers_of
from tests.support.waiting import eventually

SIZE_MIB = 192
#: Between two power cuts (seconds).
LIFE_S = (0.3, 2.0)


def missing() -> str | None:
    """Return why power cuts cannot be simulated here, or None if they can."""
    if os.geteuid() != 0:
        return "power cuts need root"
    for tool in ("losetup", "mkfs.ext4", "mount"):
        if shutil.which(tool) is None:
            return f"power cuts need {tool}"
    if subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode != 0:
        return "power cuts need a free loop device"
    return None


class Disk:
    """An ext4 file system in a file, mounted through a loop device."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "disk"
        self.place.mkdir()
        self._image = folder / "image-0"
        self._folder = folder
        self._device = ""
        self._cuts = 0
        with self._image.open("wb") as image:
            image.truncate(SIZE_MIB * 1024**2)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._attach()

    def _attach(self) -> None:
        self._device = _run("losetup", "--direct-io=on", "--find", "--show", str(self._image))
        _run("mount", "-o", "noatime", self._device, str(self.place))

    def detach(self) -> None:
        # A process that was killed may keep files open for a moment.
        umount = ["umount", str(self.place)]
        eventually(lambda: subprocess.run(umount, capture_output=True, check=False).returncode == 0)
        _run("losetup", "--detach", self._device)

    def copy(self) -> Path:
        """Return a copy of the disk as it is now, without what the kernel has not written yet."""
        self._cuts += 1
        copy = self._folder / f"image-{self._cuts}"
        _run("cp", "--sparse=always", str(self._image), str(copy))
        return copy

    def become(self, copy: Path) -> None:
        """Continue with a copy in place of the disk."""
        self.detach()
        self._image.unlink()
        self._image = copy
        self._attach()


def play_power(folder: Path, seed: int, cuts: int, on_cut: Callable[[int], None] = lambda _: None) -> Figures:
    """Cut the power this often, calling `on_cut` each time, and judge."""
    chance = random.Random(f"power {seed}")
    disk = Disk(folder)
    siege = Siege(folder, seed, data="disk/data")
    try:
        siege.up()
        siege.begin()
        for number in range(1, cuts + 1):
            time.sleep(chance.uniform(*LIFE_S))
            copy = _cut(siege, disk)
            disk.become(copy)
            on_cut(number)
            assert siege.up(), siege.server.log.read_text()
        return siege.end(cuts)
    finally:
        siege.close()
        disk.detach()


def _cut(siege: Siege, disk: Disk) -> Path:
    """Stop all processes, copy the disk, and only then kill them; return the copy."""
    process = siege.server.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    workers = workers_of(process.pid)
    for pid in workers:
        _signal_group(pid, signal.SIGSTOP)
    copy = disk.copy()
    siege.kill()
    for pid in workers:
        _signal_group(pid, signal.SIGKILL)
    return copy


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
