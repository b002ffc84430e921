"""unstuck: background work on many files, with progress that is never stuck.

This module holds the names that a kind of work needs, and imports nothing heavy: it is loaded by every
worker process. The app is `unstuck.app.create_app`.
"""

from unstuck.kinds import Cancelled, Failed, Report, Skip, Transient, kind

__version__ = "0.1.0"

__all__ = ["Cancelled", "Failed", "Report", "Skip", "Transient", "__version__", "kind"]
