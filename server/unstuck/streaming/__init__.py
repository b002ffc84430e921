"""Brings each change of a job to everybody who watches it."""
