"""The data folder: inputs, results, retention."""
