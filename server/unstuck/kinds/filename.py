"""`harmless(name)`: a label, as a file name that can do no harm.

Decides: which characters survive. Must not know: folders; uniqueness is the business of whoever owns one.
"""

from __future__ import annotations

import re

# Bytes in UTF-8; file systems end at 255, and callers add endings.
_LIMIT = 120


def harmless(name: str) -> str:
    """The last part of a path-like label, with only letters, digits, dot, minus and underscore.

    Never empty, never hidden (".x"), never an option ("-x"), never longer than 120 bytes.
    """
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(character if character.isalnum() or character in "._-" else "_" for character in last)
    short = kept.encode("utf-8", "replace")[:_LIMIT].decode("utf-8", "ignore")
    return short.lstrip(".-") or "file"


def stem(name: str) -> str:
    """The harmless name without its ending: "a.tar.gz" → "a.tar"."""
    whole = harmless(name)
    return whole.rpartition(".")[0] or whole
