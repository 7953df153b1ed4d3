"""An instance: a replica that becomes a candidate, the writer of a term, and what is left of it.

Its agent's memory ends with its process; what stands beside the data (the mark) does not. Each
life begins with ``judge_start``. Candidates ask, choose, catch up and promote as ``core.opening``
judges; the writer serves the copies with ``next_for_copy`` and opens its door as the real hub
allows. Old writers go on until they learn better.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aurora_operator.core.birth import FORMAT_HISTORY
from aurora_operator.core.copy import SILENT_SECONDS, CopyView, Position, Promise
from aurora_operator.core.following import (
    AskAdopt,
    AskMembers,
    AskPromise,
    WriterFacts,
    next_for_copy,
)
from aurora_operator.core.history import TermHistory
from aurora_operator.core.isolation import out_of_reach, superseded
from aurora_operator.core.lsn import FORMAT_TERM, Term
from aurora_operator.core.members import highest
from aurora_operator.core.names import AttemptId, Identity
from aurora_operator.core.opening import (
    Choice,
    CopyAnswer,
    Opened,
    choose,
    judge_caught_up,
    judge_prevotes,
    judge_promotion,
    next_term,
    skipped_terms,
)
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.restart import Mark, Stopped, judge_restart, judge_start
from aurora_operator.core.verdicts import GiveUp, Proceed, Wait, Wipe
from aurora_operator.volume.hub import Hub
from support.simulation.attempt import Attempt, Role
from support.simulation.handover import Handover
from support.simulation.ledger import Violated, offset, position
from support.simulation.lookout import Lookout
from support.simulation.replacer import Replacer
from support.simulation.server import Server

if TYPE_CHECKING:
    from support.simulation.world import World

_PHASE_SECONDS = {"prevote": 2.0, "promise": 2.0, "catch up": 3.0, "open": 6.0}
_ASK_AGAIN_SECONDS = 0.4
_TAIL_SECONDS = 0.05
_BEAT_SECONDS = 0.1


class Instance:
    """One instance's pod."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.host = 6 + number
        self.name = f"instance-{number}"
        self.boots = 0
        self.role = Role.REPLICA
        self.mark: Mark | None = None
        self.log: list[int] = []
        """The data directory, as far as the log goes."""
        self.timelines = FORMAT_HISTORY
        """Whose log that is, as PostgreSQL knows it."""
        self.history: TermHistory | None = None
        """Of a promoted data directory."""
        self.server: Server | None = None
        self.attempt: Attempt | None = None
        self.facts: WriterFacts | None = None
        self.hub: Hub | None = None
        self.must_hold = 0
        self.door = False
        self.acknowledged = 0
        self.wishes: set[str] = set()
        self.lookout = Lookout(self)
        self.handover: Handover | None = None
        self.views: dict[int, CopyView] = {}
        """What copies told of themselves since they were last asked for something."""
        self._seen: dict[int, CopyView] = {}
        self._beat_at = -1000.0
        self._promised: dict[Identity, Term] = {}
        self._heard_at: dict[Identity, float] = {}

    @property
    def stands_by(self) -> bool:
        """Whether it could open the volume."""
        return self.role is Role.REPLICA and bool(self.log)

    # -- what others ask -------------------------------------------------------------------

    def on_wish(self, what: str) -> None:
        """Somebody asks to open, to restart, or to step down; asking is always harmless."""
        self.wishes.add(what)

    def on_answer(self, attempt: Attempt, phase: str, answer: CopyAnswer) -> None:
        """A copy answered a pre-vote or a promise ask of this attempt."""
        if attempt is not self.attempt:
            return
        record = answer.copy.record
        if phase == attempt.phase:
            attempt.answers[answer.copy.identity] = answer
            if record is not None:
                attempt.seen.append(record.promise.term)
        elif attempt.phase == "open":
            self.views[answer.copy.slot] = self._seen[answer.copy.slot] = answer.copy

    def on_view(self, slot: int, view: CopyView) -> None:
        """A copy described itself."""
        self.views[slot] = self._seen[slot] = view

    def on_tail(self, attempt: Attempt, begin: int, tail: list[int], history: TermHistory) -> None:
        """Log from the chosen copy, through the relay."""
        log = self.log
        if attempt is self.attempt and attempt.phase == "catch up" and begin <= len(log):
            # What was there of an unfinished record is replaced, as by a stream that begins anew.
            self.log = [*log[:begin], *tail, *log[begin + len(tail) :]]
            self.timelines = history

    def on_position(self, told: Position) -> None:
        """A copy told where it stands (hub)."""
        promised = told.promised_term
        attempt = self.attempt
        if promised is None or attempt is None or attempt.phase != "open":
            return
        if promised > self._promised.get(told.identity, 0):
            self._promised[told.identity] = promised
        if promised == attempt.promise.term:
            self._heard_at[told.identity] = self.world.now
        if self.hub is not None:
            self.hub.hear(told)

    # -- one thing of its own accord -------------------------------------------------------

    def act(self) -> None:
        """The agent's loop, and its server's."""
        self.lookout.tell()
        match self.role:
            case Role.REPLICA:
                if "open" in self.wishes or self.lookout.wishes_to_open():
                    self.wishes.clear()
                    self._begin_attempt()
                else:
                    self._follow_gate()
            case Role.OPENING:
                self._advance()
            case Role.WRITER:
                self._be_writer()
            case Role.STOPPED:
                self._be_stopped()

    def begin_life(self) -> None:
        """The agent starts, or its server ended: what is the data good for (rule 11)?"""
        self._end_server()
        self.attempt = self.facts = self.hub = self.handover = None
        self.lookout = Lookout(self)
        self.wishes = set()
        self.views = {}
        found = judge_start(
            self.mark,
            data_present=bool(self.log),
            pod_uid=self.name,
            boot_id=f"boot-{self.boots}",
        )
        if isinstance(found, Stopped):
            self.role = Role.STOPPED
        elif "mark forgotten" in self.world.flaws and self.history is None:
            self.role = Role.REPLICA
        else:
            self.wipe()

    def wipe(self) -> None:
        """Data first, then the mark."""
        self._end_server()
        self.attempt = self.facts = self.hub = self.history = self.mark = self.handover = None
        self.log = []
        self.timelines = FORMAT_HISTORY
        self.role = Role.REPLICA

    def _end_server(self) -> None:
        self.door = False
        if self.server is not None:
            self.server.end()
        self.server = None

    def _follow_gate(self) -> None:
        """A replica takes what some gate serves."""
        ledger = self.world.ledger
        have = ledger.last_record_end(self.log, len(self.log))
        if self.log[:have] != ledger.line[:have]:
            raise Violated(f"I2: the replica {self.name} shows log that nobody may see")
        pod = self.world.pods[int(self.world.chance.random() * 6)]
        if not pod.serves or not self.world.network.both_ways(self.host, pod.host):
            return
        end = pod.serve()
        # A stream begins anew at the start of a segment, so it replaces what came of a record.
        if end > have and pod.log[:have] == self.log[:have]:
            self.log = pod.log[:end]
            self.timelines = pod.record.history.truncated(position(end))

    # -- opening ---------------------------------------------------------------------------

    def _begin_attempt(self) -> None:
        world = self.world
        number = world.attempts
        world.attempts += 1
        self.attempt = Attempt(
            Promise(FORMAT_TERM, AttemptId(f"{self.name}-{number}")), "prevote", world.now
        )
        self.role = Role.OPENING
        self._ask("on_prevote")

    def _ask(self, question: str) -> None:
        attempt = self.attempt
        assert attempt is not None
        attempt.asked_at = self.world.now
        for pod in self.world.pods:
            if pod.identity not in attempt.answers:
                self.world.network.send(self.host, pod.host, getattr(pod, question), self, attempt)

    def _advance(self) -> None:
        attempt = self.attempt
        assert attempt is not None
        if self.world.now - attempt.began_at > _PHASE_SECONDS[attempt.phase]:
            if attempt.phase in ("prevote", "promise"):
                self._be_refused()
            else:
                self._fail("took too long")
            return
        if attempt.phase == "catch up":
            self._beat(attempt)
        match attempt.phase:
            case "prevote":
                self._judge_prevotes(attempt)
            case "promise":
                self._judge_promises(attempt)
            case "catch up":
                self._catch_up(attempt)
            case _:
                self._be_writer()

    def _be_refused(self) -> None:
        self.attempt = None
        self.role = Role.REPLICA
        self.lookout.refusals += 1

    def _fail(self, why: str) -> None:
        self.world.note(self.host, "gives up and wipes:", why)
        self.wipe()

    def _judge_prevotes(self, attempt: Attempt) -> None:
        world = self.world
        verdict = judge_prevotes(list(attempt.answers.values()), AURORA_QUORUM)
        rude = attempt.answers and world.chance.random() < world.rude_share
        if not isinstance(verdict, Proceed) and not rude:
            if world.now - attempt.asked_at > _ASK_AGAIN_SECONDS:
                attempt.answers = {}
                self._ask("on_prevote")
            return
        term = next_term(attempt.seen)
        attempt.promise = replace(attempt.promise, term=term)
        attempt.enter("promise", world.now)
        world.note(self.host, "asks for promises of", attempt.promise)
        if world.chance.random() < world.hidden_share:
            world.faults.hide_copies_from(self.host)
        self._ask("on_promise")

    def _judge_promises(self, attempt: Attempt) -> None:
        world = self.world
        verdict = choose(attempt.promise, list(attempt.answers.values()), AURORA_QUORUM)
        if isinstance(verdict, GiveUp):
            self._be_refused()
        elif isinstance(verdict, Wait):
            if world.now - attempt.asked_at > _ASK_AGAIN_SECONDS:
                self._ask("on_promise")
        else:
            world.chosen += 1
            world.note(self.host, "chooses", verdict.sentence)
            self._write_mark(attempt.promise, opened=False)
            attempt.choice = verdict
            attempt.known = {a.copy.slot: a.copy for a in attempt.answers.values() if a.granted}
            attempt.enter("catch up", world.now)

    def _write_mark(self, promise: Promise, *, opened: bool) -> None:
        self.mark = Mark(promise, self.name, f"boot-{self.boots}", opened)

    def _catch_up(self, attempt: Attempt) -> None:
        choice = attempt.choice
        assert choice is not None
        flushed = len(self.log)
        replayed = self.world.ledger.last_record_end(self.log, flushed)
        verdict = judge_caught_up(
            position(flushed),
            position(replayed),
            replay_stalled=self.world.chance.random() < 0.7,
            choice=choice,
        )
        if isinstance(verdict, Wipe):
            self._fail(verdict.sentence)
        elif isinstance(verdict, Proceed):
            self._promote(attempt, choice, replayed)
        elif flushed < offset(choice.scl) and self.world.now - attempt.asked_at > _TAIL_SECONDS:
            attempt.asked_at = self.world.now
            pod = self.world.pods[choice.slot]
            self.world.network.send(self.host, pod.host, pod.on_tail, self, attempt, flushed)

    def _promote(self, attempt: Attempt, choice: Choice, replayed: int) -> None:
        world, term = self.world, attempt.promise.term
        known = [entry.term for entry in choice.history.entries]
        timeline = Term(max([*known, *skipped_terms(choice.history, term)]) + 1)
        self.history = self.timelines.extended(timeline, position(replayed))
        verdict = judge_promotion(self.history, position(replayed), choice, term)
        if isinstance(verdict, Wipe):
            self._fail(verdict.sentence)
            return
        told = world.ledger.must_hold(term)
        if self.log[: len(told)] != told:
            raise Violated(f"I6: the choice for term {term} lacks what was told: {choice.sentence}")
        world.claim_term(term, attempt.promise)
        self.log = self.log[:replayed] + world.ledger.new_record(term)
        history = choice.history.extended(term, position(replayed))
        end = position(len(self.log))
        self._serve_copies(attempt, WriterFacts(attempt.promise, history, end, choice.members))

    def _serve_copies(self, attempt: Attempt, facts: WriterFacts) -> None:
        """A server runs in the term; copies are asked to follow, and counted."""
        self.facts = facts
        self.hub = Hub(facts, AURORA_QUORUM)
        self.replacer = Replacer(self, facts.members)
        self.must_hold = len(self.log)
        self.acknowledged = self.must_hold
        self.role = Role.OPENING
        self.views = attempt.known
        self._promised = {}
        self._heard_at = {}
        self._seen = {}
        self.attempt = attempt
        attempt.enter("open", self.world.now)
        assert self.history is not None
        self.server = Server(self.host, self.log, self.history, facts.members.identities)
        self.world.note(self.host, "is promoted with", self.history)
        for slot in list(self.views):
            self._attend(facts, slot)

    # -- writer ----------------------------------------------------------------------------

    def _be_writer(self) -> None:
        chance = self.world.chance.random
        attempt, facts, hub, server = self.attempt, self.facts, self.hub, self.server
        assert attempt is not None
        assert facts is not None
        assert hub is not None
        assert server is not None
        over = superseded(attempt.promise.term, self._promised.values(), AURORA_QUORUM)
        over = over or out_of_reach(
            attempt.promise, facts.members, self._seen.values(), AURORA_QUORUM
        )
        if over is not None:
            self._fail(over.sentence)
            return
        self._take_reports(server)
        if self.role is Role.OPENING:
            if chance() < self.world.early_end_share:
                self.world.faults.end_instance(self)
                return
            self._try_to_open(attempt, hub)
        else:
            if "hand over" in self.wishes and self.handover is None:
                self.handover = Handover(self)
            self.wishes = set()
            if self.handover is not None and self.handover.is_over():
                self.handover = None
            self._mind_the_door()
            self._serve_clients(server)
            self.replacer.act()
            facts = self.facts or facts
        self._attend(facts, int(chance() * 6))
        self._beat(attempt)

    def _beat(self, attempt: Attempt) -> None:
        """Tell some copies that this attempt lives, and what it knows to be durable (hub)."""
        now = self.world.now
        if now - self._beat_at >= _BEAT_SECONDS:
            self._beat_at = now
            vdl = None if self.hub is None else self.hub.vdl
            consent = "" if self.handover is None else self.handover.consents_to
            for _ in range(2):
                pod = self.world.pods[int(self.world.chance.random() * 6)]
                self.world.network.send(
                    self.host, pod.host, pod.on_beat, self, attempt.promise, vdl, consent
                )

    def _take_reports(self, server: Server) -> None:
        network, chance = self.world.network, self.world.chance.random
        for connection in list(server.connections):
            if not network.open_way(connection.copy.host, self.host):
                if chance() < 0.01:  # wal_sender_timeout
                    server.hang_up(connection)
            elif connection.reports:
                if chance() < 0.8:
                    server.take_report(connection)
            elif connection.closed_here and chance() < 0.3:
                server.hang_up(connection)

    def _try_to_open(self, attempt: Attempt, hub: Hub) -> None:
        opened = hub.may_open(position(self.must_hold))
        if isinstance(opened, Opened) and self.server is not None:
            self._write_mark(attempt.promise, opened=True)
            self.role = Role.WRITER
            self.door = True
            self.lookout.refusals = 0
            self.world.openings += 1
            self.world.note(self.host, "opens:", opened.sentence)
            self.world.tell(
                self.server.log, self.must_hold, self.server.term, "I4: read from a new writer"
            )

    def _mind_the_door(self) -> None:
        """Rule 12: shut while fewer than three members of the own term are heard."""
        since = self.world.now - SILENT_SECONDS
        heard = sum(heard_at > since for heard_at in self._heard_at.values())
        self.door = heard >= AURORA_QUORUM.read_quorum and self.handover is None

    def _serve_clients(self, server: Server) -> None:
        if not self.door:
            return
        if self.world.chance.random() < 0.5 and len(server.log) < self.acknowledged + 20:
            server.log += self.world.ledger.new_record(server.term)
        released = self.world.ledger.last_record_end(server.log, server.released)
        if released > self.acknowledged:
            self.acknowledged = released
            self.world.acknowledge(self, server, released)

    def _attend(self, facts: WriterFacts, slot: int) -> None:
        """The next thing for one copy (rules 2, 5, 9)."""
        network = self.world.network
        pod = self.world.pods[slot]
        view = self.views.pop(slot, None)
        if view is None:
            network.send(self.host, pod.host, pod.on_status, self)
            return
        step = next_for_copy(facts, view)
        if isinstance(step, AskPromise):
            network.send(self.host, pod.host, pod.on_promise, self, self.attempt)
        elif isinstance(step, AskMembers):
            network.send(self.host, pod.host, pod.on_members, self, facts.promise, step.members)
        elif isinstance(step, AskAdopt):
            network.send(self.host, pod.host, pod.on_adopt, self, self.server, step.adoption)

    # -- an ended writer -------------------------------------------------------------------

    def _be_stopped(self) -> None:
        mark = self.mark
        assert mark is not None
        pod = self.world.pods[int(self.world.chance.random() * 6)]
        self.world.network.send(self.host, pod.host, pod.on_status, self)
        copies = [view for view in self.views.values() if view.record is not None]
        higher = sum((view.promised_term or 0) > mark.promise.term for view in copies)
        if higher >= AURORA_QUORUM.write_quorum:
            self._fail("its term is over")
        elif ("restart" in self.wishes or self.lookout.wishes_to_restart()) and copies:
            members = highest(v.record.members for v in copies if v.record is not None)
            verdict = judge_restart(mark, copies, members, AURORA_QUORUM)
            if isinstance(verdict, Wipe):
                self._fail(verdict.sentence)
            elif isinstance(verdict, Proceed):
                self._restart(mark.promise, copies)
            elif self.world.chance.random() < 0.2:
                self.views = {}

    def _restart(self, promise: Promise, copies: list[CopyView]) -> None:
        self.wishes.clear()
        for copy in copies:
            record = copy.record
            if record is None or record.promise != promise or self.history is None:
                continue
            if record.history.last.term == promise.term:
                if record.history.last != self.history.last:
                    self._fail("it recovered another history than the copies hold")
                    return
                members = highest(v.record.members for v in copies if v.record is not None)
                facts = WriterFacts(promise, record.history, record.first_record_end, members)
                self.log = [*self.log, *self.world.ledger.new_record(promise.term)]
                self.world.restarts += 1
                self._serve_copies(Attempt(promise, "open", self.world.now), facts)
                return
        self._fail("no copy that answers has adopted its term")
