"""A writer that is cut off lets nobody read what may be old (rule 12).

When for a second it did not hear from three members of its own term, another writer may be open
somewhere: sessions are ended and new ones refused. Nothing it does can be acknowledged then anyhow.
It is still the writer of its term; when three members answer again and none of that has changed,
the door opens again. A pause of this process itself proves nothing about the members, so a check
that comes late does not count.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.core.quorum import AURORA_QUORUM

log = structlog.get_logger()

_SILENT_SECONDS: Final = 1.0
_PERIOD_SECONDS: Final = 0.1
_LATE_SECONDS: Final = 0.2
_CHECKS: Final = 3


async def shut_while_cut_off(following: Following, machine: Machine) -> None:
    """Watch over the open writer's door, until cancelled."""
    lonely_checks = 0
    while True:
        slept_at = time.monotonic()
        await asyncio.sleep(_PERIOD_SECONDS)
        if time.monotonic() - slept_at > _PERIOD_SECONDS + _LATE_SECONDS:
            lonely_checks = 0
            continue
        heard = following.members_heard(_SILENT_SECONDS)
        lonely_checks = lonely_checks + 1 if heard < AURORA_QUORUM.read_quorum else 0
        if lonely_checks >= _CHECKS and machine.door.is_open:
            log.error(
                "cut off: fewer than three members answer; sessions are ended, reads would be"
                " stale and writes could not be acknowledged",
                members=heard,
                term=following.promise.term,
            )
            machine.shut_door()
        if (
            lonely_checks == 0
            and not machine.door.is_open
            and not following.superseded.is_set()
            and following.successor is None
        ):
            log.info("three members answer; the door opens", term=following.promise.term)
            machine.open_door()
