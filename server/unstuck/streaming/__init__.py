"""Brings each change of a job to all viewers that watch it."""
