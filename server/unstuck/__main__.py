"""`python -m unstuck` is the command `unstuck`."""

from unstuck.cli import main

main()
