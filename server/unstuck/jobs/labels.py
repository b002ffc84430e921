"""Names that people and their files bring along: labels to show, never paths to open.

A label is kept as it came, as far as it can be text at all; the places that show it treat it as text.
Where a name has to become part of a path (the ending of a stored input, the name of a download), a
harmless one is made from it here. Pure.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

#: Bytes of a harmless name; file systems end at 255, and callers add to it.
LONGEST = 120
#: For a label that has nothing to show.
UNNAMED = "unnamed"
_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,10})$")
#: Names that Windows keeps for devices, with any ending.
_DEVICES = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")


def label(raw: str) -> str:
    """The name as a label: lone surrogates replaced, and never empty."""
    text = raw.encode("utf-8", "replace").decode("utf-8")
    return text if text.strip() else UNNAMED


def suffix(name: str) -> str:
    """`.csv` of `report.csv`, lower case; empty where the name has no plain ending.

    Stored inputs keep it, since many programs tell the format of a file by it.
    """
    found = _SUFFIX.search(name)
    return f".{found.group(1).lower()}" if found else ""


def harmless(name: str) -> str:
    """The last part of a path-like label as a file name that can do no harm, on any system or command line.

    Only letters, digits, dot, minus and underscore; never empty, hidden (".x"), an option ("-x") or a device,
    never longer than LONGEST bytes, and with its plain ending kept.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(char if char.isalnum() or char in "._-" else "_" for char in last).lstrip(".-")
    if _DEVICES.match(kept):
        kept = f"_{kept}"
    cut = len(kept) - len(suffix(kept))
    body, ending = kept[:cut], kept[cut:]
    return body.encode()[: LONGEST - len(ending)].decode("utf-8", "ignore") + ending or "file"


def stem(name: str) -> str:
    """The harmless name without its last ending: `a.tar.gz` → `a.tar`."""
    whole = harmless(name)
    return whole.rpartition(".")[0] or whole


def content_disposition(name: str) -> str:
    """An `attachment` header (RFC 6266) with an ASCII name and the real one beside it."""
    safe = harmless(name)
    plain = safe.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def host_of(url: str) -> str:
    """The host that a URL names, or nothing; for telling receivers apart."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
