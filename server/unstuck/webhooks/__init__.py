"""Delivers a webhook when a job ends."""
