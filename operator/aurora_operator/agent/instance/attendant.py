"""One slot, as the open writer serves it: the hub's connection, and what is asked of its copy next.

An attendant belongs to the member of its slot, or to the copy that is on its way in. It holds the
hub connection open, sends beats, takes positions in, and asks its copy to promise, to keep the
member list or to adopt, whatever ``next_for_copy`` says is next.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import aiohttp
import structlog
from pydantic import ValidationError

from aurora_operator.agent.client import AgentAddress, AgentUnreachable
from aurora_operator.api.convert import (
    adoption_to_ask,
    members_to_ask,
    position_from_hub,
    promise_to_ask,
    view_from_status,
)
from aurora_operator.api.messages import (
    CopyFollowing,
    HubPosition,
    StorageAnswer,
)
from aurora_operator.core.copy import CopyView, Position
from aurora_operator.core.following import (
    AskAdopt,
    AskMembers,
    AskPromise,
    Leave,
    WriterFacts,
    next_for_copy,
)
from aurora_operator.core.isolation import NEVER_NS
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.replacement import Remembered, returned_with_less

if TYPE_CHECKING:
    from aurora_operator.agent.instance.following import Following

log = structlog.get_logger()

BEAT_SECONDS: Final = 0.1
NEVER: Final = float("inf")
_COALESCE_SECONDS: Final = 0.001
_ATTEND_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.1
_SEND_SECONDS: Final = 5.0
_SILENT_SECONDS: Final = 3.0
_ASKED: Final = {
    AskPromise: "copy asked to promise",
    AskMembers: "copy asked to keep the member list",
    AskAdopt: "copy asked to adopt",
}
_RENEW_NS: Final = 20_000_000
"""Answers that follow each other more closely than this do not make the stamp younger."""


class Attendant:
    """Serves one slot: its member, or the copy that is on its way in."""

    def __init__(
        self, following: Following, slot: Slot, agent: AgentAddress, identity: Identity | None
    ) -> None:
        self.agent = agent
        self.slot = slot
        self.identity = identity
        """Whose copy is served here; ``None`` while the slot waits to be filled."""
        self.position: Position | None = None
        self.promised_term = Term(0)
        """The highest promise heard of; a promise is never taken back."""
        self.asked_ns = NEVER_NS
        """When the beat was sent that it last answered as a copy of the own term."""
        self.seen: CopyView | None = None
        """The copy as it last described itself."""
        self.stranded_at = NEVER
        """Since when it is reachable, full, and bound to another attempt."""
        self.lost_memory = False
        """Its copy returned with less than it had (H17)."""
        self.has_prompt_readers = False
        self.beat_due = asyncio.Event()
        self._following = following
        self._durable_scl: Lsn | None = None
        """How far its log of the own term was heard to be durable."""
        self._known: CopyView | None = None
        self._poked = asyncio.Event()
        self._connected = False
        self._streaming = False
        self._sentence = "not heard of yet"

    def poke(self, known: CopyView | None = None) -> None:
        """Look at this member now; ``known`` is its state if it just told it."""
        self._known = known
        self._poked.set()

    def belong_to(self, identity: Identity | None) -> None:
        """Serve this copy from now on; nothing that was heard of another one is kept."""
        if identity != self.identity:
            self.identity = identity
            self.position = None
            self._durable_scl = None
            self.promised_term = Term(0)
            self.asked_ns = NEVER_NS
            self.stranded_at = NEVER
            self.lost_memory = False
            self.seen = None
        self.poke()

    def describe(self) -> CopyFollowing:
        """For the status."""
        return CopyFollowing(
            slot=self.slot,
            identity=self.identity,
            reachable=self._connected,
            streaming=self._connected and self._streaming and self._following.counts(self.identity),
            promised_term=self.promised_term or None,
            scl=None if self.position is None else self.position.scl,
            sentence=self._sentence,
        )

    # --- the hub -----------------------------------------------------------------------------

    async def keep_connected(self) -> None:
        """Hold the hub connection, for as long as this writer lives."""
        while True:
            try:
                socket = await self._following.tier.client.connect_hub(self.agent)
                async with socket:
                    await self._talk(socket)
            except (AgentUnreachable, aiohttp.ClientError, OSError, TimeoutError) as error:
                self._sentence = f"no hub connection: {error}"
            self._connected = False
            self._streaming = False
            self.has_prompt_readers = False
            await asyncio.sleep(_RETRY_SECONDS)

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        sender = asyncio.create_task(self._send_beats(socket), name=f"beats to {self.agent.pod}")
        try:
            while True:
                async with asyncio.timeout(_SILENT_SECONDS):
                    message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                await self._take(HubPosition.model_validate_json(message.data))
        except ValidationError as error:
            log.warning("hub message malformed", pod=self.agent.pod, reason=str(error))
        finally:
            sender.cancel()
            await asyncio.wait([sender])

    async def _send_beats(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """On change, at most one a millisecond, and every 100 ms; a stuck peer is hung up on."""
        try:
            while True:
                sent_at = time.monotonic()
                async with asyncio.timeout(_SEND_SECONDS):
                    await socket.send_str(self._following.beat().model_dump_json())
                try:
                    async with asyncio.timeout(BEAT_SECONDS):
                        await self.beat_due.wait()
                    await asyncio.sleep(sent_at + _COALESCE_SECONDS - time.monotonic())
                except TimeoutError:
                    pass  # nothing changed: the beat is repeated, lest a lost one freeze replicas
                self.beat_due.clear()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._sentence = f"hub connection lost: {error}"
            await socket.close()

    async def _take(self, message: HubPosition) -> None:
        lost_stream = self._streaming and not message.streaming
        first = not self._connected
        self._connected = True
        identity = self.identity
        if identity is None or message.identity not in (None, identity):
            self._streaming = False  # another disk answers here: it is no news of this copy
            return
        position = position_from_hub(identity, message)
        self._streaming = message.streaming
        if message.has_prompt_readers != self.has_prompt_readers:
            self.has_prompt_readers = message.has_prompt_readers
            self._following.tell_all()
        self._note_promise(message.promised_term)
        self._note_answer(message)
        self._note_log(message)
        if first or lost_stream:
            self.poke()
        if position != self.position:
            self.position = position
            await self._following.hear(position)

    def _note_promise(self, promised: Term | None) -> None:
        if promised is not None and promised > self.promised_term:
            self.promised_term = promised
            self._following.notice()

    def _note_answer(self, message: HubPosition) -> None:
        """Dated by the question: how long the answer lay on the way, or here, does not matter."""
        if message.promised_term != self._following.promise.term or message.answers_ns is None:
            return
        if message.answers_ns >= self.asked_ns + _RENEW_NS:
            self.asked_ns = message.answers_ns
            self._following.notice()

    def _note_log(self, message: HubPosition) -> None:
        """What it may never have less of, in this writer's term (H17)."""
        own = message.promised_term == message.log_term == self._following.promise.term
        if own and message.scl is not None:
            self._durable_scl = max(message.scl, self._durable_scl or message.scl)

    # --- promise, adopt, leave ---------------------------------------------------------------

    async def keep_following(self) -> None:
        """Ask for the next thing, again and again; promptly while it is not streaming."""
        while True:
            pause_seconds = _ATTEND_SECONDS
            if (facts := self._following.facts) is None:
                await self._warm_up()
            else:
                try:
                    pause_seconds = await self._attend(facts)
                except AgentUnreachable as error:
                    self._sentence = str(error)
                except ValueError as error:
                    self._sentence = f"its answer makes no sense: {error}"
                    log.warning("copy misunderstood", pod=self.agent.pod, reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await self._poked.wait()
            self._poked.clear()

    async def _warm_up(self) -> None:
        """Before the writer's history is known: have a connection ready for the first ask."""
        try:
            await self._following.tier.client.fetch_storage_status(self.agent)
        except AgentUnreachable as error:
            self._sentence = str(error)

    async def _attend(self, facts: WriterFacts) -> float:
        """Do one thing for the copy; how long to wait before looking again."""
        client = self._following.tier.client
        copy, self._known = self._known, None
        before = Remembered()  # an answer that was told already may be older than what was heard
        if copy is None:
            before = Remembered(self.promised_term, self._durable_scl)
            copy = view_from_status(await client.fetch_storage_status(self.agent))
        self.seen = copy
        self._following.notice()
        if copy.identity != self.identity:
            expected = self.identity or "none"
            self._sentence = f"{copy.identity} answers; the member of this slot is {expected}"
            return _ATTEND_SECONDS
        less = returned_with_less(copy, before, facts.promise.term)
        if less is not None:
            if not self.lost_memory:
                log.error("a copy lost what it had; it is to be filled anew", reason=less)
            self.lost_memory, self._sentence = True, less
            return _ATTEND_SECONDS
        self._note_promise(copy.promised_term)
        step = next_for_copy(facts, copy)
        self._sentence = step.sentence
        bound_elsewhere = (
            copy.record is not None
            and copy.record.promise.term >= facts.promise.term
            and copy.record.promise != facts.promise
        )
        self.stranded_at = min(self.stranded_at, time.monotonic()) if bound_elsewhere else NEVER
        if isinstance(step, Leave):
            return _ATTEND_SECONDS
        started = time.monotonic()
        answer = await self._ask(step)
        log.info(
            _ASKED[type(step)],
            pod=self.agent.pod,
            granted=answer.granted,
            sentence=answer.sentence,
            milliseconds=round(1000 * (time.monotonic() - started), 1),
        )
        self._sentence = answer.sentence
        if not answer.granted:
            return _ATTEND_SECONDS
        if isinstance(step, AskAdopt):
            return _RETRY_SECONDS * 5
        self._known = view_from_status(answer.status)
        return 0.0

    async def _ask(self, step: AskPromise | AskMembers | AskAdopt) -> StorageAnswer:
        client, writer = self._following.tier.client, self._following.writer
        match step:
            case AskPromise(promise):
                return await client.promise(self.agent, promise_to_ask(promise, writer.instance))
            case AskMembers(members):
                ask = members_to_ask(self._following.promise, members)
                return await client.store_members(self.agent, ask)
            case AskAdopt(adoption):
                return await client.adopt(self.agent, adoption_to_ask(adoption, writer))
