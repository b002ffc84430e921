"""Durable storage of jobs: the Store protocol, and its implementations in SQLite and in PostgreSQL."""
