"""How a disk comes to hold its copy, once: formatted, or filled from another (rule 13).

Both go on in the background after their ask was answered; the status tells how far they are. Base
and log are made first and the record last, so that a crash anywhere on the way leaves the copy
blank and the work can begin again.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from aurora_operator.agent.place import Place
from aurora_operator.agent.server_output import emit_server_line
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.tier import StorageTier
from aurora_operator.agent.users import os_user
from aurora_operator.api.convert import view_from_status, volume_record
from aurora_operator.api.messages import CopyState, FillAsk, FormatAsk
from aurora_operator.core.birth import VolumeRecord, born_record, judge_fill, judge_own_format
from aurora_operator.core.lsn import FORMAT_TERM
from aurora_operator.core.names import Slot
from aurora_operator.core.verdicts import Proceed, Refuse
from aurora_operator.engines.postgresql.birth import make_base
from aurora_operator.engines.postgresql.endpoint import TlsFiles
from aurora_operator.engines.postgresql.log_fetch import fetch_log
from aurora_operator.engines.postgresql.relay import FILL_PARAMETER
from aurora_operator.volume.copy_store import CopyStore

log = structlog.get_logger()

_RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0)
_STATUS_SECONDS: Final = 1.0


class FormatRefused(Exception):
    """The volume may exist already: nothing was touched, and only a new ask tries again."""


class FillRefused(Exception):
    """The source cannot fill this copy now; the copy is blank as before."""


class CopyBirth:
    """Fills the blank disk of this pod, at most once."""

    def __init__(
        self, *, place: Place, store: CopyStore, page_store: PageStore, tier: StorageTier
    ) -> None:
        self.sentence = ""
        """What is going on, for the status; empty when nothing is."""
        self.done = asyncio.Event()
        self._place = place
        self._store = store
        self._page_store = page_store
        self._tier = tier
        self._unfinished = place.disk / "pages.new"
        self._task: asyncio.Task[None] | None = None

    def begin_format(self, ask: FormatAsk) -> Proceed | Refuse:
        """Slot 0: run initdb, if this disk is blank."""
        if self._task is not None:
            return Proceed(self.sentence or "formatted")
        record = volume_record(ask.birth)
        verdict = judge_own_format(self._store.view(), record)
        if isinstance(verdict, Proceed):
            self._begin("formatting", lambda: self._format(record))
        return verdict

    def begin_fill(self, ask: FillAsk) -> Proceed | Refuse:
        """Slots 1 to 5: take base and log from the pod that is named."""
        if self._task is not None:
            return Proceed(self.sentence or "filled")
        source = next((p.slot for p in self._tier.pods if p.pod == ask.source_pod), None)
        if source is None:
            return Refuse(f"{ask.source_pod} is no storage pod of this cluster")
        if self._store.state is CopyState.FULL:
            return Refuse("this copy is full already")
        record = volume_record(ask.birth, ask.system_identifier)
        self._begin(f"filling from {ask.source_pod}", lambda: self._fill(record, source))
        return Proceed(f"filling from {ask.source_pod}")

    async def close(self) -> None:
        """Give up what is under way; the copy stays blank."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _begin(self, sentence: str, work: Callable[[], Awaitable[None]]) -> None:
        self.sentence = sentence
        self._task = asyncio.create_task(self._until_done(sentence, work), name=sentence)

    async def _until_done(self, sentence: str, work: Callable[[], Awaitable[None]]) -> None:
        """Begin again until it works: the copy is blank, so nothing can be lost."""
        failures = 0
        while True:
            try:
                await work()
            except FormatRefused as error:
                log.error("this disk is not formatted", reason=str(error))
                self.sentence = str(error)
                self._task = None
                return
            except Exception as error:
                log.exception("birth of the copy failed; beginning again", what=sentence)
                self.sentence = f"{sentence}: {error}; trying again"
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1
                continue
            self.sentence = ""
            self.done.set()
            return

    async def _format(self, record: VolumeRecord) -> None:
        await self._hear_five_blank_peers()
        self._store.begin_fill()
        self._remove_pages()
        born = await make_base(
            self._unfinished,
            socket_directory=self._place.run,
            os_user=os_user(),
            emit=emit_server_line,
        )
        for lsn, data in born.log():
            self._store.append(lsn, data, FORMAT_TERM)
        self._store.sync()
        self._complete(record, born.system_identifier)

    async def _hear_five_blank_peers(self) -> None:
        """Rule 13: the operator heard it before it asked; its word may be old, or lost its status.

        A peer that does not answer is waited for; one that holds anything forbids the format.
        """
        statuses = await self._tier.statuses(_STATUS_SECONDS, but=self._store.view().slot)
        holding = [s for s in statuses if s.state is not CopyState.BLANK or s.volume_id is not None]
        if holding:
            said = ", ".join(f"{s.identity} is {s.state}" for s in holding)
            raise FormatRefused(
                f"not formatted, because the volume may exist: {said}; nothing was touched."
                " A copy that lost its disk has to be filled from those"
            )
        peers = len(self._tier.pods) - 1
        if len(statuses) < peers:
            raise TimeoutError(f"{len(statuses)} of {peers} peers answered; all must be blank")

    async def _fill(self, record: VolumeRecord, source: Slot) -> None:
        agent = self._tier.agents[source]
        status = await self._tier.client.fetch_storage_status(agent)
        own = replace(self._store.view(), state=CopyState.BLANK)  # a torn fill begins again
        verdict = judge_fill(own, view_from_status(status), record)
        if not isinstance(verdict, Proceed):
            raise FillRefused(verdict.sentence)
        assert record.system_identifier is not None
        self._store.begin_fill()
        self._remove_pages()
        identity = own.identity
        await self._page_store.take_base([self._tier.page_store(source)], self._unfinished)
        await fetch_log(
            self._tier.gate(source),
            copy=self._store,
            system_identifier=record.system_identifier,
            tls=TlsFiles(self._place.tls),
            application_name=identity,
            parameters={FILL_PARAMETER: identity},
        )
        self._complete(record, record.system_identifier)

    def _complete(self, record: VolumeRecord, system_identifier: str) -> None:
        """Pages take their name, then the record is written: the copy is full."""
        self._unfinished.rename(self._page_store.pages)
        self._store.complete_birth(
            born_record(record, self._store.view().slot, system_identifier, self._store.scl())
        )
        log.info("copy is full", scl=str(self._store.scl()), system_identifier=system_identifier)

    def _remove_pages(self) -> None:
        """What an unfinished birth left behind; no server runs on it."""
        for directory in (self._unfinished, self._page_store.pages):
            if directory.exists():
                shutil.rmtree(directory)
