"""Delivers the end of a job to a URL."""
