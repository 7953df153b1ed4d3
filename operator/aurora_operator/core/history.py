"""Which term wrote which bytes of a log.

A log is one line of bytes; its history says from where on each term wrote. A term has one writer
(I3), so two logs that agree on the term of a byte agree on everything up to it. All comparison
of logs rests on that, and on nothing else: a position alone says nothing about whose bytes stand
below it (rule 5), and a term that is announced but has no byte yet says nothing either (rule 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from aurora_operator.core.lsn import Lsn, Term


@dataclass(frozen=True, slots=True)
class TermStart:
    """The log from ``begin`` on belongs to ``term``, until the next entry begins."""

    term: Term
    begin: Lsn


@dataclass(frozen=True, slots=True)
class TermHistory:
    """Entries in log order: terms strictly increase, begins never decrease."""

    entries: tuple[TermStart, ...]

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError("a term history has at least the term that formatted the volume")
        for earlier, later in pairwise(self.entries):
            if later.term <= earlier.term or later.begin < earlier.begin:
                raise ValueError(f"{self}: term {later.term} does not continue {earlier.term}")

    def __str__(self) -> str:
        return " ".join(f"{entry.term}@{entry.begin}" for entry in self.entries)

    @property
    def first(self) -> TermStart:
        """The oldest entry; its begin is where the volume's log begins."""
        return self.entries[0]

    @property
    def last(self) -> TermStart:
        """The newest entry. It may have no byte yet: never compare logs by it (rule 2)."""
        return self.entries[-1]

    def last_term_before(self, end: Lsn) -> Term | None:
        """The term of the last byte of a log that ends at ``end`` (rule 2).

        That is the last entry that begins *strictly* below ``end``: an entry at ``end`` has no
        byte yet. ``None`` when the log is empty.
        """
        return next((e.term for e in reversed(self.entries) if e.begin < end), None)

    def term_of_byte(self, lsn: Lsn) -> Term | None:
        """The term of the byte at ``lsn``; ``None`` below the start of the log."""
        return self.last_term_before(lsn.advanced(1))

    def end_of_run(self, lsn: Lsn) -> Lsn | None:
        """Where the run of bytes that holds ``lsn`` ends; ``None`` for the last, open run."""
        return next((e.begin for e in self.entries if e.begin > lsn), None)

    def extended(self, term: Term, begin: Lsn) -> TermHistory:
        """This history, with ``term`` writing from ``begin`` on.

        What began later is dropped: none of it is below the new term's first byte. An entry that
        began just there stays, without a byte, because the engine's own history names it too:
        PostgreSQL went over to that term before it found its first record incomplete.
        """
        kept = tuple(entry for entry in self.entries if entry.begin <= begin)
        return TermHistory((*kept, TermStart(term, begin)))

    def truncated(self, end: Lsn) -> TermHistory:
        """The history of the bytes below ``end``; the first entry always stays."""
        kept = tuple(entry for entry in self.entries[1:] if entry.begin < end)
        return TermHistory((self.entries[0], *kept))


def common_prefix_end(own: TermHistory, own_scl: Lsn, other: TermHistory) -> Lsn:
    """How far a log that ends at ``own_scl`` agrees with the log of ``other`` (rule 5, H6).

    ``other`` is a writer's history, whose last term is open-ended. Runs of bytes are compared
    term by term from the start: the first run that the other does not have, or has from another
    place on, or ends earlier, is where the two part. Never longer than the own log.
    """
    if own.first.begin != other.first.begin:
        return min(own.first.begin, other.first.begin, own_scl)
    lsn = own.first.begin
    while lsn < own_scl:
        if own.term_of_byte(lsn) != other.term_of_byte(lsn):
            return lsn
        ends = (own.end_of_run(lsn), other.end_of_run(lsn), own_scl)
        lsn = min(end for end in ends if end is not None)
    return min(lsn, own_scl)
