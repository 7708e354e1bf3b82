"""Every failure that a user can mend is a `Fault`: it says what, where and the remedy, and no traceback is shown."""

from __future__ import annotations


class Fault(Exception):
    """A failure with a remedy. The message is complete: value, bound or place, and what to do."""
