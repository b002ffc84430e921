"""Background loops that restart after an error, and the pauses between attempts."""
