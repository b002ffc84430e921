"""The command line.

See also: commands.py, which has the commands.
"""

from unstuck.cli.commands import main

__all__ = ["main"]
