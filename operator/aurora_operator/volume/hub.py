"""The hub's state at the writer's agent: six positions in, the VDL out when it moved.

It only repeats facts that the copies told it, so it keeps nothing durably and may be replaced at
any time. It carries no message; the agent's connections do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aurora_operator.core.copy import Position, Vdl
from aurora_operator.core.following import WriterFacts
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity
from aurora_operator.core.opening import Opened, may_open
from aurora_operator.core.quorum import QuorumPolicy
from aurora_operator.core.vdl import counts_for, durable_point, merge_known
from aurora_operator.core.verdicts import Wait


class Hub:
    """What the copies told the writer of one term."""

    def __init__(self, writer: WriterFacts, policy: QuorumPolicy) -> None:
        self._writer = writer
        self._policy = policy
        self._positions: dict[Identity, Position] = {}
        self._vdl: Vdl | None = None

    @property
    def vdl(self) -> Vdl | None:
        """The VDL of the writer's term; none until it exists. It never goes back."""
        return self._vdl

    @property
    def positions(self) -> Mapping[Identity, Position]:
        """The last position of each copy that was heard."""
        return self._positions

    @property
    def counting(self) -> int:
        """How many copies count for the VDL."""
        writer = self._writer
        return sum(
            counts_for(p, writer.promise.term, writer.first_record_end, writer.members)
            for p in self._positions.values()
        )

    def count_only(self, members: MemberList) -> None:
        """From now on these count, exactly those whom commits wait for (rule 8, H20)."""
        self._writer = replace(self._writer, members=members)
        self._positions = {i: p for i, p in self._positions.items() if i in members}

    def hear(self, position: Position) -> bool:
        """Take a copy's position; true when the VDL moved and has to be told to all gates.

        Positions of identities outside the member list are kept for nobody (H20).
        """
        writer = self._writer
        if position.identity not in writer.members:
            return False
        self._positions[position.identity] = position
        term = writer.promise.term
        lsn = durable_point(
            term, writer.first_record_end, self._positions.values(), writer.members, self._policy
        )
        if lsn is None:
            return False
        before = self._vdl
        self._vdl = merge_known(before, Vdl(term, lsn), term)
        return self._vdl != before

    def may_open(self, must_hold: Lsn) -> Opened | Wait:
        """Whether clients may come in (I4): four copies hold the term up to ``must_hold``."""
        return may_open(
            self._writer.promise.term,
            self._writer.first_record_end,
            must_hold,
            self._positions.values(),
            self._writer.members,
            self._policy,
        )
