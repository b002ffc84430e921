"""Measures and judges the path to a server."""
