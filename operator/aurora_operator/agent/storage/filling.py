"""How a blank disk is filled from its peers: the one way, at birth and after a lost disk.

The base comes from a peer's page store and the log from a gate, in parallel: the base's label
tells at once from where on its log is needed, and that log follows the writer while the pages are
still on their way. Nothing is asked of anybody beyond the volume durable position, so what is
filled in never has to be taken back. What the volume is (history, system) is learned before the
first byte, after each interruption, and again at the end, from full members only (H13).
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from aurora_operator.agent.place import Place
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.messages import FillPhase, FillProgress
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import Identity, Slot
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.endpoint import TlsFiles
from aurora_operator.engines.postgresql.log_fetch import fetch_log
from aurora_operator.engines.postgresql.programs import base_start
from aurora_operator.telemetry import metrics
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import NotWritten
from aurora_operator.volume.pace import Pace

log = structlog.get_logger()

_LABEL_SECONDS: Final = 120.0
_STUCK_SECONDS: Final = 120.0
"""A fill that got no log for so long begins anew: its base may be too old by now."""
_POLL_SECONDS: Final = 0.02
_RETRY_SECONDS: Final = 0.2

_Interruption = (OSError, TimeoutError, wire.ServerError, wire.WireError, NotWritten)


class FillFailed(Exception):
    """The fill cannot go on; the copy is blank as before."""


@dataclass(frozen=True)
class Lesson:
    """What a copy has to know of the volume to be filled."""

    system_identifier: str
    history: TermHistory
    sources: tuple[Slot, ...]
    """Full copies, the one to take the base from first."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What a gate must be told."""


Learn = Callable[[], Awaitable[Lesson]]


class CopyFilling:
    """Fills the disk of this pod; ``progress`` tells how far it is."""

    def __init__(
        self,
        *,
        place: Place,
        store: CopyStore,
        page_store: PageStore,
        tier: StorageTier,
        bytes_per_second: int | None,
    ) -> None:
        self.progress: FillProgress | None = None
        self._place = place
        self._store = store
        self._page_store = page_store
        self._tier = tier
        self._bytes_per_second = bytes_per_second
        self._unfinished = place.disk / "pages.new"

    async def fill(self, identity: Identity, learn: Learn) -> Lesson:
        """Take base and log; raises, and the disk holds nothing that counts.

        Returns what was learned last. The log then reaches at least as far as its pages need it;
        what remains is to give the pages their name and to write the record.
        """
        lesson = await learn()
        started = time.monotonic()
        self._store.begin_fill(identity, lesson.history)
        self.remove_pages()
        source = self._tier.agents[lesson.sources[0]].pod
        self.progress = FillProgress(phase=FillPhase.BASE, source=source)
        base = asyncio.create_task(self._take_base(lesson), name="fill: base")
        following: asyncio.Task[Lesson] | None = None
        try:
            begin = await self._begin_of_base(base)
            self._store.begin_log(begin)
            following = asyncio.create_task(
                self._follow_log(lesson, learn, base.done), name="fill: log"
            )
            await asyncio.wait({base, following}, return_when=asyncio.FIRST_EXCEPTION)
            if following.done():
                following.result()
            await base
            lesson = await following
        finally:
            tasks = [task for task in (base, following) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.progress = None
            metrics.COPY_FILL_BASE_TOTAL_BYTES.set(0)
        log.info(
            "copy is filled",
            identity=identity,
            source=source,
            log=f"{begin} to {self._store.scl()}",
            seconds=round(time.monotonic() - started, 2),
        )
        return lesson

    def name_pages(self) -> None:
        """The base becomes the page store's data."""
        self._unfinished.rename(self._page_store.pages)

    def remove_pages(self) -> None:
        """What was here before, or an unfinished fill left behind; no server runs on it."""
        for directory in (self._unfinished, self._page_store.pages):
            if directory.exists():
                shutil.rmtree(directory)

    async def _take_base(self, lesson: Lesson) -> None:
        await self._page_store.take_base(
            [self._tier.page_store(slot) for slot in lesson.sources[:1]],
            self._unfinished,
            bytes_per_second=self._bytes_per_second,
            on_progress=self._note_base,
        )
        self._note(phase=FillPhase.LOG)

    async def _begin_of_base(self, base: asyncio.Task[None]) -> Lsn:
        """A copy's log begins with the segment in which its base's log begins."""
        async with asyncio.timeout(_LABEL_SECONDS):
            while (start := base_start(self._unfinished)) is None:
                if base.done():
                    base.result()
                    raise FillFailed("the base came without a label")
                await asyncio.sleep(_POLL_SECONDS)
        return start.segment_start

    async def _follow_log(
        self, lesson: Lesson, learn: Learn, base_is_here: Callable[[], bool]
    ) -> Lesson:
        """Take log until the base is here, from one gate after the other."""
        store = self._store
        pace = Pace(self._bytes_per_second) if self._bytes_per_second else None
        moved_at = time.monotonic()
        turn = 1  # the base's source has enough to do

        def enough() -> bool:
            self._note(log_bytes=store.scl() - store.log_start())
            return base_is_here()

        while True:
            before = store.scl()
            gate = self._tier.gate(lesson.sources[turn % len(lesson.sources)])
            try:
                store.extend_fill_history(lesson.history)
                await fetch_log(
                    gate,
                    copy=store,
                    system_identifier=lesson.system_identifier,
                    tls=TlsFiles(self._place.tls),
                    application_name=store.view().identity,
                    parameters=lesson.parameters,
                    until=enough,
                    pace=None if pace is None else pace.wait,
                )
                return await learn()
            except (*_Interruption, FillFailed) as error:
                moved_at = time.monotonic() if store.scl() > before else moved_at
                if time.monotonic() - moved_at > _STUCK_SECONDS:
                    raise FillFailed(f"no log for {_STUCK_SECONDS:.0f} s: {error}") from error
                log.info("log of the fill interrupted", gate=str(gate), reason=str(error))
            turn += 1
            await asyncio.sleep(_RETRY_SECONDS)
            lesson = await _try_to_learn(learn) or lesson

    def _note_base(self, count_bytes: int, total_bytes: int) -> None:
        self._note(base_bytes=count_bytes, base_bytes_total=total_bytes)
        metrics.COPY_FILL_BASE_BYTES.set(count_bytes)
        metrics.COPY_FILL_BASE_TOTAL_BYTES.set(total_bytes)

    def _note(self, **changes: object) -> None:
        if self.progress is not None:
            self.progress = self.progress.model_copy(update=changes)


async def _try_to_learn(learn: Learn) -> Lesson | None:
    """What is to be known now; ``None`` while nobody can tell, as between two writers."""
    try:
        return await learn()
    except FillFailed as error:
        log.info("nothing learned for the fill", reason=str(error))
        return None


def sources_for(slots: Sequence[Slot], own: Slot) -> tuple[Slot, ...]:
    """Another first one for each slot, so that two fills do not press one pod."""
    return tuple(sorted(slots, key=lambda slot: (slot - own) % 6))
