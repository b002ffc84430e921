"""`python -m unstuck` is the command `unstuck`."""

from unstuck.cli.commands import main

main()
