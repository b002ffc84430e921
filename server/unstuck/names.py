"""Names that people and their files bring along: labels to show, never paths to open.

A label is kept as it came, as far as it can be text at all; the places that show it treat it as text.
Where a name has to become part of a path (the ending of a stored input, the name of a download), a
harmless one is made from it here. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

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


def harmless(name: str, longest: int = 100) -> str:
    """A file name that is safe on every system: one component, no controls, no device, bounded bytes."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join("_" if _harmful(char) else char for char in last).strip(" .")
    if _DEVICES.match(kept):
        kept = f"_{kept}"
    ending = suffix(kept)
    stem = kept[: len(kept) - len(ending)] if ending else kept
    while len((stem + ending).encode()) > longest:
        stem = stem[:-1]
    return (stem + ending) or UNNAMED


def content_disposition(name: str) -> str:
    """An `attachment` header (RFC 6266) with an ASCII name and the real one beside it."""
    safe = harmless(name)
    plain = safe.encode("ascii", "replace").decode().replace("?", "_").replace('"', "_").replace("%", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def _harmful(char: str) -> bool:
    # Cc controls, Cf bidi and zero-width marks, Cs surrogates, Zl/Zp line and paragraph separators.
    return char in '<>:"/\\|?*' or unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
