"""unstuck: background work on many files, with progress that is never stuck.

See also: unstuck.kinds (declares work), unstuck.app (serves it), unstuck.client (watches it).

This module decides which names an application may import. The names for kinds of work are here at once; the app
and the client are loaded on first use, since every worker process imports this module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from unstuck.kinds import Cancelled, Failed, Report, Skip, Transient, kind

if TYPE_CHECKING:
    from unstuck.app import create_app, running
    from unstuck.client import Client

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Client",
    "Failed",
    "Report",
    "Skip",
    "Transient",
    "__version__",
    "create_app",
    "kind",
    "running",
]

_LOADED_ON_USE = {"create_app": "unstuck.app", "running": "unstuck.app", "Client": "unstuck.client"}


def __getattr__(name: str) -> object:
    """Load the app or the client on first use."""
    module = _LOADED_ON_USE.get(name)
    if module is None:
        raise AttributeError(f"module 'unstuck' has no attribute {name!r}")
    return getattr(import_module(module), name)
