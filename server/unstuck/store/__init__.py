"""Durable storage of jobs: the Store protocol, and its implementation in SQLite."""
