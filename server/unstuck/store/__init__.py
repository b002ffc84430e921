"""Keeps jobs durably: the protocol, and SQLite."""
