"""A writer hands over: its door is shut, its log durable, and then the copies may promise.

The states are those of ``core.switchover``; sessions are gone at once here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aurora_operator.core.switchover import (
    SwitchoverFacts,
    SwitchoverState,
    next_state,
)
from support.simulation.ledger import position

if TYPE_CHECKING:
    from support.simulation.instance import Instance


class Handover:
    """One switchover, from draining to its end."""

    def __init__(self, writer: Instance) -> None:
        self._writer = writer
        others = [one for one in writer.world.instances if one is not writer]
        self._target = writer.world.chance.choice(others)
        self._state = SwitchoverState.DRAINING
        self._entered_at = writer.world.now
        writer.world.note(writer.host, "begins to hand over to", self._target.name)

    @property
    def consents_to(self) -> str:
        """Who is welcome to the copies, if anybody is yet."""
        return self._target.name if self._state is SwitchoverState.CONSENTING else ""

    def is_over(self) -> bool:
        """Go on; true when the writer goes on as if nothing had been."""
        writer, now = self._writer, self._writer.world.now
        vdl = None if writer.hub is None else writer.hub.vdl
        facts = SwitchoverFacts(
            sessions=0,
            log_end=position(len(writer.log)),
            vdl=None if vdl is None else vdl.lsn,
        )
        moved = next_state(self._state, facts, now - self._entered_at)
        if moved is None:
            return False
        self._state, self._entered_at = moved.state, now
        writer.world.note(writer.host, f"{moved.state}:", moved.sentence)
        if moved.state is SwitchoverState.CONSENTING:
            network = writer.world.network
            network.send(writer.host, self._target.host, self._target.on_wish, "open")
        return moved.state in (SwitchoverState.WITHDRAWN, SwitchoverState.HANDED_OVER)
