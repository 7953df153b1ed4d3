"""An instance's lookout: it sees with the copies' eyes whether the volume needs a writer.

It keeps a connection to every storage pod, tells where the own instance stands, and hears what
each copy sees. When three copies miss the writer and the own turn has come, it wishes an opening,
as the operator would; an ended writer whom nobody could follow wishes its own restart. What to
wish is decided in ``core.detection``, and whether it succeeds by the copies' promises: so two
lookouts, the operator and a person may all wish at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
import structlog
from pydantic import ValidationError

from aurora_operator.agent.client import AgentAddress, AgentUnreachable
from aurora_operator.agent.storage.watch_end import STALE_SECONDS, WATCH_SECONDS
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import sight_from_watch, standing_to_text
from aurora_operator.api.messages import InstanceRole, WatchNote, WatchSight
from aurora_operator.core.detection import (
    Sight,
    Standing,
    agree_writer_is_gone,
    backoff,
    decide_candidacy,
    decide_lone_restart,
    known_standings,
)
from aurora_operator.core.names import InstanceName, Slot
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.verdicts import Proceed, Wait

log = structlog.get_logger()

_RETRY_SECONDS: Final = 0.2
_SEND_SECONDS: Final = 2.0
_WISH_SECONDS: Final = 1.0
"""A wish is not repeated before: the attempt may not have begun yet on a busy machine."""
_LOOK_SECONDS: Final = 0.05
"""How often turns are looked at while the copies agree; otherwise a change wakes the lookout."""


class Watched(Protocol):
    """The instance, as the lookout needs it."""

    role: InstanceRole
    refusals: int
    """Attempts that were refused since the last one that opened."""

    def standing(self) -> Standing | None:
        """Where it stands, if it could open the volume."""

    def wish_open(self, reason: str) -> tuple[bool, str]:
        """Have it try."""

    def wish_restart(self) -> tuple[bool, str]:
        """Have the ended writer start again."""


@dataclass(frozen=True)
class _Seen:
    sight: Sight
    at: float


class Lookout:
    """All watch connections of one instance, and what follows from them."""

    def __init__(self, tier: StorageTier, name: InstanceName, instance: Watched) -> None:
        self._tier = tier
        self._name = name
        self._instance = instance
        self._seen: dict[Slot, _Seen] = {}
        self._news = asyncio.Event()
        self._agreed_at: float | None = None
        self._alone_at: float | None = None
        self._wished_at = float("-inf")
        self._held_back = (0, 0.0)

    async def run(self) -> None:
        """Look out, until cancelled."""
        keepers = [
            asyncio.create_task(self._keep_watching(slot, agent), name=f"watch {agent.pod}")
            for slot, agent in self._tier.agents.items()
        ]
        try:
            while True:
                pause_seconds = self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_seconds):
                        await self._news.wait()
                self._news.clear()
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    def standings(self) -> tuple[Standing, ...]:
        """Who could open the volume, best first, as the copies told just now."""
        return known_standings(self._sights())

    def _sights(self) -> list[Sight]:
        since = time.monotonic() - STALE_SECONDS
        return [seen.sight for seen in self._seen.values() if seen.at > since]

    def _look(self) -> float:
        """Wish what should be wished; how long to sleep if nothing changes."""
        sights = self._sights()
        if self._instance.role is InstanceRole.STOPPED:
            self._consider_restart(sights)
            return _LOOK_SECONDS
        self._alone_at = None
        if isinstance(agree_writer_is_gone(sights, AURORA_QUORUM), Wait):
            self._agreed_at = None
            return WATCH_SECONDS
        now = time.monotonic()
        self._agreed_at = now if self._agreed_at is None else self._agreed_at
        has_wished = now - self._wished_at < _WISH_SECONDS
        if self._instance.role is InstanceRole.REPLICA and not has_wished:
            verdict = decide_candidacy(
                self._name,
                sights,
                agreed_seconds=now - self._agreed_at,
                backoff_seconds=self._backoff_seconds(),
                policy=AURORA_QUORUM,
            )
            if isinstance(verdict, Proceed):
                accepted, sentence = self._instance.wish_open(f"failover: {verdict.sentence}")
                log.info("copies miss the writer", accepted=accepted, sentence=sentence)
                self._wished_at = now
        return _LOOK_SECONDS

    def _consider_restart(self, sights: list[Sight]) -> None:
        now = time.monotonic()
        others = [s for s in known_standings(sights) if s.name != self._name]
        self._alone_at = None if others else self._alone_at or now
        verdict = decide_lone_restart(
            self._name,
            sights,
            alone_seconds=0.0 if self._alone_at is None else now - self._alone_at,
            policy=AURORA_QUORUM,
        )
        if isinstance(verdict, Proceed):
            _, sentence = self._instance.wish_restart()
            log.info("restarts in place", reason=verdict.sentence, sentence=sentence)
            self._alone_at = None

    def _backoff_seconds(self) -> float:
        """Drawn once for each refusal."""
        refusals = self._instance.refusals
        if self._held_back[0] != refusals:
            self._held_back = (refusals, backoff(refusals, random.random()))
        return self._held_back[1]

    # --- the connections ---------------------------------------------------------------------

    async def _keep_watching(self, slot: Slot, agent: AgentAddress) -> None:
        while True:
            try:
                async with await self._tier.client.connect_watch(agent) as socket:
                    await self._watch(slot, agent, socket)
            except (AgentUnreachable, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.debug("watch connection lost", pod=agent.pod, reason=str(error))
            self._seen.pop(slot, None)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _watch(
        self, slot: Slot, agent: AgentAddress, socket: aiohttp.ClientWebSocketResponse
    ) -> None:
        sender = asyncio.create_task(self._send_notes(socket), name=f"notes to {agent.pod}")
        try:
            while True:
                async with asyncio.timeout(STALE_SECONDS + _SEND_SECONDS):
                    message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                sight = sight_from_watch(slot, WatchSight.model_validate_json(message.data))
                known = self._seen.get(slot)
                self._seen[slot] = _Seen(sight, time.monotonic())
                if known is None or known.sight.misses_writer != sight.misses_writer:
                    self._news.set()
        except ValidationError as error:
            log.warning("watch message malformed", pod=agent.pod, reason=str(error))
        finally:
            sender.cancel()
            await asyncio.wait([sender])

    async def _send_notes(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                standing = self._instance.standing()
                text = None if standing is None else standing_to_text(standing)
                async with asyncio.timeout(_SEND_SECONDS):
                    await socket.send_str(WatchNote(standing=text).model_dump_json())
                await asyncio.sleep(WATCH_SECONDS)
        except (TimeoutError, aiohttp.ClientError, OSError):
            await socket.close()
