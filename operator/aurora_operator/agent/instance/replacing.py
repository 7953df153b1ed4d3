"""The open writer replaces copies whose disk is lost (rules 8 and 9).

Again and again it looks at all six pods and takes the next step that the core decides from what it
sees; nothing but what is in force at the own server is remembered, so a writer that comes later
takes up what this one left. A step that fails is tried again. Nothing of this ever stands in a
commit's way: the list that commits wait for always has a write quorum that streams.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from aurora_operator.agent.client import AgentUnreachable
from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.agent.instance.refounding import new_identity
from aurora_operator.api.convert import view_from_status
from aurora_operator.api.messages import RefillAsk
from aurora_operator.core.copy import CopyView
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.pressure import Pressure
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.replacement import (
    FillCopy,
    Hold,
    Membership,
    PutIn,
    Settled,
    Step,
    StoreList,
    TakeIn,
    TakeOut,
    next_step,
)
from aurora_operator.engines.postgresql.queries import QuestionFailed

log = structlog.get_logger()

_CALM_SECONDS: Final = 2.0
_BUSY_SECONDS: Final = 0.5
_STATUS_SECONDS: Final = 1.0


async def replace_lost_copies(following: Following, machine: Machine) -> None:
    """Look and step, until cancelled."""
    replacer = Replacer(following, machine)
    while True:
        try:
            step = await replacer.step()
        except (AgentUnreachable, QuestionFailed, OSError, TimeoutError, ValueError) as error:
            log.warning("a step of a replacement failed; trying again", reason=str(error))
            await asyncio.sleep(_BUSY_SECONDS)
            continue
        await asyncio.sleep(_CALM_SECONDS if isinstance(step, Settled) else _BUSY_SECONDS)


class Replacer:
    """What one writer knows of its member list beyond what the copies tell."""

    def __init__(self, following: Following, machine: Machine) -> None:
        self._following = following
        self._machine = machine
        self._in_force = following.members.identities
        self._flushed: Lsn | None = None
        self._said = ""

    async def step(self) -> Step:
        """Look, decide, act; what was decided."""
        seen = await self._look()
        step = next_step(seen, AURORA_QUORUM)
        said = f"{type(step).__name__}: {step.sentence}"
        if said != self._said:
            tell = log.debug if isinstance(step, Settled) else log.info
            tell("replacement step", step=type(step).__name__, sentence=step.sentence)
            self._said = said
        await self._act(step)
        return step

    async def _look(self) -> Membership:
        following = self._following
        copies: dict[Slot, CopyView | None] = dict.fromkeys(following.tier.agents)
        less = following.returned_with_less
        statuses = await following.tier.statuses(_STATUS_SECONDS)
        for status in statuses:
            copies[status.slot] = view_from_status(status)
        return Membership(
            promise=following.promise,
            members=following.members,
            in_force=self._in_force,
            copies=copies,
            returned_with_less=less,
            left_behind=frozenset(
                s.slot for s in statuses if s.pressure.state is Pressure.LEFT_BEHIND
            ),
            flushed=self._flushed,
        )

    async def _act(self, step: Step) -> None:
        following, machine = self._following, self._machine
        match step:
            case TakeOut(identity):
                left = tuple(i for i in self._in_force if i != identity)
                following.count_only(left)  # before commits stop to wait for it, never after
                await machine.take_out(left)
                self._in_force, self._flushed = left, None
            case StoreList(members):
                following.change_members(members)
            case FillCopy(slot, identity):
                await self._ask_refill(slot, identity or new_identity(slot))
            case TakeIn(slot, identity):
                self._flushed = await machine.welcome(identity)
                following.welcome(slot, identity)
            case PutIn():
                await machine.prepare_promotion(following.members.identities)
                self._in_force, self._flushed = following.members.identities, None
                following.count_only(self._in_force)
            case Hold() | Settled():
                pass

    async def _ask_refill(self, slot: Slot, identity: Identity) -> None:
        promise = self._following.promise
        ask = RefillAsk(term=promise.term, attempt_id=promise.attempt_id, identity=identity)
        tier = self._following.tier
        answer = await tier.client.refill(tier.agents[slot], ask)
        if not answer.granted:
            log.warning("refill refused", slot=slot, sentence=answer.sentence)
