"""Serves the HTTP API: parses requests, asks the other rooms, and answers."""
