"""Wait on a condition with a deadline, and report the last thing seen when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Failed(Exception):
    """Something a test or the demo relies on did not happen; the text says what was seen last."""


class NotYet(Exception):
    """Raised by a probe: not there yet, and what it saw instead."""


def wait_for(
    what: str,
    probe: Callable[[], T],
    *,
    timeout_seconds: float,
    interval_seconds: float = 0.25,
) -> T:
    """The probe's answer, once it stops raising `NotYet`."""
    begun = time.monotonic()
    while True:
        try:
            return probe()
        except NotYet as missing:
            waited_seconds = time.monotonic() - begun
            if waited_seconds >= timeout_seconds:
                raise Failed(
                    f"{what}: not after {waited_seconds:.1f} s; last seen: {missing}"
                ) from missing
        time.sleep(interval_seconds)
