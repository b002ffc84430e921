"""Defines every setting: its name, default, unit and meaning. Nothing else of the server reads variables.

Must not know: what a setting does.
See also: OPERATING.md (the settings for operators), app.py (which hands them on).

A setting `max_files` is the environment variable `UNSTUCK_MAX_FILES`; lists are separated by newlines or, for host
names, by commas. The command line takes precedence over the environment, and that over the default.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import platformdirs

from unstuck.address import URL_VARIABLE
from unstuck.errors import CannotStart

PREFIX = "UNSTUCK_"
#: The path of a URL: it becomes part of links, and of the header Location.
ROOT_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
#: What may follow `Authorization: Bearer` (RFC 6750), and cannot be guessed.
WORK_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,500}")
#: What Kubernetes puts into the environment of every pod for a service named `unstuck` or `unstuck-…`.
_OF_A_SERVICE = re.compile(
    r"UNSTUCK_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"UNSTUCK_(\w+_)?PORT")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


#: The longest duration of a setting (seconds): a hundred years. Dates that far ahead can still be written.
CENTURY_S = 100 * 366 * 86_400
#: The longest duration of a setting that counts within the life of a server (seconds): thirty days.
MONTH_S = 30 * 86_400
HOUR_S = 3_600
MINUTE_S = 60
#: The memory of a machine that does not tell it (MiB).
USUAL_MIB = 8 * 1024
#: The largest size of a setting (bytes): a pebibyte, which JavaScript can still count.
MOST_BYTES = 2**50
#: The longest name of a server (characters): people read it in lists.
LONGEST_NAME = 100


def _setting(default: Any, text: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": text, "secret": secret}, repr=not secret)


def _number(default: float, text: str, minimum: float, maximum: float, unit: str, *, zero: bool = False) -> Any:
    """Declare a number; with `zero`, 0 is allowed beside the bounds, and has a meaning of its own.

    Within the bounds, whatever is computed from it is possible: dates, sleeps, limits, columns of a database.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "unit": unit, "zero": zero}
    return field(default=default, metadata={"help": text, "secret": False, **bounds})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a server. Times are in seconds (`_s`), sizes in bytes (`_bytes`) or MiB (`_mib`).

    Raises CannotStart for a value with which the server could not work.
    """

    host: str = _setting("127.0.0.1", "address to listen on; any but loopback opens the server to the network")
    port: int = _number(8765, "TCP port to listen on; 0 takes a free one", 0, 65_535, "")
    server_name: str = _setting(
        "",
        "name of this server, the same at each start, and no other's; empty: the host's and a random word",
    )
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

    workers: int = _number(0, "worker processes; 0: one for each core", 1, 1_000, "processes", zero=True)
    own_workers: int = _number(
        1, "0: no workers here; all work waits for workers elsewhere (unstuck work)", 0, 1, ""
    )
    work_token: str = _setting(
        "", "secret of workers elsewhere, 16 characters or more; without it they are refused", secret=True
    )
    worker_memory_mib: int = _number(
        0,
        "memory that one worker may allocate; 0: four fifths of the machine's, shared evenly",
        64,
        2**24,
        "MiB",
        zero=True,
    )
    max_attempts: int = _number(3, "attempts at an item, unless the submission says otherwise", 1, 100, "attempts")
    cancel_grace_s: float = _number(
        1.0, "time for an item to stop by itself before its worker is killed", 0, HOUR_S, "seconds"
    )
    lease_s: float = _number(
        30.0,
        "lease duration: items of a runner that has not renewed for this long go to another",
        1,
        MONTH_S,
        "seconds",
    )
    retry_pause_s: float = _number(
        1.0, "pause before another attempt; doubled each time, up to a minute", 0, MINUTE_S, "seconds"
    )
    item_limit_s: float = _number(
        0.0,
        "time limit for one item, unless job or kind sets one; 0: none",
        0.001,
        CENTURY_S,
        "seconds",
        zero=True,
    )
    report_hold_s: float = _number(0.2, "time that progress may wait to be written", 0, MINUTE_S, "seconds")

    max_files: int = _number(10_000, "files in one job", 1, 1_000_000, "files")
    max_file_bytes: int = _number(2 * 1024**3, "bytes of one file", 1, MOST_BYTES, "bytes")
    max_job_bytes: int = _number(20 * 1024**3, "bytes of all files of one job", 1, MOST_BYTES, "bytes")
    # The longest name that the server itself gives is that of a kind.
    max_name_length: int = _number(1_000, "characters of a name", 80, 10_000, "characters")
    max_waiting_jobs: int = _number(10_000, "unfinished jobs; further ones are refused", 1, 1_000_000, "jobs")
    upload_memory_bytes: int = _number(1024**2, "bytes of an uploaded file held in memory", 0, 1024**3, "bytes")

    max_uploads: int = _number(
        128, "uploads and streams of reports received at once; further ones try again", 1, 1_000_000, "uploads"
    )
    max_streams: int = _number(
        0, "streams open at once; 0: as many as the limit on open files allows", 1, 1_000_000, "streams", zero=True
    )
    heartbeat_s: float = _number(15.0, "time between heartbeats on an open stream", 1, HOUR_S, "seconds")
    interval_s: float = _number(0.1, "minimum time between two events of a job", 0, MINUTE_S, "seconds")
    stream_life_s: float = _number(
        600.0, "maximum age of a stream; then the client opens a new one", 1, MONTH_S, "seconds"
    )
    send_timeout_s: float = _number(
        15.0, "time after which a viewer that does not read is disconnected", 1, HOUR_S, "seconds"
    )
    broadcast_attempts: int = _number(3, "attempts at a broadcast", 1, 100, "attempts")
    broadcast_pause_s: float = _number(0.5, "pause between two attempts at a broadcast", 0, MINUTE_S, "seconds")
    shutdown_s: float = _number(
        2.0, "time after which open streams are closed when the server stops", 0, HOUR_S, "seconds"
    )

    waiting_long_s: float = _number(
        600.0, "time in the queue after which a job is waiting_long", 0, CENTURY_S, "seconds"
    )
    reporter_silence_s: float = _number(
        60.0, "time without a report after which external work is unresponsive", 0.1, CENTURY_S, "seconds"
    )
    reporter_lost_s: float = _number(
        86_400.0,
        "time without a report after which external work fails; 0: never",
        1,
        CENTURY_S,
        "seconds",
        zero=True,
    )
    stalled_s: float = _number(
        300.0, "time without progress after which a job is stalled", 0, CENTURY_S, "seconds"
    )
    expiry_s: float = _number(
        0.0, "time in the queue after which a job fails; 0: never", 1, CENTURY_S, "seconds", zero=True
    )
    retention_s: float = _number(
        7 * 86_400.0,
        "time that finished jobs and their files are kept; 0: until they are removed",
        1,
        CENTURY_S,
        "seconds",
        zero=True,
    )
    keep_inputs: int = _number(
        1, "1: inputs are kept with their job; 0: only those that a retry would need", 0, 1, ""
    )

    webhook_secret: str = _setting(
        "", "signs webhooks: whsec_ and base64; several, separated by spaces, all sign", secret=True
    )
    webhook_allow_private: int = _number(0, "1: webhooks may go to any private address", 0, 1, "")
    webhook_hosts: tuple[str, ...] = _setting((), "hosts that webhooks may go to although they are private")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if "minimum" in one.metadata:
                _check_number(one, value)
            elif isinstance(one.default, tuple) and isinstance(value, str):
                raise CannotStart(f"{one.name} is a list: give [{value!r}], not {value!r}.")
        _check_texts(self)

    @property
    def folder(self) -> Path:
        """The data folder. Raises CannotStart if it begins with the home of a user that does not exist."""
        try:
            return Path(self.data or platformdirs.user_data_dir("unstuck")).expanduser().absolute()
        except RuntimeError as error:
            raise CannotStart(f"The data folder {self.data!r} cannot be found: {error}") from None

    @property
    def keep_s(self) -> float | None:
        """The retention in seconds; None if jobs are kept until they are removed."""
        return self.retention_s or None

    @property
    def worker_count(self) -> int:
        return self.workers or _cores()

    @property
    def worker_memory(self) -> int:
        """The memory of one worker (MiB)."""
        if self.worker_memory_mib:
            return self.worker_memory_mib
        return max(_machine_mib() * 4 // 5 // self.worker_count, 256)


def _cores() -> int:
    """Return how many cores this process may use; where the system does not say, how many there are."""
    if sys.platform == "linux" and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine_mib() -> int:
    """Return the memory of the machine (MiB)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    except (AttributeError, ValueError, OSError):  # a system that does not tell it
        return USUAL_MIB


def load(given: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings, from `given` (None: not given), else the environment, else the defaults.

    Raises CannotStart for an invalid value, for an UNSTUCK_ variable that is not a setting, and for a setting that
    does not exist.
    """
    values: dict[str, Any] = {}
    known = {f"{PREFIX}{one.name.upper()}": one for one in fields(Settings)}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable == URL_VARIABLE or _is_of_a_service(variable, text):
            continue
        if variable not in known:
            raise CannotStart(_no_setting(variable))
        values[known[variable].name] = _parse(variable, text, known[variable].default)
    for name in (given or {}).keys() - {one.name for one in fields(Settings)}:
        raise CannotStart(_no_setting(name))
    values.update({name: value for name, value in (given or {}).items() if value is not None})
    return Settings(**values)


def without_secrets(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without secrets, for processes that run other people's code."""
    secret = {f"{PREFIX}{one.name.upper()}" for one in fields(Settings) if one.metadata["secret"]}
    return {name: text for name, text in environ.items() if name not in secret}


def source(name: str, given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> str:
    """Return where a setting's value comes from: `command line`, `environment` or `default`."""
    if given.get(name) is not None:
        return "command line"
    variable = f"{PREFIX}{name.upper()}"
    text = environ.get(variable)
    return "default" if text is None or _is_of_a_service(variable, text) else "environment"


def _is_of_a_service(variable: str, text: str) -> bool:
    """Return whether Kubernetes has set the variable, for a service whose name begins like ours."""
    if _OF_A_SERVICE.fullmatch(variable):
        return True
    return bool(_SERVICE_PORT.fullmatch(variable) and _SERVICE_URL.fullmatch(text))


def _no_setting(given: str) -> str:
    """Return that this variable or name is no setting, with the nearest one that is."""
    name = given.removeprefix(PREFIX).lower()
    similar = difflib.get_close_matches(name, [one.name for one in fields(Settings)], n=1)
    guess = ""
    if similar:
        guess = f" Did you mean {f'{PREFIX}{similar[0].upper()}' if given.startswith(PREFIX) else similar[0]}?"
    return f"There is no setting {given}.{guess} `unstuck settings` lists them all."


def _parse(variable: str, text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        parts = text.splitlines() if variable.endswith("COMMANDS") else text.split(",")
        return tuple(part.strip() for part in parts if part.strip())
    try:
        return type(default)(text)
    except ValueError:
        form = "a whole number" if isinstance(default, int) else "a number"
        raise CannotStart(f"{variable} must be {form}, not {text[:40]!r}.") from None


def bounds(setting: Field[Any]) -> str:
    """Return which values a number may have, such as `between 1 and 3,600 seconds`."""
    low, high, unit = (setting.metadata[name] for name in ("minimum", "maximum", "unit"))
    return f"{'0, or ' if setting.metadata['zero'] else ''}between {low:,} and {high:,} {unit}".rstrip()


def _check_number(setting: Field[Any], value: float) -> None:
    within = setting.metadata["minimum"] <= value <= setting.metadata["maximum"]  # false if it is not a number
    if not within and not (setting.metadata["zero"] and value == 0):
        variable = f"{PREFIX}{setting.name.upper()}"
        raise CannotStart(f"{setting.name} ({variable}) must be {bounds(setting)}, not {str(value)[:40]}.")


def _check_texts(settings: Settings) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise CannotStart("Give both --tls-cert and --tls-key, or neither.")
    if len(settings.server_name) > LONGEST_NAME or not settings.server_name.isprintable():
        raise CannotStart(
            f"server_name must be at most {LONGEST_NAME} printable characters, not {settings.server_name[:40]!r}."
        )
    if settings.work_token and not WORK_TOKEN.fullmatch(settings.work_token):
        raise CannotStart(
            "work_token (UNSTUCK_WORK_TOKEN) must have 16 to 500 characters: letters, digits and -._~+/=. "
            "`openssl rand -hex 32` makes a good one."
        )
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise CannotStart(f"log_level must be debug, info, warning or error, not {settings.log_level!r}.")
    if settings.root_path and (not ROOT_PATH.fullmatch(settings.root_path) or settings.root_path.endswith("/")):
        raise CannotStart(
            "root_path must be the path of a URL in plain ASCII that begins with a slash and does not end with "
            f"one, such as /progress, not {settings.root_path!r}."
        )
