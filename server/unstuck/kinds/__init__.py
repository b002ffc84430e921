"""Kinds of work: how they are declared, described and found, and the built-in ones.

This file only names what others may use. It is imported by every worker and by the server, so nothing
heavy may hang on it: the built-in kinds load Polars and Pillow when they first run.
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
