"""What the disk of a copy did to it a moment ago: refused a write, or took long over its fsyncs.

Both are facts of the past few seconds, kept in memory only; they change nothing about what the
copy reports, which is what it synced.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_REMEMBERED_SECONDS: Final = 5.0
"""An acceptor that was refused tries again several times a second; so much silence is room."""
_SYNCS: Final = 5
"""One long fsync is chance; so many in a row are a slow disk."""
LONG_SYNC_SECONDS: Final = 0.25


class Strain:
    """The last refusal and the last long fsync of one copy."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refusal = ""
        self._refused_at = float("-inf")
        self._syncs: deque[float] = deque(maxlen=_SYNCS)
        self._synced_at = float("-inf")

    def note_refusal(self, sentence: str) -> None:
        """The system refused a write; nothing was written."""
        self._refusal, self._refused_at = sentence, self._clock()

    def note_sync(self, seconds: float) -> None:
        """An fsync took so long."""
        self._syncs.append(seconds)
        self._synced_at = self._clock()

    @property
    def refusal(self) -> str | None:
        """Why a write was refused a moment ago, if one was."""
        lasts = self._clock() - self._refused_at < _REMEMBERED_SECONDS
        return self._refusal if lasts else None

    @property
    def long_sync_seconds(self) -> float:
        """How long each of the last fsyncs took at least, if all were long; else 0."""
        lasts = self._clock() - self._synced_at < _REMEMBERED_SECONDS
        if not lasts or len(self._syncs) < _SYNCS:
            return 0.0
        shortest = min(self._syncs)
        return shortest if shortest >= LONG_SYNC_SECONDS else 0.0
