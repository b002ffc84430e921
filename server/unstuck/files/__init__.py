"""Keeps the data folder: inputs, results, retention."""
