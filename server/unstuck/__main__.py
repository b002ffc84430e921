"""Runs the command `unstuck`, as `python -m unstuck`."""

from unstuck.cli.commands import main

main()
