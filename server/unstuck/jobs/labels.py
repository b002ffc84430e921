"""Names of jobs, files and items as users gave them: labels to show, never paths to open.

A label is kept as it came, except for characters that cannot be text; the places that show it treat it as plain
text. Where a name becomes part of a path (the suffix of a stored input, the name of a download), a harmless one is
made here. Pure.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

#: Longest harmless name (bytes); file systems allow 255, and callers add to it.
LONGEST = 120
#: The label for a name with nothing to show.
UNNAMED = "unnamed"
#: Words whose plural ends in -es, and in -ies.
_ES = re.compile(r"(s|x|z|ch|sh)$")
_IES = re.compile(r"[^aeiou]y$")
_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,10})$")
#: Names that Windows reserves for devices, with any suffix.
_DEVICES = re.compile(r"(?i)^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)")


def label(raw: str) -> str:
    """Return the name as a label: lone surrogates replaced, and never empty."""
    text = raw.encode("utf-8", "replace").decode("utf-8")
    return text if text.strip() else UNNAMED


def plural(noun: str) -> str:
    """Return the regular English plural."""
    if _IES.search(noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if _ES.search(noun) else f"{noun}s"


def counted(count: int, unit: str, units: str) -> str:
    """Return the count with its noun: 1 file, 1,204 rows."""
    return f"{count:,} {unit if count == 1 else units}"


def suffix(name: str) -> str:
    """Return the suffix in lower case (`.csv` of `report.csv`), or an empty string if there is no plain one.

    Stored inputs keep it, because many programs recognize a file's format by it.
    """
    found = _SUFFIX.search(name)
    return f".{found.group(1).lower()}" if found else ""


def harmless(name: str) -> str:
    """Return the last part of a path-like label as a file name that is harmless on any system or command line.

    It has only letters, digits, dots, hyphens and underscores, and at most LONGEST bytes. It is never empty,
    hidden (".x"), an option ("-x") or a device. A plain suffix is kept.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(char if char.isalnum() or char in "._-" else "_" for char in last).lstrip(".-")
    if _DEVICES.match(kept):
        kept = f"_{kept}"
    return _shortened(kept) or "file"


def unpackable(name: str) -> str:
    """Return the last part of a path-like label as a file name that archives may hold, and any system can unpack.

    It keeps what people write, such as spaces and brackets, where `harmless` does not.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join("_" if char in '<>:"|?*' or not char.isprintable() else char for char in last)
    kept = kept.lstrip(". ")
    if _DEVICES.match(kept):
        kept = f"_{kept}"
    return _shortened(kept).rstrip(". ") or "file"


def _shortened(name: str) -> str:
    cut = len(name) - len(suffix(name))
    body, ending = name[:cut], name[cut:]
    return body.encode()[: LONGEST - len(ending)].decode("utf-8", "ignore") + ending


def stem(name: str) -> str:
    """Return the harmless name without its last suffix: `a.tar` of `a.tar.gz`."""
    whole = harmless(name)
    return whole.rpartition(".")[0] or whole


def content_disposition(name: str) -> str:
    """Return an `attachment` header (RFC 6266) with the name in ASCII and in UTF-8."""
    safe = harmless(name)
    plain = safe.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def host_of(url: str) -> str:
    """Return the host of a URL, or an empty string. Webhook receivers are told apart by it."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
