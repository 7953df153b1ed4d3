"""What a storage pod answers: asks become decisions of the core and steps of the copy.

A refusal is an answer with a sentence, never an error. The acceptor belongs to these asks: a
promise stops it within the same step (rule 2), an adoption starts the next one (rule 5).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from aurora_operator.agent.storage.birth import CopyBirth
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import (
    adoption_from_ask,
    members_from_text,
    promise_from_ask,
    status_from_view,
)
from aurora_operator.api.messages import (
    AdoptAsk,
    FillAsk,
    FormatAsk,
    HubBeat,
    MembersAsk,
    PressureStatus,
    PrevoteAsk,
    PromiseAsk,
    RefillAsk,
    StorageAnswer,
    StorageStatus,
    WriterAddress,
)
from aurora_operator.core.copy import (
    SILENT_SECONDS,
    CopyView,
    Hold,
    StreamState,
    decide_prevote,
    hold_prevote,
)
from aurora_operator.core.detection import misses_writer
from aurora_operator.core.names import InstanceName
from aurora_operator.core.verdicts import Proceed, Refuse
from aurora_operator.engines.postgresql.acceptor import Acceptor
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint, TlsFiles
from aurora_operator.volume.copy_store import CopyStore

log = structlog.get_logger()


@dataclass(frozen=True)
class _Stream:
    """The acceptor of the moment, and whom it follows."""

    acceptor: Acceptor
    writer: WriterAddress


@dataclass(frozen=True)
class _Consent:
    """The writer's word that one candidate is welcome; it lasts no longer than its beats do."""

    to: InstanceName | None
    heard_at: float

    def covers(self, candidate: InstanceName) -> bool:
        """Whether it speaks of this candidate, and still stands."""
        return candidate == self.to and time.monotonic() - self.heard_at < SILENT_SECONDS


_NO_CONSENT: Final = _Consent(None, float("-inf"))


class StorageAsks:
    """Answers the asks of one storage pod."""

    def __init__(
        self,
        *,
        store: CopyStore,
        birth: CopyBirth,
        page_store: PageStore,
        tier: StorageTier,
        tls: TlsFiles,
        beat_silent_seconds: Callable[[], float],
        on_stream: Callable[[], None],
        on_fatal: Callable[[str], None],
        pressure: Callable[[], PressureStatus] = PressureStatus,
    ) -> None:
        """``on_stream`` is told when the copy's view of its writer changed.

        ``beat_silent_seconds`` says how long no beat of the own promise came, and ``on_fatal`` is
        told when the stream ended for a reason that harms the copy.
        """
        self._store = store
        self._birth = birth
        self._page_store = page_store
        self._tier = tier
        self._tls = tls
        self._beat_silent_seconds = beat_silent_seconds
        self._on_stream = on_stream
        self._on_fatal = on_fatal
        self._pressure = pressure
        self._stream: _Stream | None = None
        self._hold: Hold | None = None
        self._prevote_told: tuple[InstanceName, Proceed | Refuse] | None = None
        self._owners: set[asyncio.Task[None]] = set()
        self._began_at = time.monotonic()
        self._consent = _NO_CONSENT

    def view(self) -> CopyView:
        """The copy with what its acceptor sees."""
        stream = self._stream
        view = self._store.view()
        if stream is not None and self.stream_state() is StreamState.STREAMING:
            view = replace(view, streaming_term=stream.acceptor.term)
        sentence = self._birth.sentence or (
            view.sentence if stream is None else stream.acceptor.sentence
        )
        return replace(view, sentence=sentence)

    def stream_state(self) -> StreamState:
        """What the copy would say of the writer."""
        return StreamState.NONE if self._stream is None else self._stream.acceptor.stream_state()

    def misses_writer(self) -> Proceed | Refuse:
        """Whether the copy would have the volume opened anew (design, §5)."""
        return misses_writer(
            self.view(),
            self.stream_state(),
            beat_silent_seconds=self._beat_silent_seconds(),
            up_seconds=self._up_seconds,
        )

    def status_now(self) -> StorageStatus:
        """Everything for the status."""
        view, pressure = self.view(), self._pressure()
        told = "; ".join(filter(None, (view.sentence, pressure.sentence)))
        status = status_from_view(
            replace(view, sentence=told), self.stream_state(), self._page_store.status(), pressure
        )
        return status.model_copy(update={"fill": self._birth.progress})

    async def status(self, _ask: None) -> StorageStatus:
        """``GET status``."""
        return self.status_now()

    def hear_consent(self, beat: HubBeat) -> None:
        """The writer of the promised term consents to a switchover, or no longer (rule 2)."""
        record = self._store.record
        if record is not None and record.promise.term == beat.term:
            self._consent = _Consent(beat.consents_to, time.monotonic())

    async def format(self, ask: FormatAsk) -> StorageAnswer:
        """Begin to format; it goes on after the answer."""
        return self._answer(self._birth.begin_format(ask))

    async def fill(self, ask: FillAsk) -> StorageAnswer:
        """Begin to fill from another copy; it goes on after the answer."""
        return self._answer(self._birth.begin_fill(ask))

    async def refill(self, ask: RefillAsk) -> StorageAnswer:
        """Begin to fill as a new copy (rule 9); it goes on after the answer."""
        verdict = await self._birth.begin_refill(ask)
        answer = self._answer(verdict)
        log.info(
            "asked to refill",
            term=ask.term,
            identity=ask.identity,
            granted=answer.granted,
            sentence=verdict.sentence,
        )
        return answer

    async def store_members(self, ask: MembersAsk) -> StorageAnswer:
        """Rule 8: the list is durable when this is granted."""
        members = members_from_text(ask.members)
        refusal = self._store.store_members(promise_from_ask(ask), members)
        verdict = refusal or Proceed(f"keeps the list {members}")
        log.info("member list", term=ask.term, granted=refusal is None, sentence=verdict.sentence)
        return self._answer(verdict)

    async def prevote(self, ask: PrevoteAsk) -> StorageAnswer:
        """Rule 2: nothing is written."""
        verdict = decide_prevote(
            self.view(),
            self.stream_state(),
            beat_silent_seconds=self._beat_silent_seconds(),
            up_seconds=self._up_seconds,
            consented=self._consent.covers(ask.candidate),
        )
        if isinstance(verdict, Proceed):
            hold = hold_prevote(self._hold, ask.candidate, time.monotonic())
            if isinstance(hold, Refuse):
                verdict = hold
            else:
                self._hold = hold
        told = (ask.candidate, verdict)
        if told != self._prevote_told:  # a candidate asks again and again
            self._prevote_told = told
            log.info(
                "pre-vote",
                candidate=ask.candidate,
                granted=isinstance(verdict, Proceed),
                sentence=verdict.sentence,
            )
        return self._answer(verdict)

    async def promise(self, ask: PromiseAsk) -> StorageAnswer:
        """Rule 2: stream closed, log synced, promise durable, position read, without an await."""
        refusal = self._store.promise(promise_from_ask(ask), self.stop_stream)
        verdict = refusal or Proceed(f"promised term {ask.term} to {ask.candidate}")
        answer = self._answer(verdict)
        log.info(
            "promise",
            candidate=ask.candidate,
            term=ask.term,
            attempt=ask.attempt_id,
            granted=answer.granted,
            scl=str(answer.status.scl),
            sentence=verdict.sentence,
        )
        return answer

    async def adopt(self, ask: AdoptAsk) -> StorageAnswer:
        """Rule 5: cut and history durable first, then the acceptor connects by itself."""
        outcome = self._store.adopt(adoption_from_ask(ask))
        if isinstance(outcome, Refuse):
            log.warning("adoption refused", term=ask.term, sentence=outcome.sentence)
            return self._answer(outcome)
        self._follow(ask)
        return self._answer(
            Proceed(f"follows {ask.writer.instance} in term {ask.term} from {outcome.start_lsn}")
        )

    def stop_stream(self) -> None:
        """Nothing is appended or reported after this returns (rule 2)."""
        if self._stream is not None:
            self._stream.acceptor.stop()
            self._stream = None
            self._on_stream()

    async def close(self) -> None:
        """End the stream and whatever birth is under way."""
        self.stop_stream()
        if self._owners:
            await asyncio.wait(self._owners)
        await self._birth.close()

    @property
    def _up_seconds(self) -> float:
        return time.monotonic() - self._began_at

    def _follow(self, ask: AdoptAsk) -> None:
        stream = self._stream
        if stream is not None and stream.acceptor.term == ask.term and stream.writer == ask.writer:
            return
        self.stop_stream()
        view = self._store.view()
        writer = ask.writer
        acceptor = Acceptor(
            copy=self._store,
            identity=view.identity,
            system_identifier=self._store.system_identifier(),
            writer=TcpEndpoint(writer.ip, writer.port, writer.instance),
            term=ask.term,
            tls=self._tls,
            on_progress=lambda: None,  # the copy itself tells whoever listens
            on_stream=self._on_stream,
            peer_gates=lambda: [
                self._tier.gate(slot) for slot in self._tier.agents if slot != view.slot
            ],
        )
        acceptor.start()
        self._stream = _Stream(acceptor, writer)
        owner = asyncio.create_task(self._own(acceptor), name=f"owner of acceptor {ask.term}")
        self._owners.add(owner)
        owner.add_done_callback(self._owners.discard)

    async def _own(self, acceptor: Acceptor) -> None:
        """Wait for the acceptor's end; what it raises is a failed copy, or a fault of ours."""
        try:
            await acceptor.join()
        except Exception as error:
            log.exception("acceptor ended", term=acceptor.term, state=str(self._store.state))
            self._on_fatal(f"the stream of term {acceptor.term} ended: {error}")

    def _answer(self, verdict: Proceed | Refuse) -> StorageAnswer:
        return StorageAnswer(
            granted=isinstance(verdict, Proceed),
            sentence=verdict.sentence,
            status=self.status_now(),
        )
