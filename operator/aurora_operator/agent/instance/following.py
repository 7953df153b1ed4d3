"""What the writer's agent does for each copy: it brings it to follow, and keeps the hub.

Every member has one attendant here. It holds the hub connection open, sends a beat every 100 ms,
and whenever the VDL moved if somebody reads at that member's gate, takes its positions in, and
asks it to promise or to adopt when that is the next thing for it. Stragglers of the opening, copies
that come back and copies whose pod restarted all take the same way. What members answer to the
beats, and what they promised, decides whether the writer may go on serving (rule 12,
``isolation``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import aiohttp
import structlog
from pydantic import ValidationError

from aurora_operator.agent.client import AgentAddress, AgentUnreachable
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import (
    adoption_to_ask,
    members_to_ask,
    position_from_hub,
    promise_to_ask,
    view_from_status,
)
from aurora_operator.api.messages import (
    CopyFollowing,
    DurablePoint,
    HubBeat,
    HubPosition,
    StorageAnswer,
    WriterAddress,
)
from aurora_operator.core.copy import CopyView, Position, Promise
from aurora_operator.core.following import (
    AskAdopt,
    AskMembers,
    AskPromise,
    Leave,
    WriterFacts,
    next_for_copy,
)
from aurora_operator.core.isolation import NEVER_NS, Heard, out_of_reach, superseded
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, InstanceName, Slot
from aurora_operator.core.opening import Opened
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.replacement import Remembered, returned_with_less
from aurora_operator.volume.hub import Hub

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
_STRANDED_SECONDS: Final = 10.0
"""So long a copy may belong to another attempt before it is worth a person's attention."""


class Following:
    """All six attendants of one writer, and what they know together."""

    def __init__(
        self, tier: StorageTier, promise: Promise, members: MemberList, writer: WriterAddress
    ) -> None:
        self.tier = tier
        self.promise = promise
        self.members = members
        self.writer = writer
        self.facts: WriterFacts | None = None
        """Known from the promotion on; until then copies are only connected to."""
        self.superseded = asyncio.Event()
        """This writer cannot commit any more (rule 12)."""
        self.why_over = ""
        """The sentence that goes with it."""
        self.on_heard: Callable[[], object] | None = None
        """Called when a member answered a beat, or promised higher."""
        self.hub: Hub | None = None
        self.successor: InstanceName | None = None
        """To whom this writer hands over: its door stays shut while this is set (rule 12)."""
        self._consents = False
        self._opened = False
        self._changed = asyncio.Condition()
        self._counting = frozenset(members.identities)
        self._guests: dict[Slot, Identity] = {}
        self._attendants = [
            Attendant(self, slot, agent, members.identity_in(slot))
            for slot, agent in tier.agents.items()
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Connect to every member; ``stop`` ends what is started here."""
        for attendant in self._attendants:
            name = f"attend {attendant.agent.pod}"
            self._tasks += [
                asyncio.create_task(attendant.keep_connected(), name=f"{name}: hub"),
                asyncio.create_task(attendant.keep_following(), name=f"{name}: asks"),
            ]

    async def stop(self) -> None:
        """End all attendants."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def follow(self, facts: WriterFacts, known: dict[Identity, CopyView]) -> None:
        """The writer's history is known: have every copy adopt it, first those just heard."""
        self.facts = facts
        self.hub = Hub(facts, AURORA_QUORUM)
        for attendant in self._attendants:
            if attendant.position is not None:
                self.hub.hear(attendant.position)
            identity = attendant.identity
            attendant.poke(None if identity is None else known.get(identity))

    def change_members(self, members: MemberList) -> None:
        """Rule 8: have every member keep this list; who counts does not change by that."""
        assert self.facts is not None
        self.members = members
        self.facts = replace(self.facts, members=members)
        for attendant in self._attendants:
            guest = self._guests.get(attendant.slot)
            attendant.belong_to(members.identity_in(attendant.slot) or guest)

    def welcome(self, slot: Slot, guest: Identity) -> None:
        """Rule 8: a filled copy follows this writer, and counts for nothing yet."""
        assert self.facts is not None
        self.facts = replace(self.facts, guest=guest)
        self._guests = {slot: guest}
        for attendant in self._attendants:
            if attendant.slot == slot:
                attendant.belong_to(guest)

    def count_only(self, identities: Sequence[Identity]) -> None:
        """Rule 8: these members count from now on, for the VDL and for everything else."""
        self._counting = frozenset(identities)
        if self.hub is None:
            return
        self.hub.count_only(self.members.restricted_to(identities))
        for attendant in self._attendants:
            if attendant.position is not None:
                self.hub.hear(attendant.position)
            attendant.poke()

    def counts(self, identity: Identity | None) -> bool:
        """Whether it is one of those whom commits wait for."""
        return identity in self._counting

    @property
    def returned_with_less(self) -> frozenset[Slot]:
        """Slots whose copy lost what this writer remembers of it (H17)."""
        return frozenset(a.slot for a in self._attendants if a.lost_memory)

    async def wait_open(self, must_hold: Lsn) -> Opened:
        """Rule 6: wait until four copies hold the term up to ``must_hold`` (I4)."""
        async with self._changed:
            while True:
                verdict = None if self.hub is None else self.hub.may_open(must_hold)
                if isinstance(verdict, Opened):
                    self._opened = True
                    self.tell_all()
                    return verdict
                await self._changed.wait()

    async def hear(self, position: Position) -> None:
        """A member told its position: the VDL may have moved, and somebody may wait for it."""
        if self.hub is not None and self.hub.hear(position):
            for attendant in self._attendants:
                if attendant.has_prompt_readers or not self._opened:
                    attendant.beat_due.set()
        async with self._changed:
            self._changed.notify_all()

    @property
    def prompt(self) -> bool:
        """Whether somebody waits for each move of the VDL: the opening, or a replica."""
        return not self._opened or any(a.has_prompt_readers for a in self._attendants)

    def tell_all(self) -> None:
        """Send every copy a beat now."""
        for attendant in self._attendants:
            attendant.beat_due.set()

    def notice(self) -> None:
        """A member was heard of: clients may be served on, or this writer is over (rule 12)."""
        promised = (heard.promised_term for heard in self.heard())
        copies = (a.seen for a in self._attendants if a.seen is not None)
        over = superseded(self.promise.term, promised, AURORA_QUORUM) or out_of_reach(
            self.promise, self.members, copies, AURORA_QUORUM
        )
        if over is not None:
            self.why_over = over.sentence
            self.superseded.set()
        if self.on_heard is not None:
            self.on_heard()

    def heard(self) -> tuple[Heard, ...]:
        """What rule 12 is judged by, one for each member of the own list."""
        members = [a for a in self._attendants if self.counts(a.identity)]
        return tuple(Heard(a.promised_term, a.asked_ns) for a in members)

    def members_heard(self, within_seconds: float) -> int:
        """How many members of the own term answered what they were asked so recently."""
        since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - round(within_seconds * 1e9)
        return sum(member.asked_ns > since_ns for member in self.heard())

    @property
    def vdl(self) -> Lsn | None:
        """The VDL of this term, once it exists."""
        return None if self.hub is None or self.hub.vdl is None else self.hub.vdl.lsn

    def beat(self) -> HubBeat:
        """What every gate is told now."""
        return HubBeat(
            term=self.promise.term,
            attempt_id=self.promise.attempt_id,
            vdl=self.vdl,
            consents_to=self.successor if self._consents else None,
            prompt=self.prompt,
            sent_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        )

    def consent(self, consents: bool) -> None:
        """Tell the copies that the successor may open the volume, or no longer (rule 2)."""
        self._consents = consents
        self.tell_all()

    @property
    def durable(self) -> DurablePoint | None:
        """The VDL of this term."""
        if self.vdl is None:
            return None
        return DurablePoint(term=self.promise.term, lsn=self.vdl)

    @property
    def stranded(self) -> str:
        """A sentence about copies that only a new term can take in; empty when there are none."""
        since = time.monotonic() - _STRANDED_SECONDS
        lost = [a.agent.pod for a in self._attendants if a.stranded_at < since]
        if not lost:
            return ""
        return (
            f"{', '.join(lost)} promised a later attempt that never opened and cannot follow"
            " before the next term: no data is lost, but it is missing from the six; a switchover"
            " takes it in"
        )

    def describe(self) -> tuple[CopyFollowing, ...]:
        """How each copy follows, for the status."""
        return tuple(attendant.describe() for attendant in self._attendants)


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
