"""The scrubber of a storage pod: reads the own log again, and mends it from a peer.

Slowly, with small reads in a thread, so that commits do not notice. Damage is reported at once and
looked for at the peers until one has it; after ``REPAIR_SECONDS`` the copy is FAILED, since its
log has a hole that nobody may be told is none (I5).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import view_from_status
from aurora_operator.core import scrub
from aurora_operator.core.names import Slot
from aurora_operator.core.scrub import Damage
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import TlsFiles
from aurora_operator.engines.postgresql.log_fetch import fetch_range
from aurora_operator.telemetry import metrics
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import LogRefused, NotWritten, StorageError
from aurora_operator.volume.files import Files
from aurora_operator.volume.scrub import Examined, Piece, Walk, examine

log = structlog.get_logger()

_STATUS_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 2.0


class Scrubbing:
    """Scrubs one copy, for as long as its pod lives."""

    def __init__(
        self,
        *,
        store: CopyStore,
        tier: StorageTier,
        slot: Slot,
        tls: TlsFiles,
        on_fatal: Callable[[str], None],
    ) -> None:
        """``on_fatal`` is told when the copy has failed, because nobody could repair it."""
        self._store = store
        self._tier = tier
        self._slot = slot
        self._tls = tls
        self._on_fatal = on_fatal
        self._files = Files()
        self._walk = Walk()
        self._damaged_since: float | None = None

    async def run(self) -> None:
        """Pass after pass, until cancelled or the copy has failed."""
        while True:
            began = time.monotonic()
            if not await self._pass():
                return
            metrics.LOG_SCRUB_PASS_AT.set_to_current_time()
            await asyncio.sleep(max(0.0, began + scrub.PASS_SECONDS_MIN - time.monotonic()))

    async def _pass(self) -> bool:
        """Read the whole log once; false when the copy is not full, or no longer."""
        while (full := self._store.full_log()) is not None:
            piece = self._walk.next_piece(full)
            if piece is None:
                return True
            seen = await self._read(piece)
            if seen is None:
                continue
            metrics.LOG_SCRUBBED_BYTES.inc(seen.read_bytes)
            damage = self._walk.take(full, piece, seen)
            if damage is not None:
                await self._mend(damage)
            log_bytes = full.durable_end - full.begin
            await asyncio.sleep(scrub.pause_seconds(log_bytes, seen.read_bytes))
        return False

    async def _read(self, piece: Piece) -> Examined | None:
        try:
            return await asyncio.to_thread(examine, self._files, piece)
        except FileNotFoundError:  # removed meanwhile; the next piece lies elsewhere
            await asyncio.sleep(0)
            return None

    async def _mend(self, damage: Damage) -> None:
        """Repair, or wait a moment for the next try, or give the copy up."""
        if self._damaged_since is None:
            self._damaged_since = time.monotonic()
            metrics.LOG_DAMAGE_FOUND.inc()
            log.error("log damaged on the disk; looking for a peer that has it", range=str(damage))
        if await self._repaired(damage):
            self._damaged_since = None
            metrics.LOG_DAMAGE_REPAIRED.inc()
            log.warning("log repaired from a peer", range=str(damage))
            return
        if time.monotonic() - self._damaged_since > scrub.REPAIR_SECONDS:
            sentence = (
                f"log from {damage} lost its checksum on the disk, and no peer could give it in"
                f" {scrub.REPAIR_SECONDS:.0f} s; the copy is failed and must be filled from peers"
            )
            self._store.give_up(sentence)
            self._on_fatal(sentence)
            return
        await asyncio.sleep(_RETRY_SECONDS)

    async def _repaired(self, damage: Damage) -> bool:
        statuses = await self._tier.statuses(_STATUS_SECONDS, but=self._slot)
        try:
            peers = [view_from_status(status) for status in statuses]
        except ValueError as error:
            log.warning("peers' answers make no sense", reason=str(error))
            return False
        for slot in scrub.repair_sources(self._store.view(), damage, peers):
            try:
                data = await fetch_range(
                    self._tier.gate(slot),
                    begin=damage.begin,
                    end=damage.end,
                    history=self._store.history(),
                    system_identifier=self._store.system_identifier(),
                    tls=self._tls,
                    application_name=self._store.view().identity,
                )
                self._store.repair(damage, data)
            except (OSError, TimeoutError, wire.ServerError, wire.WireError) as error:
                log.warning("piece not fetched", slot=slot, reason=str(error))
            except (NotWritten, LogRefused) as error:
                log.warning("piece not put in place", reason=str(error))
                return False
            except StorageError as error:
                self._on_fatal(str(error))
                return False
            else:
                return True
        return False
