"""Limits what a connection may cost before it is a request, and while it waits for its client."""
