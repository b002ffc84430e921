"""The command line."""

from unstuck.cli.commands import main

__all__ = ["main"]
