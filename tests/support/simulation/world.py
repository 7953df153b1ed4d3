"""One run: a seed, chaos for a while, then peace, in which the volume must recover.

``run`` lets the faults of the seed strike for ``CHAOS_STEPS`` steps. Then all faults end, and
within ``PEACE_STEPS`` exactly one writer must acknowledge new writes (H11). Whatever was ever told
to anybody is checked at the step that tells it, and whatever holds it at each step that removes
something. Time is a number that each step moves on; only decisions about silence look at it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aurora_operator.core.birth import FORMAT_PROMISE
from aurora_operator.core.copy import CopyState, Promise
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, Slot
from support.copies import record, vdl
from support.simulation.attempt import Role
from support.simulation.faults import Faults
from support.simulation.instance import Instance
from support.simulation.ledger import Ledger, Violated, position
from support.simulation.network import OPERATOR, Network
from support.simulation.server import Server
from support.simulation.storage_pod import StoragePod

CHAOS_STEPS = 2500
PEACE_STEPS = 8000
STEP_SECONDS = 0.005
_NOTES = 40


@dataclass(slots=True)
class Tally:
    """What happened in a run, to show that it was not idle."""

    seeds: int = 0
    steps: int = 0
    chosen: int = 0
    openings: int = 0
    acknowledged: int = 0
    restarts: int = 0
    wiped: int = 0
    refills: int = 0
    peace_steps: int = 0

    def add(self, other: Tally) -> None:
        """Sum up."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class World:
    """Six copies, three instances, an operator, and the seed that moves them."""

    def __init__(self, seed: int, flaws: Iterable[str] = ()) -> None:
        self.seed = seed
        self.flaws = frozenset(flaws)
        """Faults of the stand-ins themselves: tests that the simulation finds them."""
        self.chance = random.Random(seed)
        self.now = 0.0
        self.fair = False
        self.steps = 0
        self.tally = Tally(seeds=1)
        self.attempts = self.chosen = self.openings = self.restarts = self.wiped = 0
        self.acknowledged = self.refills = self.identities = 0
        self._notes: deque[tuple[int, int, str, Any]] = deque(maxlen=_NOTES)
        self._writer_of_term: dict[Term, Promise] = {}
        self.ledger = Ledger(self.chance)
        born = self.ledger.new_record(Term(1))
        self.ledger.line = list(born)
        self.network = Network(self.chance)
        self.pods = [
            StoragePod(
                self,
                record(
                    slot,
                    promised=FORMAT_PROMISE,
                    first_record_end=len(born),
                    known=vdl(1, len(born)),
                ),
                list(born),
            )
            for slot in range(6)
        ]
        self.instances = [Instance(self, number) for number in range(3)]
        self.faults = Faults(self)
        self._draw_weather()

    def _draw_weather(self) -> None:
        choice = self.chance.choice
        self.network.lost_share = choice((0.0, 0.02, 0.1))
        self.network.doubled_share = choice((0.0, 0.05, 0.2))
        self.fault_share = choice((0.004, 0.012, 0.03))
        self.rude_share = choice((0.0, 0.02, 0.2))
        """Candidates that go on with pre-votes that are no longer true."""
        self.wish_share = choice((0.02, 0.05, 0.15))
        self.alone = self.chance.random() < 0.4
        """Without an operator: instances find out by themselves."""
        self.wrong_share = choice((0.02, 0.1, 0.5))
        """The operator's asks to open while a writer is well."""
        self.death_share = choice((0.0, 0.05, 0.15))
        self.hidden_share = choice((0.0, 0.3, 0.8))
        """Candidates that do not reach one or two copies for a while."""
        self.early_end_share = choice((0.0, 0.0, 0.02, 0.06))
        """New writers that end before anybody comes in, at each thing they do."""

    # -- running ---------------------------------------------------------------------------

    def run(self, chaos_steps: int = CHAOS_STEPS, peace_steps: int = PEACE_STEPS) -> Tally:
        """The whole run; raises ``Violated`` with the seed and the last events."""
        try:
            for _ in range(chaos_steps):
                self.step()
            if peace_steps:
                self._recover(peace_steps)
        except (Violated, ValueError) as error:
            raise Violated(
                f"seed {self.seed}, step {self.steps}: {error}\n{self.story()}"
            ) from error
        tally = self.tally
        tally.steps = self.steps
        tally.chosen, tally.openings, tally.restarts = self.chosen, self.openings, self.restarts
        tally.acknowledged, tally.wiped = self.acknowledged, self.wiped
        tally.refills = self.refills
        return tally

    def step(self) -> None:
        """Somebody does one thing, or one thing breaks."""
        self.steps += 1
        self.now += STEP_SECONDS
        chance = self.chance.random
        drawn = chance()
        if drawn < self.network.urgency:
            self.network.deliver()
        elif drawn < 0.8:
            pod = self.pods[int(chance() * 6)]
            if not self.network.frozen[pod.host]:
                pod.act()
        elif drawn > 1 - self.fault_share:
            self.faults.strike()
        else:
            instance = self._somebody()
            if not self.network.frozen[instance.host]:
                instance.act()
            self._operate()

    def _somebody(self) -> Instance:
        """Mostly an instance that has something to do."""
        chance = self.chance.random
        busy = [one for one in self.instances if one.role is not Role.REPLICA]
        if busy and chance() < 0.75:
            return busy[int(chance() * len(busy))]
        return self.instances[int(chance() * 3)]

    def _operate(self) -> None:
        """The operator: in chaos it asks anybody for anything."""
        chance = self.chance.random
        if self.alone and self.openings and not self.fair:
            return
        if self.fair:
            if chance() < 0.15:
                self._operate_well()
        elif chance() < self.wish_share and (self.writer() is None or chance() < self.wrong_share):
            instance = self.instances[int(chance() * 3)]
            wish = "restart" if instance.role is Role.STOPPED else "open"
            wish = "hand over" if chance() < 0.03 else wish
            self.network.send(OPERATOR, instance.host, instance.on_wish, wish)

    def _operate_well(self) -> None:
        """No writer: a replica is asked to open, or else an ended writer to restart.

        Without an operator the instances find out by themselves.
        """
        if any(one.role is Role.OPENING for one in self.instances):
            return
        writer = self.writer()
        if writer is None:
            if self.alone and self.openings:
                return
            replicas = [one for one in self.instances if one.role is Role.REPLICA]
            asked = self.chance.choice(replicas or self.instances)
            asked.on_wish("open" if replicas else "restart")

    def writer(self) -> Instance | None:
        """The open writer of the highest term, if any."""
        open_ones = [one for one in self.instances if one.door and one.attempt is not None]
        return max(open_ones, key=lambda one: one.attempt.promise.term, default=None)  # type: ignore[union-attr]

    def _recover(self, peace_steps: int) -> None:
        """H11: once faults end, exactly one writer acknowledges again, and goes on doing so."""
        self.make_fair()
        begun, told = self.steps, len(self.ledger.line)
        while not self.is_well(told + 12):
            self.step()
            if self.steps - begun > peace_steps:
                raise Violated(f"H11: no writer is well {peace_steps} steps after all faults ended")
        self.tally.peace_steps = self.steps - begun

    def make_fair(self) -> None:
        """From now on nothing breaks, and nobody asks wrongly."""
        self.fair = self.network.fair = True
        self.rude_share = self.death_share = self.fault_share = 0.0
        self.hidden_share = self.early_end_share = 0.0
        self.faults.end()

    def is_well(self, told: int) -> bool:
        """One writer, which is open, and has told its clients so much."""
        writers = [one for one in self.instances if one.role is Role.WRITER]
        return (
            len(self.ledger.line) >= told
            and len(writers) == 1
            and writers[0].door
            and writers[0].acknowledged == len(self.ledger.line)
            and self.lost == 0
        )

    # -- what the pods do to the world -----------------------------------------------------

    @property
    def lost(self) -> int:
        """How many disks were lost and are not made up for by a new member."""
        return sum(pod.is_lost for pod in self.pods)

    def listed(self, members: MemberList) -> None:
        """A writer made this list: a new member makes up for the disk that was lost (H8)."""
        for pod in self.pods:
            if pod.is_lost and pod.identity in members and pod.state is CopyState.FULL:
                known = self.ledger.line[: pod.told_at_loss]
                if pod.log[: len(known)] != known:
                    raise Violated(f"H8: {pod.identity} is listed and lacks what was told before")
                pod.is_lost = False
                self.check_kept(f"H8: {pod.identity} is listed")

    def new_identity(self, slot: Slot) -> Identity:
        """An identity that no disk ever had."""
        self.identities += 1
        return Identity(f"s{slot}_{self.identities}")

    def history_of(self, log: list[int]) -> TermHistory:
        """Who wrote these bytes."""
        writers = self.ledger.writer_of
        entries = [TermStart(Term(1), position(0))]
        for end, byte in enumerate(log):
            if writers[byte] != entries[-1].term:
                entries.append(TermStart(writers[byte], position(end)))
        return TermHistory(tuple(entries))

    def dies_before(self, steps: int) -> int:
        """The step before which a pod dies; usually none."""
        if self.chance.random() < self.death_share:
            return int(self.chance.random() * steps)
        return -1

    def claim_term(self, term: Term, promise: Promise) -> None:
        """I3: a term has one writer."""
        other = self._writer_of_term.setdefault(term, promise)
        if other is not promise:
            raise Violated(f"I3: {other} and {promise} both write term {term}")

    def acknowledge(self, instance: Instance, server: Server, end: int) -> None:
        """A commit returned to a client."""
        self.acknowledged += 1
        self.note(instance.host, "acknowledges", end)
        self.tell(server.log, end, server.term, "I1: acknowledged")

    def tell(self, log: list[int], end: int, term: Term, how: str) -> None:
        """Somebody was told or shown this much of a log: four copies must hold it."""
        if self.ledger.tell(log, end, term, how):
            self.check_kept(how)

    def check_kept(self, why: str) -> None:
        """I1, I2, I6: what was told is durable on four copies, less those whose disk was lost."""
        line = self.ledger.line
        end = len(line)
        holders = sum(pod.log[:end] == line for pod in self.pods)
        if holders < 4 - self.lost:
            raise Violated(
                f"{why}: only {holders} copies hold what was told ({end} bytes);"
                f" {self.lost} lost their disk"
            )

    # -- the story -------------------------------------------------------------------------

    def note(self, host: int, what: str, about: object = "") -> None:
        """Remember an event for the failure text."""
        self._notes.append((self.steps, host, what, about))

    def story(self) -> str:
        """The last events, and how the copies stand."""
        names = [str(pod.identity) for pod in self.pods]
        names += [one.name for one in self.instances] + ["operator"]
        lines = [
            f"  {step:5} {names[host]} {what} {about}" for step, host, what, about in self._notes
        ]
        for pod in self.pods:
            if pod.state is CopyState.FULL:
                lines.append(
                    f"  {pod.identity}: promised {pod.record.promise}, {pod.record.history},"
                    f" {len(pod.log)} bytes, {'up' if pod.up else 'down'}"
                )
            else:
                lines.append(f"  {pod.identity}: {pod.state}")
        for one in self.instances:
            lines.append(f"  {one.name}: {one.role}, {one.attempt and one.attempt.promise}")
        return "\n".join(lines)
