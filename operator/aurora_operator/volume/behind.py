"""Whether a copy stays behind what others serve, so that readers are better off elsewhere.

A copy that gets no log still serves what it knows, correctly and for ever: its readers would be
stale and never notice. Heard facts are compared with what it serves itself. Being behind counts
only while somebody keeps saying so: a copy that is alone is the best there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from aurora_operator.core.gate import ServePoint, is_ahead

_CONFIRMED_SECONDS: Final = 5.0
"""How long it is believed that others serve more; hub and mesh repeat it each second."""


class Behind:
    """What others served first that this copy does not serve yet, and since when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._goal: ServePoint | None = None
        self._since = 0.0
        self._confirmed_at = 0.0

    def compare(self, own: ServePoint | None, other: ServePoint) -> None:
        """Take note of what somebody else serves."""
        if self._goal is not None and not is_ahead(self._goal, own):
            self._goal = None
        if is_ahead(other, own):
            self._confirmed_at = self._clock()
            if self._goal is None:
                self._goal, self._since = other, self._clock()

    def seconds(self, own: ServePoint | None) -> float:
        """For how long others have been serving more than ``own``; 0 if they do not."""
        if self._goal is None or not is_ahead(self._goal, own):
            return 0.0
        now = self._clock()
        return now - self._since if now - self._confirmed_at < _CONFIRMED_SECONDS else 0.0
