"""A bound on how fast bytes may go: a token bucket.

A copy that is filled competes with the commits of everybody. What it may take is so many bytes a
second, with a short burst; who took more waits as long as that was too much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

_BURST_SECONDS: Final = 0.25


class Pace:
    """Bytes per second; ``now_seconds`` is a monotonic clock."""

    def __init__(
        self, bytes_per_second: int, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_per_second = bytes_per_second
        self._now_seconds = now_seconds
        self._tokens = self._full = bytes_per_second * _BURST_SECONDS
        self._at_seconds = now_seconds()

    def spend(self, count_bytes: int) -> float:
        """So many bytes went; how many seconds to wait before more may go."""
        now = self._now_seconds()
        earned = (now - self._at_seconds) * self._bytes_per_second
        self._at_seconds = now
        self._tokens = min(self._full, self._tokens + earned) - count_bytes
        return max(0.0, -self._tokens / self._bytes_per_second)

    async def wait(self, count_bytes: int) -> None:
        """The same, and wait."""
        seconds = self.spend(count_bytes)
        if seconds > 0:
            await asyncio.sleep(seconds)
