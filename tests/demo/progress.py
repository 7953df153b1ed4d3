"""What the demo says: each line with the seconds since it began."""

from __future__ import annotations

import sys
import time

_BEGUN = time.monotonic()


def say(text: str = "") -> None:
    """One line for the person who watches."""
    sys.stdout.write(f"[{time.monotonic() - _BEGUN:5.0f} s] {text}\n" if text else "\n")
    sys.stdout.flush()


def show(text: str) -> None:
    """Output of a program, indented and without the clock."""
    sys.stdout.write("".join(f"          {line}\n" for line in text.splitlines()))
    sys.stdout.flush()
