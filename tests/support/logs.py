"""Dumb logs: a term for every byte, for comparison with what is computed cleverly.

A ``DumbLog`` is a tuple of terms, one for each byte. Where a history says from where on a term
wrote, this one says it byte by byte, and every question is answered by looking at each.
"""

from __future__ import annotations

from hypothesis import strategies as st

from aurora_operator.core.history import TermHistory
from support.copies import history

DumbLog = tuple[int, ...]


@st.composite
def histories(draw: st.DrawFn, *, terms_max: int = 6, length_max: int = 12) -> TermHistory:
    """Histories that begin with term 1; terms without a byte among them."""
    terms = draw(st.sets(st.integers(2, 8), max_size=terms_max - 1))
    begins = draw(
        st.lists(st.integers(0, length_max), min_size=len(terms), max_size=len(terms)).map(sorted)
    )
    return history((1, 0), *zip(sorted(terms), begins, strict=True))


def dumb(terms: TermHistory, length: int) -> DumbLog:
    """The log of so many bytes, byte by byte."""
    start = terms.first.begin
    return tuple(
        [entry.term for entry in terms.entries if entry.begin - start <= n][-1]
        for n in range(length)
    )


def dumb_prefix(one: DumbLog, other: DumbLog) -> int:
    """How many bytes two logs have in common."""
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length
