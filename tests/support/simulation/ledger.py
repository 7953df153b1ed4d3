"""Who wrote which byte, and what anybody was told: the memory against which the volume is held.

A byte is a number that exists once; a record is one to three bytes. Everything that was ever
acknowledged to a client, read from an open writer, or served by a gate must be one line of
records: ``line`` grows and never changes (I6).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from aurora_operator.core.lsn import Lsn, Term
from support.copies import at

_POSITIONS = tuple(at(offset) for offset in range(4096))


def position(offset: int) -> Lsn:
    """``support.copies.at``, without making a new object each time."""
    return _POSITIONS[offset]


def offset(lsn: Lsn) -> int:
    """The other way round."""
    return int(lsn) - _START


_START = int(_POSITIONS[0])


class Violated(AssertionError):
    """Something that must never happen has happened."""


class Ledger:
    """All bytes, and the line of records that somebody was told or shown."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._record_ends: set[int] = set()
        self.writer_of: list[Term] = []
        """The term that wrote each byte."""
        self.line: list[int] = []
        self.told_in_term: dict[Term, int] = {}
        """How much of the line was told while a term was the newest to tell anything."""

    def new_record(self, term: Term) -> list[int]:
        """One record of a term: bytes that never were before."""
        begin = len(self.writer_of)
        record = list(range(begin, begin + 1 + int(self._chance.random() * 3)))
        self.writer_of += [term] * len(record)
        self._record_ends.add(record[-1])
        return record

    def last_record_end(self, log: Sequence[int], end: int) -> int:
        """Where the last whole record of the first ``end`` bytes ends."""
        ends = self._record_ends
        while end and log[end - 1] not in ends:
            end -= 1
        return end

    def tell(self, log: list[int], end: int, term: Term, how: str) -> bool:
        """Somebody was told or shown this much of a log; true when that was news."""
        end = self.last_record_end(log, end)
        line = self.line
        known = len(line)
        if self.told_in_term.get(term, 0) < end:
            self.told_in_term[term] = end
        if end <= known:
            if log[:end] != line[:end]:
                raise Violated(f"I6: {how} in term {term} up to {end}: not what was told before")
            return False
        if log[:known] != line:
            raise Violated(f"I6: {how} in term {term} up to {end}: lacks what was told before")
        self.line = log[:end]
        return True

    def must_hold(self, term: Term) -> list[int]:
        """What a log chosen for ``term`` must begin with: all that older terms told."""
        told = [end for older, end in self.told_in_term.items() if older < term]
        return self.line[: max(told, default=0)]
