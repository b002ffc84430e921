"""Says whether a package that a built-in kind needs is installed, without importing it: that may take a second.

It must not know any kind.
See also: declare.py, whose `unavailable` takes the answer.
"""

from __future__ import annotations

import importlib.util


def missing(module: str, package: str, extra: str) -> str | None:
    """Return the reason why a kind that needs the package cannot be used and how to install it, or None."""
    try:
        found = importlib.util.find_spec(module) is not None
    except ValueError:  # it was imported, or kept from being imported, in an unusual way
        found = False
    return None if found else needed(package, extra)


def needed(package: str, extra: str) -> str:
    """Return the reason why a kind cannot be used without the package, and how to install it."""
    return f"this kind needs {package} on the server: pip install 'unstuck[{extra}]'"
