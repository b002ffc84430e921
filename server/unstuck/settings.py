"""Defines every setting: its name, default, unit and meaning. It is the only file that reads the environment.

Must not know: what a setting does.
See also: OPERATING.md (the settings for operators), app.py (which hands them on).

A setting `max_files` is the environment variable `UNSTUCK_MAX_FILES`; lists are separated by newlines or, for host
names, by commas. The command line takes precedence over the environment, and that over the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from unstuck.errors import CannotStart

PREFIX = "UNSTUCK_"


def _setting(default: Any, text: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": text, "secret": secret}, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a server. Times are in seconds (`_s`), sizes in bytes (`_bytes`) or MiB (`_mib`)."""

    host: str = _setting("127.0.0.1", "address to listen on; any but loopback opens the server to the network")
    port: int = _setting(8765, "TCP port to listen on; 0 takes a free one")
    data: str = _setting("", "folder for the database and the files; empty: the user's data folder")
    app: str = _setting("", "Python file or module with your own kinds of work")
    commands: tuple[str, ...] = _setting((), "command lines to offer as kinds, each NAME=COMMAND")
    allowed_hosts: tuple[str, ...] = _setting(
        ("localhost", "127.0.0.1", "[::1]"), "host names that requests may use; * allows all"
    )
    root_path: str = _setting("", "path prefix at which a proxy serves the app, such as /progress")
    tls_cert: str = _setting("", "certificate file (PEM); with tls_key: HTTPS, and HTTP/2 if zttp is installed")
    tls_key: str = _setting("", "private key file (PEM) of the certificate")
    log_level: str = _setting("info", "debug, info, warning or error")

    workers: int = _setting(0, "worker processes; 0: one for each core")
    worker_memory_mib: int = _setting(
        0, "memory that one worker may allocate; 0: four fifths of the machine's, shared evenly"
    )
    max_attempts: int = _setting(3, "attempts at an item, unless the submission says otherwise")
    cancel_grace_s: float = _setting(1.0, "time for an item to stop by itself before its worker is killed")
    lease_s: float = _setting(
        30.0, "lease duration: items of a runner that has not renewed for this long go to another"
    )
    retry_pause_s: float = _setting(1.0, "pause before another attempt; doubled each time, up to a minute")
    item_limit_s: float = _setting(0.0, "time limit for one item, unless job or kind sets one; 0: none")
    report_hold_s: float = _setting(0.2, "time that progress may wait to be written")

    max_files: int = _setting(10_000, "files in one job")
    max_file_bytes: int = _setting(2 * 1024**3, "bytes of one file")
    max_job_bytes: int = _setting(20 * 1024**3, "bytes of all files of one job")
    max_name_length: int = _setting(1_000, "characters of a name")
    max_waiting_jobs: int = _setting(10_000, "unfinished jobs; further ones are refused")
    upload_memory_bytes: int = _setting(1024**2, "bytes of an uploaded file held in memory")

    max_streams: int = _setting(0, "streams open at once; 0: as many as the limit on open files allows")
    heartbeat_s: float = _setting(15.0, "time between heartbeats on an open stream")
    interval_s: float = _setting(0.1, "minimum time between two events of a job")
    stream_life_s: float = _setting(600.0, "maximum age of a stream; then the client opens a new one")
    send_timeout_s: float = _setting(15.0, "time after which a viewer that does not read is disconnected")
    broadcast_attempts: int = _setting(3, "attempts at a broadcast")
    broadcast_pause_s: float = _setting(0.5, "pause between two attempts at a broadcast")
    shutdown_s: float = _setting(2.0, "time after which open streams are closed when the server stops")

    waiting_long_s: float = _setting(600.0, "time in the queue after which a job is waiting_long")
    reporter_silence_s: float = _setting(60.0, "time without a report after which external work is unresponsive")
    reporter_lost_s: float = _setting(86_400.0, "time without a report after which external work fails; 0: never")
    stalled_s: float = _setting(300.0, "time without progress after which a job is stalled")
    expiry_s: float = _setting(0.0, "time in the queue after which a job fails; 0: never")
    retention_s: float = _setting(
        7 * 86_400.0, "time that finished jobs and their files are kept; 0: until they are removed"
    )
    keep_inputs: int = _setting(1, "1: inputs are kept with their job; 0: only those that a retry would need")

    webhook_secret: str = _setting(
        "", "signs webhooks: whsec_ and base64; several, separated by spaces, all sign", secret=True
    )
    webhook_allow_private: int = _setting(0, "1: webhooks may go to any private address")
    webhook_hosts: tuple[str, ...] = _setting((), "hosts that webhooks may go to although they are private")

    @property
    def folder(self) -> Path:
        """The data folder."""
        return Path(self.data or platformdirs.user_data_dir("unstuck")).expanduser().absolute()

    @property
    def keep_s(self) -> float | None:
        """The retention in seconds; None if jobs are kept until they are removed."""
        return self.retention_s or None

    @property
    def worker_count(self) -> int:
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def worker_memory(self) -> int:
        """The memory of one worker (MiB)."""
        if self.worker_memory_mib:
            return self.worker_memory_mib
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
        return max(machine * 4 // 5 // self.worker_count, 256)


def load(given: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings, from `given` (None: not given), else the environment, else the defaults.

    Raises CannotStart for an invalid value, and for an UNSTUCK_ variable that is not a setting.
    """
    values: dict[str, Any] = {}
    known = {f"{PREFIX}{one.name.upper()}": one for one in fields(Settings)}
    for variable, text in environ.items():
        if variable in known:
            values[known[variable].name] = _parse(variable, text, known[variable].default)
        elif variable.startswith(PREFIX):
            raise CannotStart(f"There is no setting {variable}; `unstuck settings` lists them all.")
    values.update({name: value for name, value in (given or {}).items() if value is not None})
    return _checked(Settings(**values))


def without_secrets(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without secrets, for processes that run other people's code."""
    secret = {f"{PREFIX}{one.name.upper()}" for one in fields(Settings) if one.metadata["secret"]}
    return {name: text for name, text in environ.items() if name not in secret}


def source(name: str, given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> str:
    """Return where a setting's value comes from: `command line`, `environment` or `default`."""
    if given.get(name) is not None:
        return "command line"
    return "environment" if f"{PREFIX}{name.upper()}" in environ else "default"


def _parse(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        parts = text.splitlines() if variable.endswith("COMMANDS") else text.split(",")
        return tuple(part.strip() for part in parts if part.strip())
    try:
        return type(default)(text)
    except ValueError:
        form = "a whole number" if isinstance(default, int) else "a number"
        raise CannotStart(f"{variable} must be {form}, not {text!r}.") from None


def _checked(settings: Settings) -> Settings:
    for one in fields(Settings):
        value = getattr(settings, one.name)
        if isinstance(value, int | float) and value < 0:
            raise CannotStart(f"{one.name} must not be negative, not {value}.")
    positive = (
        "max_attempts",
        "max_files",
        "max_name_length",
        "max_waiting_jobs",
        "heartbeat_s",
        "lease_s",
        "broadcast_attempts",
    )
    for name in positive:
        if getattr(settings, name) < 1:
            raise CannotStart(f"{name} must be at least 1, not {getattr(settings, name)}.")
    if settings.reporter_silence_s == 0:
        raise CannotStart("reporter_silence_s must be more than 0.")
    if settings.keep_inputs > 1:
        raise CannotStart(f"keep_inputs must be 0 or 1, not {settings.keep_inputs}.")
    if settings.port > 65535:
        raise CannotStart(f"port must be between 0 and 65535, not {settings.port}.")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise CannotStart("Give both --tls-cert and --tls-key, or neither.")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise CannotStart(f"log_level must be debug, info, warning or error, not {settings.log_level!r}.")
    if settings.root_path and (not settings.root_path.startswith("/") or settings.root_path.endswith("/")):
        raise CannotStart(f"root_path must begin with a slash and not end with one, not {settings.root_path!r}.")
    return settings
