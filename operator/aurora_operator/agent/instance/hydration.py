"""Where a new instance's base comes from: a page store of a full copy.

Instances begin with different copies, so that many new ones do not press one pod. It goes on
trying for as long as it takes: the volume may be on its way back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from aurora_operator.agent.instance.machine import Machine, preferred_slots
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.messages import CopyState
from aurora_operator.core.names import Slot

log = structlog.get_logger()

_STATUS_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


async def hydrate(
    machine: Machine, tier: StorageTier, pod: str, say: Callable[[str], None]
) -> None:
    """Fill the empty data directory with a base; returns once it is whole."""
    failures = 0
    while True:
        for slot in await _sources(tier, pod):
            started = time.monotonic()
            say(f"copying a base from {tier.agents[slot].pod}")
            try:
                await machine.take_base(slot)
            except Exception as error:
                log.warning("no base from this copy", slot=slot, reason=str(error))
                continue
            seconds = round(time.monotonic() - started, 2)
            log.info("base copied", slot=slot, seconds=seconds)
            return
        say("no full copy with a running page store gives a base; trying again")
        await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
        failures += 1


async def _sources(tier: StorageTier, pod: str) -> list[Slot]:
    statuses = await tier.statuses(_STATUS_SECONDS)
    able = {s.slot for s in statuses if s.state is CopyState.FULL and s.page_store.running}
    return [slot for slot in preferred_slots(pod, tier) if slot in able]
