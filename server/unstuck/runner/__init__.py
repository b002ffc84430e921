"""Claims items and runs them in worker processes."""
