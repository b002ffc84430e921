"""`unstuck settings` on a terminal of 80 columns and in a pipe."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from tests.support.command import refused_to_start, unstuck, unstuck_on_a_terminal
from unstuck.cli.settings import readable
from unstuck.settings import PREFIX, Settings

NAMES = [f"{PREFIX}{one.name.upper()}" for one in fields(Settings)]


def test_in_a_pipe_each_setting_is_one_line() -> None:
    lines = unstuck("settings", COLUMNS="80", UNSTUCK_WORKERS="3").stdout.splitlines()
    assert [line.partition("=")[0] for line in lines] == NAMES
    listed = dict(line.split("=", 1) for line in lines)
    assert listed["UNSTUCK_RETENTION_S"].startswith("604800  (default, 7 d)  time that finished jobs")
    assert listed["UNSTUCK_WORKERS"].startswith("3  (environment)  ")
    assert listed["UNSTUCK_MAX_FILE_BYTES"].startswith("2147483648  (default, 2 GiB)  ")
    assert listed["UNSTUCK_ALLOWED_HOSTS"].startswith("localhost, 127.0.0.1, [::1]  (default)  ")


def test_on_a_terminal_no_name_is_broken() -> None:
    text = unstuck_on_a_terminal("settings", columns=80)
    assert re.findall(r"^(UNSTUCK_\w+)=", text, re.MULTILINE) == NAMES
    assert "UNSTUCK_RETENTION_S=604800  (default, 7 d)\n    time that finished jobs" in text
    assert max(len(line) for line in text.splitlines() if line.startswith(" ")) <= 80


def test_secrets_are_not_shown_and_a_value_stays_on_its_line() -> None:
    given = {"UNSTUCK_WEBHOOK_SECRET": "whsec_c2VjcmV0", "UNSTUCK_COMMANDS": "a=cat {input}\nb=wc {input}"}
    text = unstuck("settings", **given).stdout
    assert "c2VjcmV0" not in text
    assert "UNSTUCK_WEBHOOK_SECRET=(set)  (environment)  " in text
    assert "UNSTUCK_COMMANDS=a=cat {input}, b=wc {input}  (environment)  " in text


def test_a_wrong_setting_is_refused() -> None:
    assert "UNSTUCK_NO_SUCH" in refused_to_start("settings", UNSTUCK_NO_SUCH="1")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("retention_s", 604_800.0, "7 d"),
        ("stalled_s", 300.0, "5 min"),
        ("expiry_s", 93_784.5, "1 d 2 h 3 min 4.5 s"),
        ("interval_s", 0.1, "0.1 s"),
        ("expiry_s", 0.0, ""),
        ("upload_memory_bytes", 1024**2, "1 MiB"),
        ("max_job_bytes", 1_500, "1.46 KiB"),
        ("worker_memory_mib", 3_072, "3 GiB"),
        ("port", 8765, ""),
        ("host", "127.0.0.1", ""),
    ],
)
def test_durations_and_sizes_are_readable(name: str, value: object, text: str) -> None:
    assert readable(name, value) == text
