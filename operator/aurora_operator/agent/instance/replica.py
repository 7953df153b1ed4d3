"""Keeping a replica well: its door, its lag, and whether it can still follow.

The door opens once the server streams and is consistent, and stays open while it falls behind:
what a replica shows is old then, never wrong. A replica that gets no log for long although a full
copy answers cannot follow any more, for instance because its log was removed; it needs a new base.
A server that is too busy to answer tells nothing about its data: it is asked again.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from aurora_operator.agent.instance.machine import Machine
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.messages import CopyState
from aurora_operator.core.lsn import Lsn
from aurora_operator.engines.postgresql.queries import QuestionFailed, ReplayFacts

log = structlog.get_logger()

_SHUT_PERIOD_SECONDS: Final = 0.05
_PERIOD_SECONDS: Final = 0.5
_LOST_SECONDS: Final = 30.0
_WARM_SECONDS: Final = 20.0
_STATUS_SECONDS: Final = 1.0

EXPECT_SECONDS: Final = 6.0
"""Longer than a writer takes from its first word to its consent (core.switchover)."""


class CannotFollow(Exception):
    """The replica needs a fresh base."""


class Replica:
    """What is known of the local standby."""

    def __init__(self, machine: Machine, tier: StorageTier) -> None:
        self.facts: ReplayFacts | None = None
        self.last_refusal = ""
        self._expects_until = float("-inf")
        self._machine = machine
        self._tier = tier

    @property
    def streaming(self) -> bool:
        """Whether log flows at this moment."""
        return self.facts is not None and self.facts.receiver_streaming

    @property
    def applied_lsn(self) -> Lsn | None:
        """How far it has replayed."""
        return None if self.facts is None else self.facts.replayed_lsn

    def expect_opening(self) -> None:
        """A writer is about to hand over to this replica: have its readers out by then."""
        self._expects_until = time.monotonic() + EXPECT_SECONDS
        self._machine.shut_door()

    async def watch(self) -> None:
        """Look again and again; raises ``CannotFollow``."""
        streamed_at = time.monotonic()
        warmed_at = float("-inf")
        while True:
            self.facts = await self._look()
            if self.facts is None or self.streaming:  # silence says nothing about the stream
                streamed_at = time.monotonic()
                expects = time.monotonic() < self._expects_until
                if self.streaming and not expects and not self._machine.door.is_open:
                    self._machine.open_door()
                    log.info("replica streams; its door is open")
            elif time.monotonic() - streamed_at > _LOST_SECONDS and await self._could_stream():
                raise CannotFollow(
                    f"no log for {_LOST_SECONDS:.0f} s although full copies answer;"
                    f" replayed up to {self.applied_lsn}: a fresh base is needed"
                )
            if time.monotonic() - warmed_at > _WARM_SECONDS:
                await self._keep_connections_warm()
                warmed_at = time.monotonic()
            is_open = self._machine.door.is_open
            await asyncio.sleep(_PERIOD_SECONDS if is_open else _SHUT_PERIOD_SECONDS)

    async def _look(self) -> ReplayFacts | None:
        try:
            return await self._machine.sql.replay_facts()
        except QuestionFailed as error:  # its end, if that is it, is noticed elsewhere
            log.info("the server does not answer", reason=str(error))
            return None

    async def _keep_connections_warm(self) -> None:
        """Two to each storage pod: an opening needs one for the hub and one for its asks."""
        await asyncio.gather(
            self._tier.statuses(_STATUS_SECONDS), self._tier.statuses(_STATUS_SECONDS)
        )

    async def _could_stream(self) -> bool:
        statuses = await self._tier.statuses(_STATUS_SECONDS)
        return any(status.state is CopyState.FULL for status in statuses)
