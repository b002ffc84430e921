"""Kinds of work: how they are declared, described and loaded, and the built-in ones.

This file only lists the public names. Every worker and the server import it, so it must not import anything heavy:
the built-in kinds import Pillow when they first run.
See also: declare.py (`@kind`), report.py (what a kind's code is given), outcome.py (what it may raise).
"""

from unstuck.errors import InvalidOptions
from unstuck.kinds.declare import Kind, kind
from unstuck.kinds.load import LoadError, load
from unstuck.kinds.option import KindInfo, Option, check_options
from unstuck.kinds.outcome import Cancelled, Failed, Skip, Transient
from unstuck.kinds.report import Report

__all__ = [
    "Cancelled",
    "Failed",
    "InvalidOptions",
    "Kind",
    "KindInfo",
    "LoadError",
    "Option",
    "Report",
    "Skip",
    "Transient",
    "check_options",
    "kind",
    "load",
]
