"""How a disk comes to hold its copy: formatted, or filled from others (rules 9 and 13).

All go on in the background after their ask was answered; the status tells how far they are. Base
and log are made first and the record last, so that a crash anywhere on the way leaves the copy
blank and the work can begin again. A copy of the birth is filled under the recorded identity; one
that replaces a lost disk gets a new one from the open writer, and learns the rest from its peers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from aurora_operator.agent.client import AgentUnreachable
from aurora_operator.agent.place import Place
from aurora_operator.agent.server_output import emit_server_line
from aurora_operator.agent.storage.filling import CopyFilling, FillFailed, Lesson, sources_for
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.tier import StorageTier
from aurora_operator.agent.users import os_user
from aurora_operator.api.convert import promise_from_ask, view_from_status, volume_record
from aurora_operator.api.messages import CopyState, FillAsk, FillProgress, FormatAsk, RefillAsk
from aurora_operator.core.birth import VolumeRecord, born_record, judge_fill, judge_own_format
from aurora_operator.core.copy import CopyRecord, CopyView
from aurora_operator.core.lsn import FORMAT_TERM
from aurora_operator.core.members import highest
from aurora_operator.core.names import Slot
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.replacement import judge_refill
from aurora_operator.core.verdicts import Proceed, Refuse, Wait
from aurora_operator.engines.postgresql.birth import make_base
from aurora_operator.engines.postgresql.relay import (
    ATTEMPT_PARAMETER,
    FILL_PARAMETER,
    TERM_PARAMETER,
)
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import StorageError

log = structlog.get_logger()

_RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0)
_STATUS_SECONDS: Final = 1.0


class FormatRefused(Exception):
    """The volume may exist already: nothing was touched, and only a new ask tries again."""


class CopyBirth:
    """Fills the blank disk of this pod."""

    def __init__(
        self,
        *,
        place: Place,
        store: CopyStore,
        page_store: PageStore,
        tier: StorageTier,
        on_wiped: Callable[[], None] = lambda: None,
        bytes_per_second: int | None = None,
    ) -> None:
        """``on_wiped``: the copy was wiped under what serves it; the process must begin anew.

        ``bytes_per_second`` bounds what replaces a lost disk; at birth nobody waits yet.
        """
        self.sentence = ""
        """What is going on, for the status; empty when nothing is."""
        self.done = asyncio.Event()
        """The copy is full, and is served from now on."""
        self._place = place
        self._store = store
        self._tier = tier
        self._on_wiped = on_wiped
        self._unfinished = place.disk / "pages.new"
        self._task: asyncio.Task[None] | None = None
        self._refill: RefillAsk | None = None
        self._taught: CopyView | None = None
        self._sources: tuple[Slot, ...] = ()

        def filling(bytes_per_second: int | None) -> CopyFilling:
            return CopyFilling(
                place=place,
                store=store,
                page_store=page_store,
                tier=tier,
                bytes_per_second=bytes_per_second,
            )

        self._first_filling, self._refilling = filling(None), filling(bytes_per_second)

    @property
    def progress(self) -> FillProgress | None:
        """How far a fill is; ``None`` while there is none."""
        return self._first_filling.progress or self._refilling.progress

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

    async def begin_refill(self, ask: RefillAsk) -> Proceed | Refuse:
        """Fill this disk as a new copy, if its peers say that nothing here counts (rule 9).

        While that goes on, the writer that asks last is the one it goes on for.
        """
        if self._refill is not None and self._task is not None and not self._task.done():
            if ask.term >= self._refill.term:
                self._refill = ask.model_copy(update={"identity": self._refill.identity})
            return Proceed(self.sentence)
        if self._task is not None and not self._task.done():
            return Refuse(f"busy: {self.sentence}")
        taught = await self._judge_refill(ask)
        if not isinstance(taught, CopyView):
            return Refuse(taught.sentence)
        own = self._store.view()
        if own.state is CopyState.FULL and own.identity == ask.identity:
            return Proceed("this copy is full already")
        try:
            self._store.wipe()
        except StorageError as error:
            return Refuse(str(error))
        if self.done.is_set():
            log.warning("copy wiped; the pod begins anew", identity=own.identity)
            self._on_wiped()
            return Proceed("wiped; asked again it is filled")
        self._refill = ask
        self._begin(f"filling as {ask.identity}", self._fill_anew)
        return Proceed(self.sentence)

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
                if self._refill is not None:
                    log.exception("the fill of this copy failed; it is blank again")
                    self.sentence = f"{sentence} failed: {error}"
                    self._store.wipe()
                    self._refill = self._task = None
                    return
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
        self._first_filling.remove_pages()
        born = await make_base(
            self._unfinished,
            socket_directory=self._place.run,
            os_user=os_user(),
            emit=emit_server_line,
        )
        for lsn, data in born.log():
            self._store.append(lsn, data, FORMAT_TERM)
        self._store.sync()
        self._complete(self._first_filling, self._born(record, born.system_identifier))

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
        """At birth: all of term 1 from one copy, which nobody opened yet."""
        identity = self._store.view().identity
        assert record.system_identifier is not None
        system_identifier = record.system_identifier

        async def learn() -> Lesson:
            agent = self._tier.agents[source]
            try:
                status = await self._tier.client.fetch_storage_status(agent)
            except AgentUnreachable as error:
                raise FillFailed(str(error)) from error
            own = replace(self._store.view(), state=CopyState.BLANK)  # a torn fill begins again
            told = view_from_status(status)
            verdict = judge_fill(own, told, record)
            if not isinstance(verdict, Proceed) or told.record is None:
                raise FillFailed(verdict.sentence)
            parameters = {FILL_PARAMETER: identity}
            return Lesson(system_identifier, told.record.history, (source,), parameters)

        await self._first_filling.fill(identity, learn)
        self._complete(self._first_filling, self._born(record, system_identifier))

    async def _fill_anew(self) -> None:
        """Rule 9: from full members, for the writer that asked; the record says what they taught.

        The promise is the writer's own: a copy that was never a member gave no other.
        """
        assert self._refill is not None
        identity = self._refill.identity
        await self._refilling.fill(identity, self._learn_from_members)
        assert self._taught is not None
        assert self._taught.record is not None
        taught = self._taught.record
        self._complete(
            self._refilling,
            replace(
                taught,
                identity=identity,
                slot=self._store.view().slot,
                promise=promise_from_ask(self._refill),
                scl_floor=self._store.scl(),
            ),
        )

    async def _learn_from_members(self) -> Lesson:
        assert self._refill is not None
        taught = await self._judge_refill(self._refill)
        if not isinstance(taught, CopyView) or taught.record is None:
            raise FillFailed(taught.sentence)
        self._taught = taught
        ask, sources, parameters = self._refill, self._sources, {}
        if ask.chosen is not None:
            sources = (taught.slot,)
            parameters = {
                FILL_PARAMETER: ask.identity,
                TERM_PARAMETER: str(ask.term),
                ATTEMPT_PARAMETER: ask.attempt_id,
            }
        return Lesson(taught.record.system_identifier, taught.record.history, sources, parameters)

    async def _judge_refill(self, ask: RefillAsk) -> CopyView | Wait | Refuse:
        """What the peers teach; those that could give base and log are noted."""
        own = self._store.view()
        statuses = await self._tier.statuses(_STATUS_SECONDS, but=own.slot)
        try:
            peers = [view_from_status(status) for status in statuses]
        except ValueError as error:
            return Refuse(f"a peer's answer makes no sense: {error}")
        writer = promise_from_ask(ask)
        taught = judge_refill(own, ask.identity, writer, peers, AURORA_QUORUM, ask.chosen)
        if not isinstance(taught, CopyView) or taught.record is None:
            return taught
        full = [peer for peer in peers if peer.record is not None and peer.state is CopyState.FULL]
        members = highest(peer.record.members for peer in full if peer.record is not None)
        self._sources = sources_for([p.slot for p in full if p.identity in members], own.slot)
        return replace(taught, record=replace(taught.record, members=members))

    def _born(self, record: VolumeRecord, system_identifier: str) -> CopyRecord:
        store = self._store
        return born_record(record, store.view().slot, system_identifier, store.scl())

    def _complete(self, filling: CopyFilling, record: CopyRecord) -> None:
        """Pages take their name, then the record is written: the copy is full."""
        filling.name_pages()
        self._store.complete_birth(record)
        log.info("copy is full", identity=record.identity, scl=str(self._store.scl()))
