"""What an agent remembers of one attempt to open the volume; it ends with its process."""

from __future__ import annotations

from enum import StrEnum

from aurora_operator.core.copy import CopyView, Promise
from aurora_operator.core.lsn import FORMAT_TERM
from aurora_operator.core.names import Identity
from aurora_operator.core.opening import Choice, CopyAnswer


class Role(StrEnum):
    """What an instance is at the moment."""

    REPLICA = "replica"
    OPENING = "opening"
    WRITER = "writer"
    STOPPED = "stopped"


class Attempt:
    """What an agent remembers of one attempt to open, or to restart."""

    __slots__ = ("answers", "asked_at", "began_at", "choice", "known", "phase", "promise", "seen")

    def __init__(self, promise: Promise, phase: str, now: float) -> None:
        self.promise = promise
        self.phase = phase
        self.began_at = now
        self.asked_at = now
        self.seen = [FORMAT_TERM]
        self.answers: dict[Identity, CopyAnswer] = {}
        self.choice: Choice | None = None
        self.known: dict[int, CopyView] = {}
        """The copies as they were when they promised."""

    def enter(self, phase: str, now: float) -> None:
        """The next phase begins, with a deadline of its own."""
        self.phase = phase
        self.began_at = now
        self.answers = {}
