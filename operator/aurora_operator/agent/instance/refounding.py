"""Three copies are left: a fourth is made of the chosen log before anything is opened (rule 10).

The other three were recorded as lost for good. A candidate has the promises of all three survivors
and has chosen among them; now the list {three, new} goes on all three, the new copy is filled from
the chosen one to its very end, and its promise makes four. Dying anywhere on the way leaves three
survivors that a later candidate asks again: nothing was opened, so nothing was acknowledged.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Final

import structlog

from aurora_operator.agent.client import AgentUnreachable
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import members_to_ask, view_from_status
from aurora_operator.api.messages import CopyState, RefillAsk, StorageStatus
from aurora_operator.core.copy import CopyView, Promise
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.opening import Choice

log = structlog.get_logger()

_STATUS_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.1
_STANDSTILL_SECONDS: Final = 60.0
"""So long the fill may show no progress before the attempt is given up."""
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_SUFFIX_LENGTH: Final = 8


class NoFourthCopy(Exception):
    """No fourth copy could be made; nothing was opened."""


def new_identity(slot: Slot) -> Identity:
    """An identity that no disk of any volume ever had."""
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return Identity(f"s{slot}_{suffix}")


async def make_fourth(
    tier: StorageTier, promise: Promise, choice: Choice
) -> tuple[MemberList, CopyView]:
    """Have the new list stored and the new copy filled; both, or ``NoFourthCopy``."""
    slot = await _blank_slot(tier, choice)
    identity = new_identity(slot)
    members = choice.members.of_survivors(choice.survivors, slot, identity, promise.term)
    try:
        for survivor in choice.survivors:
            agent = tier.agents[members.slot_of(survivor)]
            answer = await tier.client.store_members(agent, members_to_ask(promise, members))
            if not answer.granted:
                raise NoFourthCopy(f"{survivor} does not keep the list: {answer.sentence}")
        ask = RefillAsk(
            term=promise.term,
            attempt_id=promise.attempt_id,
            identity=identity,
            chosen=choice.identity,
        )
        answer = await tier.client.refill(tier.agents[slot], ask)
        if not answer.granted:
            raise NoFourthCopy(f"the pod of slot {slot} does not fill: {answer.sentence}")
    except AgentUnreachable as error:
        raise NoFourthCopy(str(error)) from error
    return members, await _filled(tier, slot, promise, choice, identity)


async def _blank_slot(tier: StorageTier, choice: Choice) -> Slot:
    taken = {choice.members.slot_of(identity) for identity in choice.survivors}
    statuses = await tier.statuses(_STATUS_SECONDS)
    able = sorted(
        status.slot
        for status in statuses
        if status.slot not in taken and status.state is not CopyState.FULL
    )
    if not able:
        raise NoFourthCopy(
            "three copies are left and no storage pod with a blank disk answers; nothing is opened"
            " until one does"
        )
    return able[0]


async def _filled(
    tier: StorageTier, slot: Slot, promise: Promise, choice: Choice, identity: Identity
) -> CopyView:
    """Wait for as long as the fill gets on; the copy with its promise and all chosen bytes."""
    progress: object = None
    moved_at = time.monotonic()
    status: StorageStatus | None = None
    while time.monotonic() - moved_at < _STANDSTILL_SECONDS:
        await asyncio.sleep(_POLL_SECONDS)
        try:
            status = await tier.client.fetch_storage_status(tier.agents[slot])
        except AgentUnreachable as error:
            log.info("the pod that is filled does not answer", reason=str(error))
            continue
        if progress != (progress := (status.state, status.fill)):
            moved_at = time.monotonic()
        copy = view_from_status(status)
        if copy.state is not CopyState.FULL or copy.record is None or copy.scl is None:
            continue
        if (copy.identity, copy.record.promise, copy.scl) == (identity, promise, choice.scl):
            return copy
        raise NoFourthCopy(f"slot {slot} was filled as {copy.identity} up to {copy.scl}")
    told = "nothing" if status is None else status.sentence
    raise NoFourthCopy(f"the fill of slot {slot} stands still: {told}")
