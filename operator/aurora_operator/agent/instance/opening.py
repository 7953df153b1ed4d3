"""Opening the volume under a new term: the one way, whatever the occasion.

Creation, failover and coming back after every instance was lost all end here, with a replica that
becomes the writer (rules 2 to 6). What each answer means is judged in ``core.opening``; this module
asks, waits and acts, and every wait has a deadline. An attempt that fails before its mark is
written leaves the replica as it was. One that fails later leaves the mark behind, which says that
the data must be thrown away (rule 4).
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog

from aurora_operator.agent.client import AgentAddress
from aurora_operator.agent.instance.following import Following
from aurora_operator.agent.instance.isolation import let_clients_in
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.agent.instance.mark import MarkFile
from aurora_operator.agent.instance.refounding import NoFourthCopy, make_fourth
from aurora_operator.agent.place import Place
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.convert import answer_from_message, promise_to_ask
from aurora_operator.api.messages import PrevoteAsk, StorageAnswer, WriterAddress
from aurora_operator.core.copy import CopyView, Promise
from aurora_operator.core.following import WriterFacts
from aurora_operator.core.lsn import FORMAT_TERM, Lsn, Term
from aurora_operator.core.names import AttemptId, Identity, InstanceName
from aurora_operator.core.opening import (
    Choice,
    choose,
    judge_caught_up,
    judge_prevotes,
    judge_promotion,
    next_term,
    skipped_terms,
)
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.restart import Mark
from aurora_operator.core.verdicts import GiveUp, Proceed, Wait, Wipe

log = structlog.get_logger()

Result = TypeVar("Result")

_PREVOTE_SECONDS: Final = 3.0
"""Who is asked before the copies know that the writer is gone waits for them so long."""
_PREVOTE_ROUND_SECONDS: Final = 1.0
_PREVOTE_PAUSE_SECONDS: Final = 0.02
_PREVOTE_PAUSE_SECONDS_MAX: Final = 0.2
_STRAGGLER_SECONDS: Final = 0.05
"""How long the last members are heard after four would promise: a term must be above *all* that
was promised, or the copy that promised higher is left out of it."""
_PROMISE_SECONDS: Final = 5.0
_SESSIONS_SECONDS: Final = 5.0
_CATCH_UP_SECONDS: Final = 60.0
_CHOSEN_SILENT_SECONDS: Final = 3.0
"""A chosen copy that is lost means a new term, with whoever is left (rule 4)."""
_PROMOTE_SECONDS: Final = 30.0
_OPEN_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.002


class OpeningRefused(Exception):
    """The attempt ended before anything here changed; the instance is a replica as before."""


class OpeningFailed(Exception):
    """The attempt ended after its mark was written: the data must be thrown away (rule 4)."""


@dataclass(frozen=True)
class OpenedVolume:
    """A writer: its term, and the attendants of its copies, which the caller must stop."""

    promise: Promise
    following: Following
    seconds: float


@dataclass(frozen=True)
class Candidate:
    """What an instance brings to an attempt."""

    place: Place
    machine: Machine
    tier: StorageTier
    marks: MarkFile
    identities: tuple[Identity, ...]
    """The members as they were recorded at birth; the choice brings the list that counts."""
    address: WriterAddress


async def open_volume(
    candidate: Candidate, reason: str, lost: Sequence[Identity] = ()
) -> OpenedVolume:
    """Open the volume with this instance, a running replica, under a new term.

    ``lost`` are members whose disks were recorded as lost for good (rule 10).
    """
    attempt = _Attempt(candidate, reason, lost)
    term = await attempt.gather_prevotes()
    try:
        choice = await attempt.gather_promises(term)
        if choice.survivors:
            choice = await attempt.make_fourth(choice)
        attempt.begin_following(choice)
        await attempt.unless_superseded(attempt.catch_up(choice))
        facts = await attempt.promote(choice)
        return await attempt.unless_superseded(attempt.adopt_and_open(facts))
    except BaseException as error:
        await attempt.abandon()
        if isinstance(error, Exception) and not isinstance(error, OpeningFailed | OpeningRefused):
            raise OpeningFailed(f"{type(error).__name__}: {error}") from error
        raise


class _Attempt:
    """The steps of one attempt, in order."""

    def __init__(self, candidate: Candidate, reason: str, lost: Sequence[Identity]) -> None:
        self._on = candidate
        self._reason = reason
        self._lost = lost
        self._started = time.monotonic()
        self._attempt_id = AttemptId(secrets.token_hex(8))
        self._promise = Promise(Term(0), self._attempt_id)
        self._known: dict[Identity, CopyView] = {}
        self._following: Following | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._replayed = Lsn(0)

    async def gather_prevotes(self) -> Term:
        """Rule 2, without writing: wait until four members would promise; the term to ask for."""
        name = InstanceName(self._on.place.pod)
        seen = [FORMAT_TERM]
        deadline = self._started + _PREVOTE_SECONDS
        pause_seconds = _PREVOTE_PAUSE_SECONDS
        while True:
            ask = PrevoteAsk(candidate=name, seen_term=max(seen))

            async def question(agent: AgentAddress, ask: PrevoteAsk = ask) -> StorageAnswer:
                return await self._on.tier.client.prevote(agent, ask, _PREVOTE_ROUND_SECONDS)

            answers = await self._on.tier.ask(
                question,
                lambda got: isinstance(self._judge_prevotes(got), Proceed),
                _PREVOTE_ROUND_SECONDS,
                linger_seconds=_STRAGGLER_SECONDS,
            )
            seen += [a.status.promise.term for a in answers if a.status.promise is not None]
            verdict = self._judge_prevotes(answers)
            if isinstance(verdict, Proceed):
                self._step("pre-votes", sentence=verdict.sentence)
                return next_term(seen)
            if time.monotonic() > deadline:
                said = "; ".join(a.sentence for a in answers if not a.granted)
                raise OpeningRefused(f"{verdict.sentence}: {said or 'nobody answers'}")
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_seconds)
            pause_seconds = min(2 * pause_seconds, _PREVOTE_PAUSE_SECONDS_MAX)

    async def gather_promises(self, term: Term) -> Choice:
        """Rules 2 and 3: four promises, then the newest log among them."""
        self._promise = Promise(term, self._attempt_id)
        log.info("opening volume", reason=self._reason, term=term, attempt=self._attempt_id)
        self._on.machine.shut_door()
        self._preparing = asyncio.create_task(
            self._on.machine.prepare_promotion(self._on.identities), name="prepare the promotion"
        )
        ask = promise_to_ask(self._promise, InstanceName(self._on.place.pod))

        async def question(agent: AgentAddress) -> StorageAnswer:
            return await self._on.tier.client.promise(agent, ask, _PROMISE_SECONDS)

        answers = await self._on.tier.ask(
            question, lambda got: not isinstance(self._choose(got), Wait), _PROMISE_SECONDS
        )
        verdict = self._choose(answers)
        if not isinstance(verdict, Choice):
            await self._preparing
            await self._on.machine.forget_promotion()
            raise OpeningRefused(verdict.sentence)
        self._known = {
            answer.status.identity: answer_from_message(answer).copy
            for answer in answers
            if answer.granted
        }
        self._step("promises", sentence=verdict.sentence)
        return verdict

    async def make_fourth(self, choice: Choice) -> Choice:
        """Rule 10: with three left, a fourth copy is made of the chosen log before anything else.

        Nothing here changed yet, so what fails leaves a replica.
        """
        log.warning("three copies are left; a fourth is made", sentence=choice.sentence)
        try:
            members, fourth = await make_fourth(self._on.tier, self._promise, choice)
        except NoFourthCopy as error:
            assert self._preparing is not None
            await self._preparing
            await self._on.machine.forget_promotion()
            raise OpeningRefused(str(error)) from error
        self._known[fourth.identity] = fourth
        self._step("a fourth copy is full", sentence=f"the members are {members}")
        return replace(choice, members=members)

    def begin_following(self, choice: Choice) -> None:
        """Rule 4: the mark comes before any byte that the volume may not keep."""
        self._write_mark(opened=False)
        self._following = Following(self._on.tier, self._promise, choice.members, self._on.address)
        self._following.start()

    async def unless_superseded(self, work: Coroutine[None, None, Result]) -> Result:
        """Do ``work``; once three members promised higher it can no longer succeed."""
        assert self._following is not None
        working = asyncio.create_task(work, name="a step of the opening")
        lost = asyncio.create_task(self._following.superseded.wait(), name="wait to be superseded")
        try:
            await asyncio.wait({working, lost}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise OpeningFailed(self._following.why_over)
        finally:
            for task in (working, lost):
                task.cancel()
            await asyncio.wait({working, lost})

    async def catch_up(self, choice: Choice) -> None:
        """Rule 4: no readers, then every chosen byte; replay stands still behind it."""
        machine = self._on.machine
        async with asyncio.timeout(_SESSIONS_SECONDS):
            while await machine.sql.client_sessions() > 0:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_SECONDS)
        self._step("readers are out")
        uncapped = False
        stalled_at: Lsn | None = None
        progress = (Lsn(0), Lsn(0))
        moved_at = time.monotonic()
        deadline = moved_at + _CATCH_UP_SECONDS
        while True:
            facts = await machine.sql.replay_facts()
            stalled = facts.replayed_lsn in (stalled_at, choice.scl)
            verdict = judge_caught_up(
                facts.received_lsn, facts.replayed_lsn, replay_stalled=stalled, choice=choice
            )
            if isinstance(verdict, Proceed):
                self._replayed = facts.replayed_lsn
                self._step("caught up", sentence=verdict.sentence)
                return
            if progress != (progress := (facts.received_lsn, facts.replayed_lsn)):
                moved_at = time.monotonic()
            if isinstance(verdict, Wipe) or time.monotonic() > deadline:
                raise OpeningFailed(verdict.sentence)
            if time.monotonic() - moved_at > _CHOSEN_SILENT_SECONDS:
                raise OpeningFailed(f"{verdict.sentence}, and {choice.identity} gives no more")
            if facts.received_lsn < choice.scl and not uncapped:
                gate = self._on.tier.gate(choice.slot)
                self._step("taking the tail", sentence=verdict.sentence)
                machine.relay.set_uncapped(self._promise.term, self._attempt_id, gate)
                uncapped = True
            stalled_at = facts.replayed_lsn
            await asyncio.sleep(_POLL_SECONDS)

    async def promote(self, choice: Choice) -> WriterFacts:
        """Rule 4: slots and list first; afterwards timeline = term, and no replayed byte lost."""
        machine = self._on.machine
        assert self._preparing is not None
        await self._preparing
        if choice.members.identities != self._on.identities:
            await machine.prepare_promotion(choice.members.identities)
        self._step("slots and list are in place")
        machine.server.request_promotion(skipped_terms(choice.history, self._promise.term))
        async with asyncio.timeout(_PROMOTE_SECONDS):
            while await machine.sql.in_recovery():  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_SECONDS)
        facts = await machine.sql.writer_facts()
        verdict = judge_promotion(facts.history, self._replayed, choice, self._promise.term)
        if isinstance(verdict, Wipe):
            raise OpeningFailed(verdict.sentence)
        self._step("promoted", sentence=verdict.sentence)
        return WriterFacts(
            promise=self._promise,
            history=choice.history.extended(self._promise.term, facts.fork_lsn),
            first_record_end=facts.flushed_lsn,
            members=choice.members,
        )

    async def adopt_and_open(self, facts: WriterFacts) -> OpenedVolume:
        """Rules 5 and 6: copies adopt; clients come in once four hold the term's first record.

        Roles and database are looked at meanwhile, behind the shut door.
        """
        assert self._following is not None
        self._following.follow(facts, self._known)
        async with asyncio.timeout(_OPEN_SECONDS), asyncio.TaskGroup() as both:
            both.create_task(self._on.machine.ensure_database_objects(), name="roles and database")
            opened = await self._following.wait_open(facts.first_record_end)
            self._step("durable", sentence=opened.sentence)
        self._step("roles and database are in place")
        self._write_mark(opened=True)
        let_clients_in(self._following, self._on.machine)
        seconds = time.monotonic() - self._started
        self._step("door open: the volume is open")
        return OpenedVolume(self._promise, self._following, seconds)

    async def abandon(self) -> None:
        """End what the attempt started; the mark stays."""
        self._on.machine.shut_door()
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
        if self._following is not None:
            await self._following.stop()

    def _choose(self, answers: Sequence[StorageAnswer]) -> Choice | Wait | GiveUp:
        told = [answer_from_message(answer) for answer in answers]
        return choose(self._promise, told, AURORA_QUORUM, self._lost)

    def _judge_prevotes(self, answers: Sequence[StorageAnswer]) -> Proceed | Wait:
        told = [answer_from_message(answer) for answer in answers]
        return judge_prevotes(told, AURORA_QUORUM, self._lost)

    def _write_mark(self, *, opened: bool) -> None:
        place = self._on.place
        self._on.marks.write(Mark(self._promise, place.pod_uid, place.boot_id, opened))

    def _step(self, what: str, sentence: str = "") -> None:
        milliseconds = round(1000 * (time.monotonic() - self._started), 1)
        log.info(
            "opening step",
            step=what,
            term=self._promise.term or None,
            milliseconds=milliseconds,
            sentence=sentence,
        )
