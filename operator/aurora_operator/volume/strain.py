"""What the disk of a copy did to it a moment ago: refused a write, or took long over an fsync.

Both are facts of the past second or so, kept in memory only; they change nothing about what the
copy reports, which is what it synced.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_REMEMBERED_SECONDS: Final = 5.0
"""An acceptor that was refused tries again several times a second; so much silence is room."""
LONG_SYNC_SECONDS: Final = 1.0


class Strain:
    """The last refusal and the last long fsync of one copy."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refusal = ""
        self._refused_at = float("-inf")
        self._long_sync_seconds = 0.0
        self._long_sync_at = float("-inf")

    def note_refusal(self, sentence: str) -> None:
        """The system refused a write; nothing was written."""
        self._refusal, self._refused_at = sentence, self._clock()

    def note_sync(self, seconds: float) -> None:
        """An fsync took so long."""
        if seconds >= LONG_SYNC_SECONDS:
            self._long_sync_seconds, self._long_sync_at = seconds, self._clock()

    @property
    def refusal(self) -> str | None:
        """Why a write was refused a moment ago, if one was."""
        lasts = self._clock() - self._refused_at < _REMEMBERED_SECONDS
        return self._refusal if lasts else None

    @property
    def long_sync_seconds(self) -> float:
        """How long a long fsync of the last moments took; 0 if there was none."""
        lasts = self._clock() - self._long_sync_at < _REMEMBERED_SECONDS
        return self._long_sync_seconds if lasts else 0.0
