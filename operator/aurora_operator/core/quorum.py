"""Quorums of the volume: how many copies make a write durable, and how many find it again.

Two sets of copies that must share one are the whole idea. A commit stands on ``write_quorum``
copies, and a new writer hears ``write_quorum`` promises; every three of six meet every four of six
(W + R > V), so no acknowledged commit escapes a new writer, and two sets of four share two copies
(2W > V), so two writers never own one term.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.lsn import Lsn


@dataclass(frozen=True, slots=True)
class QuorumPolicy:
    """Six copies, four to write, three to read, as Aurora has it."""

    copies: int = 6
    write_quorum: int = 4
    read_quorum: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.read_quorum <= self.copies or not 1 <= self.write_quorum <= self.copies:
            raise ValueError(f"{self} is no policy: a quorum has at least one copy and at most all")
        if self.write_quorum + self.read_quorum <= self.copies:
            raise ValueError(f"{self} would lose commits: W + R > V does not hold")
        if 2 * self.write_quorum <= self.copies:
            raise ValueError(f"{self} would allow two writers: 2W > V does not hold")


AURORA_QUORUM: Final = QuorumPolicy()


def volume_durable_lsn(counting_scls: Iterable[Lsn], policy: QuorumPolicy) -> Lsn | None:
    """The highest position that a write quorum of the given copies holds (invariant I1).

    The caller passes one SCL for each copy that counts (``vdl.counts_for``); with fewer than a
    write quorum of them there is no such position.
    """
    descending = sorted(counting_scls, reverse=True)
    if len(descending) < policy.write_quorum:
        return None
    return descending[policy.write_quorum - 1]
