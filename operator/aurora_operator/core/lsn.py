"""Positions in the log, and the terms that own its bytes.

An ``Lsn`` is a byte position in the volume's log, as PostgreSQL counts it: the text form is two
hexadecimal halves (``0/16B3748``). It is an integer with a name, so that positions can be compared
and subtracted, and a type checker refuses to mix them with sizes or terms.
"""

from __future__ import annotations

from typing import Final, NewType

Term = NewType("Term", int)
"""The volume's epoch. It only grows; each writer owns exactly one (invariant I3)."""

FORMAT_TERM: Final = Term(1)
"""Formatting is term 1; the first writer opens term 2 (rule 13)."""

SEGMENT_BYTES: Final = 16 * 1024 * 1024
"""Size of one log segment; PostgreSQL's default ``wal_segment_size``, which initdb keeps."""

_HALF_BITS: Final = 32
_HALF_MASK: Final = 0xFFFFFFFF


class Lsn(int):
    """A byte position in the log."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Read PostgreSQL's text form; raises ``ValueError`` for anything else."""
        high, slash, low = text.partition("/")
        if not slash:
            raise ValueError(f"{text!r} is not a log position; one looks like 0/16B3748")
        return cls((int(high, 16) << _HALF_BITS) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> _HALF_BITS:X}/{self & _HALF_MASK:X}"

    def __repr__(self) -> str:
        return f"Lsn('{self}')"

    def advanced(self, length_bytes: int) -> Lsn:
        """The position ``length_bytes`` further on."""
        return Lsn(int(self) + length_bytes)

    @property
    def segment_start(self) -> Lsn:
        """The first position of the segment that holds this one."""
        return Lsn(int(self) - int(self) % SEGMENT_BYTES)


LOG_START: Final = Lsn(SEGMENT_BYTES)
"""Where the log of every volume begins: initdb leaves the first segment unused."""
