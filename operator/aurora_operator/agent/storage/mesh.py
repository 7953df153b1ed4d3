"""The way to the volume durable position while the hub is silent: the gates ask each other.

It happens at a low rate, and only from a second of silence on: after the writer is gone, or while
it is cut off. The answers are facts about copies, from which the core computes what they imply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import view_from_status
from aurora_operator.core.names import Slot
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.vdl import implied_vdl, served
from aurora_operator.volume.copy_store import CopyStore

log = structlog.get_logger()

SILENT_SECONDS: Final = 1.0
_PERIOD_SECONDS: Final = 0.25
_CALM_PERIOD_SECONDS: Final = 1.0
_CALM_ROUNDS: Final = 40
_ASK_SECONDS: Final = 0.5


async def run_mesh(
    store: CopyStore, tier: StorageTier, slot: Slot, hub_silent_seconds: Callable[[], float]
) -> None:
    """Ask the peers while the hub is silent, less often when nothing new came for a while."""
    calm_rounds = 0
    while True:
        await asyncio.sleep(_PERIOD_SECONDS if calm_rounds < _CALM_ROUNDS else _CALM_PERIOD_SECONDS)
        if hub_silent_seconds() < SILENT_SECONDS:
            calm_rounds = 0
            continue
        calm_rounds += 1
        statuses = await tier.statuses(_ASK_SECONDS, but=slot)
        try:
            peers = [view_from_status(status) for status in statuses]
            vdl = implied_vdl(store.view(), peers, AURORA_QUORUM)
        except ValueError as error:
            log.warning("peers' answers make no sense", reason=str(error))
            continue
        for point in served(peers):
            store.note_served_elsewhere(point)
        if vdl is not None and store.learn_vdl(vdl):
            calm_rounds = 0
            log.info("peers imply a newer VDL", term=vdl.term, vdl=str(vdl.lsn))
