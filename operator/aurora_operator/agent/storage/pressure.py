"""Watching the disk of a copy: the log comes first, pages give way, and people are told.

Once a second the free room is looked at. Old log goes every half minute, and at once when the
log's reserve is being used; if that does not help the page store is held until there is room
again. A full disk needs nothing done: the copy refuses log by itself, its acceptor tries again,
and takes it the moment there is room.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Final

import structlog

from aurora_operator.agent.storage.log_removal import LogRemoval
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.api.messages import PressureStatus
from aurora_operator.core.copy import CopyState
from aurora_operator.core.pressure import (
    Pressure,
    PressureFacts,
    is_low_on_space,
    judge_pressure,
    may_run_page_store,
)
from aurora_operator.telemetry import metrics
from aurora_operator.volume.copy_store import CopyStore

log = structlog.get_logger()

_PERIOD_SECONDS: Final = 1.0
_REMOVAL_SECONDS: Final = 30.0
_HASTY_REMOVAL_SECONDS: Final = 5.0


class PressureWatch:
    """Watches one copy, for as long as its pod lives."""

    def __init__(
        self, *, store: CopyStore, page_store: PageStore, removal: LogRemoval, disk: Path
    ) -> None:
        self._store = store
        self._page_store = page_store
        self._removal = removal
        self._disk = disk
        self._free_bytes = self._total_bytes = 0
        self._removed_at = float("-inf")
        self._told = Pressure.NONE

    def status(self) -> PressureStatus:
        """How the copy is at this moment."""
        if self._store.state is not CopyState.FULL or not self._total_bytes:
            return PressureStatus()
        behind_bytes, behind_seconds = self._store.behind()
        facts = PressureFacts(
            free_bytes=self._free_bytes,
            total_bytes=self._total_bytes,
            behind_bytes=behind_bytes,
            behind_seconds=behind_seconds,
            long_sync_seconds=self._store.strain.long_sync_seconds,
            refusal=self._store.strain.refusal,
            left_behind=self._removal.left_behind,
        )
        verdict = judge_pressure(facts)
        return PressureStatus(
            state=verdict.state,
            sentence=verdict.sentence,
            free_bytes=self._free_bytes,
            total_bytes=self._total_bytes,
            behind_bytes=behind_bytes,
            behind_seconds=round(behind_seconds, 3),
        )

    def takes_log(self) -> bool:
        """Whether the disk took what came last."""
        return self._store.strain.refusal is None and not self._removal.left_behind

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._look()
            self._tell()
            await asyncio.sleep(_PERIOD_SECONDS)

    async def _look(self) -> None:
        self._measure()
        low = is_low_on_space(self._free_bytes, self._total_bytes)
        due_seconds = _HASTY_REMOVAL_SECONDS if low else _REMOVAL_SECONDS
        if time.monotonic() - self._removed_at >= due_seconds:
            self._removed_at = time.monotonic()
            await self._removal.look(self._total_bytes, low_on_space=low)
            self._measure()
        runs = not self._page_store.status().held
        transient_bytes = self._transient_bytes()
        if may_run_page_store(self._free_bytes, self._total_bytes, transient_bytes, runs=runs):
            self._page_store.release()
        elif runs:
            await self._page_store.hold(
                f"{self._free_bytes} of {self._total_bytes} bytes are free, and these are the log's"
            )

    def _transient_bytes(self) -> int:
        """The copy's log, and as much of it as the page store keeps since its redo point."""
        view, redo = self._store.view(), self._page_store.status().redo_lsn
        if view.scl is None or view.log_start is None:
            return 0
        return view.scl - view.log_start + (0 if redo is None else max(0, view.scl - redo))

    def _measure(self) -> None:
        usage = shutil.disk_usage(self._disk)
        self._free_bytes, self._total_bytes = usage.free, usage.total

    def _tell(self) -> None:
        """Metrics always, one line in the log when the state changed."""
        seen = self.status()
        metrics.COPY_FREE_BYTES.set(self._free_bytes)
        metrics.COPY_BEHIND_BYTES.set(seen.behind_bytes)
        metrics.COPY_BEHIND_SECONDS.set(seen.behind_seconds)
        for state in Pressure:
            metrics.COPY_PRESSURE.labels(state=state.value).set(state is seen.state)
        if seen.state is not self._told:
            self._told = seen.state
            log.warning("pressure", state=seen.state.value, sentence=seen.sentence or "none left")
