"""Words for the person who waits: on standard output, at once."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """One line (or more) of progress or result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    """One line about what went wrong."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
