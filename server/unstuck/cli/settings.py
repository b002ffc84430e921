"""`unstuck settings`: decides how the settings of a server are listed.

It must not know what a setting is for.
See also: unstuck/settings.py, which declares them and reads the environment.
"""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any

from rich.padding import Padding
from rich.text import Text

from unstuck.cli.console import AsJson, out, plain, print_json, stop
from unstuck.errors import CannotStart
from unstuck.settings import PREFIX, Settings, load, source

DURATION_UNITS = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}
SIZE_UNITS = {"PiB": 1024**5, "TiB": 1024**4, "GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}


def settings(as_json: AsJson = False) -> None:
    """List every setting, its value, and where the value comes from.

    A setting is an environment variable, UNSTUCK_ and its name in capitals. Some of them are also options of
    `unstuck serve`, which take precedence. In a pipe each setting is one line.

    Examples:
      unstuck settings
      unstuck settings | grep environment
      UNSTUCK_RETENTION_S=86400 unstuck settings

    Exit codes:
      0    listed
      2    a setting in the environment is unknown or wrong
    """
    try:
        loaded = load()
    except CannotStart as error:
        stop(error)
    if as_json:
        print_json({_variable(setting): _as_data(setting, loaded) for setting in fields(Settings)})
        return
    for setting in fields(Settings):
        name, value = _variable(setting), getattr(loaded, setting.name)
        shown, meaning = _raw(setting, value), setting.metadata["help"]
        notes = ", ".join(filter(None, (source(setting.name, {}), readable(setting.name, value))))
        if out.is_terminal:
            out.print(Text.assemble((name, "bold"), f"={shown}  ", (f"({notes})", "dim")), soft_wrap=True)
            out.print(Padding(Text(meaning), (0, 0, 0, 4), expand=False))
        else:
            print(f"{name}={shown}  ({notes})  {meaning}")


def _variable(setting: Field[Any]) -> str:
    return f"{PREFIX}{setting.name.upper()}"


def _as_data(setting: Field[Any], loaded: Settings) -> dict[str, object]:
    value = getattr(loaded, setting.name)
    shown = "(set)" if setting.metadata["secret"] and value else value
    return {"value": shown, "source": source(setting.name, {}), "help": setting.metadata["help"]}


def readable(name: str, value: object) -> str:
    """Return a duration or a size in the units that people use; empty for zero and for any other setting."""
    if not isinstance(value, int | float) or not value:
        return ""
    if name.endswith("_s"):
        return _exact_duration(value)
    if name.endswith("_bytes"):
        return _size(value)
    return _size(value * 1024**2) if name.endswith("_mib") else ""


def _exact_duration(seconds: float) -> str:
    parts = []
    for unit, length in DURATION_UNITS.items():
        count, seconds = divmod(seconds, length) if length > 1 else (seconds, 0)
        if count:
            parts.append(f"{count:g} {unit}")
    return " ".join(parts)


def _size(count: float) -> str:
    unit, size = next(item for item in SIZE_UNITS.items() if count >= item[1])
    return f"{count / size:.3g} {unit}"


def _raw(setting: Field[Any], value: object) -> str:
    """Return a value as the environment would hold it, on one line."""
    if setting.metadata["secret"] and value:
        return "(set)"
    if isinstance(value, tuple):
        return plain(", ".join(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else plain(str(value))
