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
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from aurora_operator.agent.instance.attendant import Attendant
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.messages import (
    CopyFollowing,
    DurablePoint,
    HubBeat,
    WriterAddress,
)
from aurora_operator.core.copy import CopyView, Position, Promise
from aurora_operator.core.following import (
    WriterFacts,
)
from aurora_operator.core.isolation import Heard, out_of_reach, superseded
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, InstanceName, Slot
from aurora_operator.core.opening import Opened
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.volume.hub import Hub

log = structlog.get_logger()

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

    @property
    def waiting(self) -> str:
        """A sentence while fewer copies take log than a commit needs; empty otherwise."""
        taking = sum(copy.streaming for copy in self.describe())
        if self.vdl is None or taking >= AURORA_QUORUM.write_quorum:
            return ""
        return (
            f"commits wait: {taking} of {len(self._attendants)} copies take log, and"
            f" {AURORA_QUORUM.write_quorum} are needed; reads go on, nothing acknowledged is lost"
        )

    def describe(self) -> tuple[CopyFollowing, ...]:
        """How each copy follows, for the status."""
        return tuple(attendant.describe() for attendant in self._attendants)
