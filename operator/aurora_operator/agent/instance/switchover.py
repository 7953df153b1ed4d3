"""The writer's part in a switchover: end its sessions and its log, consent, wait to be superseded.

``core.switchover`` says what comes next; this module does what each state is for and looks. It
runs inside the writer's stretch of life, so whatever ends that (its server ended, three members
promised higher) ends a switchover too. A switchover that is withdrawn opens the door again: until
three members promised higher this is the writer of its term.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from aurora_operator.agent.client import AgentAddress, AgentClient, AgentUnreachable
from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.api.messages import HandOverStatus, InstanceRole, InstanceStatus, OpenAsk
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.names import InstanceName
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.switchover import (
    SWITCHOVER_SECONDS_MAX,
    TARGET_SILENT_SECONDS,
    Peer,
    SwitchoverFacts,
    SwitchoverState,
    choose_target,
    may_take_in_stranded,
    next_state,
)
from aurora_operator.core.verdicts import Proceed, Refuse
from aurora_operator.engines.postgresql.queries import QuestionFailed

log = structlog.get_logger()

Peers = Callable[[], Awaitable[Sequence[AgentAddress]]]
"""Finds the other instances of the cluster, when nobody named one."""

_PEER_SECONDS: Final = 1.0
_HEARD_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.002
_TARGET_PERIOD_SECONDS: Final = 0.1
_STRANDED_PERIOD_SECONDS: Final = 1.0

LEAVE_SECONDS: Final = SWITCHOVER_SECONDS_MAX + 2 * _PEER_SECONDS
"""What the end of a writer's pod waits for a switchover at most."""


@dataclass(frozen=True)
class Wish:
    """Somebody wants this writer to hand over."""

    request: str
    reason: str
    to: AgentAddress | None = None
    """``None``: to the best there is."""


@dataclass
class _Outcome:
    """What became of a wish."""

    wish: Wish
    to: InstanceName | None = None
    running: bool = True
    sentence: str = "begins"
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Switchovers:
    """All switchovers of one instance, one at a time."""

    def __init__(self, machine: Machine, client: AgentClient, peers: Peers) -> None:
        self._machine = machine
        self._client = client
        self._peers = peers
        self._leaving = False
        self._following: Following | None = None
        self._last: _Outcome | None = None
        self._wished = asyncio.Event()

    def status(self) -> HandOverStatus | None:
        """The last switchover of the present term."""
        last = self._last
        if last is None or self._following is None:
            return None
        return HandOverStatus(
            request=last.wish.request, to=last.to, running=last.running, sentence=last.sentence
        )

    def wish(self, wish: Wish) -> tuple[bool, str]:
        """Take note that the writer should hand over; the same request is carried out once."""
        if self._following is None:
            return False, "it is not the writer: there is nothing to hand over"
        last = self._last
        if last is not None and last.running:
            return True, f"a switchover is under way: {last.sentence}"
        if last is not None and last.wish.request == wish.request:
            return False, last.sentence
        self._last = _Outcome(wish, None if wish.to is None else InstanceName(wish.to.pod))
        self._wished.set()
        return True, "it hands over"

    async def leave(self) -> None:
        """The pod ends: hand over first, if this is the writer and somebody can take over."""
        self._leaving = True
        self.wish(Wish("the end of this pod", "the writer's pod ends"))
        last = self._last
        if self._following is None or last is None:
            return
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await last.over.wait()
        except TimeoutError:
            log.error("no end of the switchover in time; the pod ends as it is")
        log.info("the writer's pod ends", handed_over=last.sentence)

    async def serve(self, following: Following, open_since: float) -> None:
        """Carry out wishes of the open writer until it is superseded (monotonic ``open_since``)."""
        self._following, self._last = following, None
        self._wished.clear()
        watching = asyncio.create_task(
            self._watch_stranded(following, open_since), name="watch stranded copies"
        )
        try:
            while not following.superseded.is_set():
                if await self._wait_for_wish(following):
                    await self._carry_out(following)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            self._following = None
            if self._last is not None:
                self._last.running = False
                self._last.over.set()

    async def _wait_for_wish(self, following: Following) -> bool:
        """True for a wish, false when the writer is superseded."""
        tasks = [
            asyncio.create_task(event.wait(), name="wait for a wish to hand over")
            for event in (self._wished, following.superseded)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return self._wished.is_set()

    async def _carry_out(self, following: Following) -> None:
        self._wished.clear()
        assert self._last is not None
        outcome, wish = self._last, self._last.wish
        log.info("asked to hand over", request=wish.request, reason=wish.reason)
        try:
            outcome.sentence = await self._hand_over(following, wish, outcome)
        except QuestionFailed as error:
            outcome.sentence = f"withdrawn: {error}"
        following.consent(False)
        outcome.running = False
        outcome.over.set()
        if following.superseded.is_set():
            return
        log.warning("not handed over", request=wish.request, sentence=outcome.sentence)
        if not self._leaving:
            following.successor = None  # whoever watches over the door opens it, if all is well

    async def _hand_over(self, following: Following, wish: Wish, outcome: _Outcome) -> str:
        addresses = await self._peers() if wish.to is None else [wish.to]
        answers = await asyncio.gather(*(self._look(address) for address in addresses))
        peers = {a: p for a, p in zip(addresses, answers, strict=True) if p is not None}
        heard = following.members_heard(_HEARD_SECONDS)
        target = choose_target(list(peers.values()), following.vdl, heard, AURORA_QUORUM)
        if isinstance(target, Refuse):
            return f"not begun: {target.sentence}"
        address = next(address for address, peer in peers.items() if peer == target)
        outcome.to = following.successor = target.name
        outcome.sentence = f"hands over to {target.name}"
        run = _Run(self._machine, following, self._client, address, wish.reason)
        return await run.to_its_end()

    async def _look(self, address: AgentAddress) -> Peer | None:
        try:
            return _peer(await self._client.fetch_instance_status(address, _PEER_SECONDS))
        except AgentUnreachable as error:
            log.info("cannot hand over to one that is silent", reason=str(error))
            return None

    async def _watch_stranded(self, following: Following, open_since: float) -> None:
        """Copies above the running term are taken in by the next one (design, §5)."""
        asked = False
        while True:
            await asyncio.sleep(_STRANDED_PERIOD_SECONDS)
            if not following.stranded:
                continue
            open_seconds = time.monotonic() - open_since
            verdict = may_take_in_stranded(open_seconds=open_seconds, asked=asked)
            if isinstance(verdict, Proceed):
                asked, sentence = self.wish(Wish("stranded copies", verdict.sentence))
                log.info("switchover for stranded copies", accepted=asked, sentence=sentence)


class _Run:
    """One switchover to one target, state after state."""

    def __init__(
        self,
        machine: Machine,
        following: Following,
        client: AgentClient,
        target: AgentAddress,
        reason: str,
    ) -> None:
        self._machine = machine
        self._following = following
        self._client = client
        self._target = target
        self._reason = reason
        self._facts = SwitchoverFacts()
        self._state = SwitchoverState.DRAINING
        self._began_at = self._entered_at = time.monotonic()
        self._consenting = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def to_its_end(self) -> str:
        """Walk the states; the sentence with which it ended."""
        try:
            await self._enter("begins")
            while True:
                await self._look()
                seconds = time.monotonic() - self._entered_at
                moved = next_state(self._state, self._facts, seconds)
                if moved is not None:
                    self._state = moved.state
                    self._entered_at = time.monotonic()
                    await self._enter(moved.sentence)
                    if moved.state in (SwitchoverState.HANDED_OVER, SwitchoverState.WITHDRAWN):
                        return f"{moved.state}: {moved.sentence}"
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            if self._keeping is not None:
                self._keeping.cancel()
                await asyncio.wait([self._keeping])

    async def _enter(self, sentence: str) -> None:
        """Do what the state is for."""
        log.info(
            "switchover step",
            state=str(self._state),
            to=self._target.pod,
            milliseconds=round(1000 * (time.monotonic() - self._began_at), 1),
            sentence=sentence,
        )
        match self._state:
            case SwitchoverState.DRAINING:
                self._machine.refuse_new_sessions()
                self._keeping = asyncio.create_task(
                    self._keep_target(), name="the switchover's target"
                )
            case SwitchoverState.ENDING:
                self._machine.shut_door()
            case SwitchoverState.SETTLING:
                end: Lsn = await self._machine.sql.flushed_lsn()
                self._facts = replace(self._facts, log_end=end)
            case SwitchoverState.CONSENTING:
                self._following.consent(True)
                self._consenting.set()
            case _:
                pass

    async def _look(self) -> None:
        """What the state waits for."""
        following, sql = self._following, self._machine.sql
        facts = replace(self._facts, superseded=following.superseded.is_set(), vdl=following.vdl)
        if self._state is SwitchoverState.DRAINING:
            facts = replace(facts, sessions=await sql.end_idle_sessions())
        elif self._state is SwitchoverState.ENDING:
            facts = replace(facts, sessions=await sql.client_sessions())
        self._facts = facts

    async def _keep_target(self) -> None:
        """Ask the target to be ready, then to open, and see that it does not give up."""
        reason = f"switchover: {self._reason}"
        try:
            for soon in (True, False):
                answer = await self._client.open(self._target, OpenAsk(reason=reason, soon=soon))
                if not answer.accepted:
                    return self._lose(answer.sentence)
                if soon:
                    await self._consenting.wait()
        except AgentUnreachable as error:
            return self._lose(str(error))
        answered_at = time.monotonic()
        while True:
            await asyncio.sleep(_TARGET_PERIOD_SECONDS)
            try:
                status = await self._client.fetch_instance_status(self._target, _PEER_SECONDS)
            except AgentUnreachable as error:
                if time.monotonic() - answered_at > TARGET_SILENT_SECONDS:
                    return self._lose(str(error))
                continue
            answered_at = time.monotonic()
            if status.role not in (InstanceRole.OPENING, InstanceRole.WRITER):
                return self._lose(f"{status.name} is {status.role}: {status.sentence}")

    def _lose(self, sentence: str) -> None:
        self._facts = replace(self._facts, target_lost=f"the target cannot open: {sentence}")


def _peer(status: InstanceStatus) -> Peer:
    return Peer(
        name=status.name,
        healthy=status.healthy,
        can_open=status.can_open,
        opening=status.role is InstanceRole.OPENING,
        applied_lsn=status.applied_lsn,
    )
