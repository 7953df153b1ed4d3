"""Six copies and any number of would-be writers in one process, driven by the real decisions.

Bytes are numbers that exist once, records are one to three of them, and logs may end inside a
record. A seed decides who does what next: attempts begin, promise asks arrive, writers write,
copies receive, sync, report and crash between any two steps, gates learn of old and new VDLs. Old
writers go on as if nothing had happened. After each step one thing is checked: everything that was
ever acknowledged, served by a gate or read from an open writer is one line of records, and every
log that is chosen begins with it.

``Rules`` holds the decisions that are tried. A test puts a wrong one in its place and demands that
some seed finds it out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aurora_operator.core.copy import (
    Adoption,
    CopyView,
    Follow,
    PersistHistory,
    PersistPromise,
    Position,
    SyncLog,
    TruncateLog,
    Vdl,
    decide_adoption,
    decide_promise,
    may_take_log,
    position_of,
)
from aurora_operator.core.following import AskAdopt, AskPromise, WriterFacts, next_for_copy
from aurora_operator.core.gate import ServePoint, serve_point
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity
from aurora_operator.core.opening import Choice, CopyAnswer, choose
from aurora_operator.core.quorum import AURORA_QUORUM, QuorumPolicy, volume_durable_lsn
from aurora_operator.core.vdl import durable_point, implied_vdl, merge_known
from support.copies import at, full, promise


class Violated(AssertionError):
    """Something that somebody was told or shown is not true any more."""


@dataclass
class Rules:
    """The decisions under trial."""

    choose: Callable[..., Any] = choose
    adopt: Callable[[CopyView, Adoption], Any] = decide_adoption
    may_take_log: Callable[[CopyView, Term], bool] = may_take_log
    merge_known: Callable[[Vdl | None, Vdl, Term | None], Vdl | None] = merge_known
    serve_point: Callable[[TermHistory, Lsn, Vdl | None], ServePoint | None] = serve_point
    durable_point: Callable[
        [Term, Lsn, Iterable[Position], MemberList, QuorumPolicy], Lsn | None
    ] = durable_point
    promise_is_durable: bool = True
    promise_closes_stream: bool = True
    reports_before_sync: bool = False
    attempts_keep_their_name: bool = False


@dataclass
class Copy:
    """One copy: its durable state, what it received since, and whom it follows."""

    view: CopyView
    log: list[int]
    unsynced: list[int] = field(default_factory=list)
    following: Attempt | None = None
    promise_before: Any = None

    def synced(self) -> None:
        self.log += self.unsynced
        self.unsynced = []
        self.view = replace(self.view, scl=at(len(self.log)))

    def kept(self, **changes: Any) -> None:
        assert self.view.record is not None
        self.view = replace(self.view, record=replace(self.view.record, **changes))


@dataclass(eq=False)
class Attempt:
    """A candidate, and then the writer of its term, for as long as the run lasts."""

    term: Term
    name: str
    answers: dict[Identity, CopyAnswer] = field(default_factory=dict)
    log: list[int] = field(default_factory=list)
    fork: int = 0
    facts: WriterFacts | None = None
    failed: bool = False
    reported: dict[Identity, Lsn] = field(default_factory=dict)
    positions: dict[Identity, Position] = field(default_factory=dict)


class World:
    """One run."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.chance = random.Random(seed)
        self.rules = rules
        self.record_ends: set[int] = set()
        self.next_byte = 0
        born = self.new_record()
        self.copies = [
            Copy(full(slot, scl=len(born), first_record_end=len(born)), list(born))
            for slot in range(6)
        ]
        self.line = list(born)
        self.told_by_term: dict[int, int] = {}
        self.attempts: list[Attempt] = []
        self.beats: list[Vdl] = []
        self.reachable = set(range(6))
        self.openings = self.acknowledged = self.chosen = 0

    def run(self, steps: int) -> None:
        actions: Sequence[tuple[Callable[[], None], int]] = (
            (self.begin_attempt, 3),
            (self.ask_promises, 12),
            (self.choose, 10),
            (self.attend, 10),
            (self.write, 6),
            (self.stream, 12),
            (self.sync_and_report, 12),
            (self.tell_hub, 8),
            (self.learn, 8),
            (self.ask_peers, 2),
            (self.crash, 3),
            (self.partition, 4),
        )
        names, weights = zip(*actions, strict=True)
        for action in self.chance.choices(names, weights, k=steps):
            action()

    # -- attempts --------------------------------------------------------------------------

    def begin_attempt(self) -> None:
        seen = [c.view.promised_term or Term(1) for c in self.some_copies()]
        term = Term(max(seen, default=Term(1)) + 1)
        name = "same" if self.rules.attempts_keep_their_name else f"attempt-{len(self.attempts)}"
        self.attempts.append(Attempt(term, name))
        if self.chance.random() < 0.5:
            self.partition()

    def ask_promises(self) -> None:
        attempt = self.pick(lambda a: a.facts is None)
        for copy in self.some_copies() if attempt is not None else ():
            assert attempt is not None
            if self.promised(copy, attempt):
                attempt.answers[copy.view.identity] = CopyAnswer(True, copy.view)
            elif copy.view.identity not in attempt.answers:
                attempt.answers[copy.view.identity] = CopyAnswer(False, copy.view)

    def promised(self, copy: Copy, attempt: Attempt) -> bool:
        steps = decide_promise(copy.view, promise(attempt.term, attempt.name))
        if not isinstance(steps, tuple):
            return False
        stop = self.interruption(len(steps))
        if len(steps) > 1 and self.rules.promise_closes_stream:
            copy.following = None
        for number, step in enumerate(steps):
            if number == stop:
                self.crash(copy)
                return False
            if isinstance(step, SyncLog):
                copy.synced()
            elif isinstance(step, PersistPromise):
                assert copy.view.record is not None
                copy.promise_before = copy.view.record.promise
                copy.kept(promise=step.promise)
        return True

    def choose(self) -> None:
        attempt = self.pick(lambda a: a.facts is None)
        if attempt is None:
            return
        asked = promise(attempt.term, attempt.name)
        choice = self.rules.choose(asked, list(attempt.answers.values()), AURORA_QUORUM)
        if not isinstance(choice, Choice):
            return
        copy = self.copies[choice.slot]
        record = copy.view.record
        assert record is not None
        if record.promise != asked or self.chance.random() < 0.1:
            attempt.failed = True
            return
        self.chosen += 1
        caught_up = copy.log[: choice.scl - at(0)]
        fork = self.last_record_end(caught_up)
        told = max((n for t, n in self.told_by_term.items() if t < attempt.term), default=0)
        self.expect(
            caught_up[:told] == self.line[:told], "a choice lacks what was told", attempt.term
        )
        attempt.fork = fork
        attempt.log = caught_up[:fork] + self.new_record()
        attempt.facts = WriterFacts(
            asked,
            choice.history.extended(attempt.term, at(fork)),
            at(len(attempt.log)),
            choice.members,
        )

    def attend(self) -> None:
        """The writer does the next thing for some copies; any may die on the way."""
        attempt = self.pick(lambda a: a.facts is not None)
        if attempt is None or attempt.facts is None:
            return
        for copy in self.some_copies():
            streaming = None if copy.following is None else copy.following.term
            step = next_for_copy(attempt.facts, replace(copy.view, streaming_term=streaming))
            if isinstance(step, AskPromise):
                self.promised(copy, attempt)
            elif isinstance(step, AskAdopt):
                self.adopted(copy, attempt, step.adoption)

    def adopted(self, copy: Copy, attempt: Attempt, asked: Adoption) -> None:
        steps = self.rules.adopt(copy.view, asked)
        if not isinstance(steps, tuple):
            return
        stop = self.interruption(len(steps))
        copy.unsynced = []
        for number, step in enumerate(steps):
            if number == stop:
                self.crash(copy)
                return
            if isinstance(step, TruncateLog):
                copy.log = copy.log[: step.lsn - at(0)]
                copy.view = replace(copy.view, scl=step.lsn)
            elif isinstance(step, PersistHistory):
                copy.kept(
                    history=step.history,
                    first_record_end=step.first_record_end,
                    members=step.members,
                )
            elif isinstance(step, Follow):
                copy.following = attempt

    # -- log -------------------------------------------------------------------------------

    def write(self) -> None:
        attempt = self.pick(lambda a: a.facts is not None)
        if attempt is not None:
            attempt.log += self.new_record()

    def stream(self) -> None:
        for copy in self.some_copies():
            writer = copy.following
            if writer is not None and self.rules.may_take_log(copy.view, writer.term):
                have = len(copy.log) + len(copy.unsynced)
                copy.unsynced += writer.log[have : have + self.chance.randint(1, 5)]

    def sync_and_report(self) -> None:
        for copy in self.some_copies():
            self.reports(copy)

    def reports(self, copy: Copy) -> None:
        writer = copy.following
        if not self.rules.reports_before_sync:
            copy.synced()
        if writer is None or not self.rules.may_take_log(copy.view, writer.term):
            return
        end = len(copy.log) + len(copy.unsynced)
        identity = copy.view.identity
        writer.reported[identity] = max(writer.reported.get(identity, at(0)), at(end))
        four = volume_durable_lsn(writer.reported.values(), AURORA_QUORUM)
        if four is not None and four - at(0) > writer.fork:
            self.acknowledged += 1
            self.tell(writer.log[: four - at(0)], writer.term, "acknowledged")

    # -- volume durable position -----------------------------------------------------------

    def tell_hub(self) -> None:
        for copy in self.some_copies():
            self.tells_hub(copy)

    def tells_hub(self, copy: Copy) -> None:
        writer = copy.following or self.pick(lambda a: a.facts is not None)
        if writer is None or writer.facts is None:
            return
        writer.positions[copy.view.identity] = position_of(copy.view)
        facts = writer.facts
        lsn = self.rules.durable_point(
            writer.term,
            facts.first_record_end,
            writer.positions.values(),
            facts.members,
            AURORA_QUORUM,
        )
        if lsn is not None:
            self.openings += 1
            self.beats.append(Vdl(writer.term, lsn))
            self.tell(writer.log[: lsn - at(0)], writer.term, "read from the open writer")

    def learn(self) -> None:
        for copy in self.some_copies() if self.beats else ():
            self.known(copy, self.chance.choice(self.beats[-8:]))

    def ask_peers(self) -> None:
        own = self.a_copy()
        peers = [c.view for c in self.some_copies() if c is not own]
        vdl = implied_vdl(own.view, peers, AURORA_QUORUM)
        if vdl is not None:
            self.known(own, vdl)

    def known(self, copy: Copy, heard: Vdl) -> None:
        record = copy.view.record
        assert record is not None
        assert copy.view.scl is not None
        copy.kept(known_vdl=self.rules.merge_known(record.known_vdl, heard, copy.view.log_term))
        point = self.rules.serve_point(record.history, copy.view.scl, copy.view.record.known_vdl)  # type: ignore[union-attr]
        if point is not None:
            self.tell(
                copy.log[: point.limit - at(0)], point.term, f"served by {copy.view.identity}"
            )

    # -- faults ----------------------------------------------------------------------------

    def crash(self, copy: Copy | None = None) -> None:
        copy = copy or self.a_copy()
        kept = self.chance.randint(0, len(copy.unsynced))
        copy.unsynced = copy.unsynced[:kept]
        copy.synced()
        copy.following = None
        if not self.rules.promise_is_durable and copy.promise_before is not None:
            assert copy.view.record is not None
            if copy.promise_before.term >= copy.view.record.history.last.term:
                copy.kept(promise=copy.promise_before)

    def partition(self) -> None:
        count = self.chance.choice((4, 4, 4, 5, 6))
        self.reachable = set(self.chance.sample(range(6), count))

    # -- helpers ---------------------------------------------------------------------------

    def tell(self, prefix: list[int], term: Term, how: str) -> None:
        """Whole records of ``prefix`` were shown or acknowledged: they stay on the line."""
        records = prefix[: self.last_record_end(prefix)]
        length = min(len(records), len(self.line))
        self.expect(records[:length] == self.line[:length], f"{how}: not what was told", term)
        if len(records) > len(self.line):
            self.line = records
        self.told_by_term[term] = max(self.told_by_term.get(term, 0), len(records))

    def expect(self, holds: bool, what: str, term: Term) -> None:
        if not holds:
            logs = "; ".join(
                f"{copy.view.identity}: {copy.view.record.history}, {len(copy.log)} bytes"
                for copy in self.copies
                if copy.view.record is not None
            )
            raise Violated(f"{what} (term {term}). Told so far: {len(self.line)} bytes. {logs}")

    def new_record(self) -> list[int]:
        length = self.chance.randint(1, 3)
        record = list(range(self.next_byte, self.next_byte + length))
        self.next_byte += length
        self.record_ends.add(record[-1])
        return record

    def last_record_end(self, log: Sequence[int]) -> int:
        return next((n for n in range(len(log), 0, -1) if log[n - 1] in self.record_ends), 0)

    def interruption(self, steps: int) -> int:
        """The step before which a copy dies; usually none."""
        return self.chance.randrange(steps) if self.chance.random() < 0.1 else -1

    def a_copy(self) -> Copy:
        return self.copies[self.chance.choice(sorted(self.reachable))]

    def some_copies(self) -> list[Copy]:
        """Some of the copies that are reachable at the moment, in any order."""
        often = self.chance.choice((0.3, 0.8, 1.0, 1.0))
        found = [s for s in sorted(self.reachable) if self.chance.random() < often]
        return [self.copies[slot] for slot in self.chance.sample(found, len(found))]

    def pick(self, wanted: Callable[[Attempt], bool]) -> Attempt | None:
        """One of the youngest attempts of a kind; now and then an old one."""
        found = [a for a in self.attempts if not a.failed and wanted(a)]
        if not found:
            return None
        return self.chance.choice(found[-2:] if self.chance.random() < 0.85 else found)
