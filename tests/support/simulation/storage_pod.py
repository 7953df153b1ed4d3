"""A storage pod: it answers asks, serves readers through its gate, and keeps its end of the hub.

It takes the steps that the core decides, may die before any of them, and loses on the way down
what was not synced. The model knows what its disk really holds; the core is only shown a
``CopyView``, as any other pod would see it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aurora_operator.core.copy import (
    SILENT_SECONDS,
    Adoption,
    AnswerPosition,
    CloseStream,
    CopyRecord,
    CopyState,
    CopyView,
    Follow,
    Hold,
    PersistHistory,
    PersistPromise,
    Promise,
    SyncLog,
    TruncateLog,
    Vdl,
    decide_adoption,
    decide_members,
    decide_prevote,
    decide_promise,
    hold_prevote,
    position_of,
)
from aurora_operator.core.detection import Sight, Standing, misses_writer
from aurora_operator.core.gate import candidate_serve_point, judge_uncapped, serve_point
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, InstanceName
from aurora_operator.core.opening import CopyAnswer
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.vdl import implied_vdl, merge_known
from aurora_operator.core.verdicts import Proceed, Refuse
from support.simulation.copy import Copy
from support.simulation.ledger import offset, position
from support.simulation.lookout import STALE_SECONDS
from support.simulation.replacer import Refill, Replacer
from support.simulation.server import Server

if TYPE_CHECKING:
    from support.simulation.attempt import Attempt
    from support.simulation.instance import Instance
    from support.simulation.world import World


class StoragePod(Copy):
    """One slot of the volume."""

    def __init__(self, world: World, record: CopyRecord, log: list[int]) -> None:
        super().__init__(world, record, log)
        self._saved_vdl = record.known_vdl
        self._promise_before = record.promise
        self._up_since = -1000.0
        self._peers: dict[int, CopyView] = {}
        self._hold: Hold | None = None
        self._beat_at = -1000.0
        self._consent = ("", -1000.0)
        self.refill: Refill | None = None
        self._watchers: dict[str, tuple[Standing | None, float]] = {}

    @property
    def serves(self) -> bool:
        """Whether anybody may read here at all."""
        return self.up and self.state is CopyState.FULL

    @property
    def _newest_adopted(self) -> Term:
        return self.record.history.last.term

    # -- asks ------------------------------------------------------------------------------

    def on_prevote(self, asker: Instance, attempt: Attempt) -> None:
        """Rule 2: nothing is written."""
        if not self.up:
            return
        view, now = self.view(), self.world.now
        consented = self._consent[0] == asker.name and now - self._consent[1] < SILENT_SECONDS
        verdict = decide_prevote(
            view,
            self.stream_state(),
            beat_silent_seconds=now - self._beat_at,
            up_seconds=now - self._up_since,
            consented=consented,
        )
        if isinstance(verdict, Proceed):
            hold = hold_prevote(self._hold, InstanceName(asker.name), now)
            if isinstance(hold, Refuse):
                verdict = hold
            else:
                self._hold = hold
        answer = CopyAnswer(isinstance(verdict, Proceed), view)
        self.world.network.send(self.host, asker.host, asker.on_answer, attempt, "prevote", answer)

    def on_promise(self, asker: Instance, attempt: Attempt) -> None:
        """Rule 2: the steps, as one unless the pod dies."""
        if not self.up:
            return
        steps = decide_promise(self.view(), attempt.promise)
        answer = CopyAnswer(False, self.view())
        stop = self.world.dies_before(4)
        for number, step in enumerate(steps if isinstance(steps, tuple) else ()):
            if number == stop:
                self.crash()
                return
            if isinstance(step, CloseStream) and "stream survives promise" not in self.world.flaws:
                self.hang_up()
            elif isinstance(step, SyncLog):
                self.sync()
            elif isinstance(step, PersistPromise):
                self._promise_before = self.record.promise
                self.changed(replace(self.record, promise=step.promise))
                self.world.note(self.host, "promises", step.promise)
            elif isinstance(step, AnswerPosition):
                answer = CopyAnswer(True, self.view())
        if answer.granted and self._record is not None:
            self.promised = max(self.promised, self._record.promise.term)
        self.world.network.send(self.host, asker.host, asker.on_answer, attempt, "promise", answer)

    def on_watch(self, asker: Instance, standing: Standing | None) -> None:
        """An instance says whether it could open, and hears what this copy sees (design, 5)."""
        if not self.up:
            return
        now = self.world.now
        self._watchers[asker.name] = (standing, now)
        standings = tuple(
            note
            for note, heard_at in self._watchers.values()
            if note is not None and now - heard_at < STALE_SECONDS
        )
        verdict = misses_writer(
            self.view(),
            self.stream_state(),
            beat_silent_seconds=now - self._beat_at,
            up_seconds=now - self._up_since,
        )
        misses = isinstance(verdict, Proceed)
        sight = Sight(self.slot, misses, verdict.sentence, standings)
        asker.lookout.on_sight(sight)

    def on_adopt(self, asker: Instance, server: Server, asked: Adoption) -> None:
        """Rule 5: cut, history, follow; each durable before the next."""
        if not self.up:
            return
        steps = decide_adoption(self.view(), asked)
        if not isinstance(steps, tuple):
            return
        target = self._target
        if target is not None and target[1] is server:
            return
        stop = self.world.dies_before(len(steps))
        self.hang_up()
        self.unsynced = []
        for number, step in enumerate(steps):
            if number == stop:
                self.crash()
                return
            if isinstance(step, TruncateLog):
                self.truncate(offset(step.lsn))
            elif isinstance(step, PersistHistory):
                self.changed(
                    replace(
                        self.record,
                        history=step.history,
                        first_record_end=step.first_record_end,
                        members=step.members,
                    )
                )
                self.check_log_term()
            elif isinstance(step, Follow):
                self.prefix_end = offset(step.start_lsn)
                self._target = (asker, server)
                self._heard_at = self._followed_at = self.world.now
                self._hung_up_on = False
        self.world.note(self.host, "adopts", asked.history)

    def on_status(self, asker: Instance | StoragePod) -> None:
        """``GET status``."""
        if self.up:
            self.world.network.send(self.host, asker.host, asker.on_view, self.slot, self.view())

    def on_look(self, asker: Replacer, look: int) -> None:
        """The writer looks at all pods; only the answer to this look says anything."""
        if self.up:
            self.world.network.send(self.host, asker.host, asker.on_view, look, self.view())

    def on_members(self, asker: Instance, writer: Promise, asked: MemberList) -> None:
        """Rule 8: keep the list that the holder of the promise changed."""
        if not self.up:
            return
        members = decide_members(self.view(), writer, asked)
        if isinstance(members, MemberList):
            self.changed(replace(self.record, members=members))
            self.world.network.send(self.host, asker.host, asker.on_view, self.slot, self.view())

    def on_refill(self, writer: Promise, identity: Identity) -> None:
        """Rule 9: fill this disk as a new copy, if the peers say that nothing here counts."""
        if not self.up:
            return
        if self.refill is not None:
            if writer.term >= self.refill.writer.term:
                self.refill.writer = writer
            return
        refill = Refill(self, writer, identity)
        if refill.learn() is None or (self.serves and self.identity == identity):
            return
        if self.state is CopyState.FULL:
            self.wipe()
            return
        self.log, self.pages, self.unsynced = [], 0, []
        self.identity, self.state, self.refill = identity, CopyState.FILLING, refill
        self.changed()
        self.world.note(self.host, "is being filled as", identity)

    def refilled(self, record: CopyRecord) -> None:
        """The record is written: the copy is full, and has promised as the writer did."""
        self.state, self.refill = CopyState.FULL, None
        self.promised = max(self.promised, record.promise.term)
        self._saved_vdl = record.known_vdl
        self._promise_before = record.promise
        self.changed(record)
        self.pages = self.world.ledger.last_record_end(self.log, len(self.log))
        self.prefix_end = len(self.log)
        self.check_log_term()

    def on_view(self, slot: int, view: CopyView) -> None:
        """A peer's answer, for the mesh."""
        self._peers[slot] = view

    def on_tail(self, asker: Instance, attempt: Attempt, begin: int) -> None:
        """Rule 4: the candidate that holds the promise reads on from ``begin``."""
        if not self.up:
            return
        view = self.view()
        if not isinstance(judge_uncapped(view, attempt.promise), Proceed):
            return
        point = candidate_serve_point(self.record.history, position(len(self.log)))
        if point is not None:
            end = min(offset(point.limit), begin + 1 + int(self.world.chance.random() * 50))
            tail = self.log[begin:end]
            history = self.record.history.truncated(position(end))
            self.world.network.send(
                self.host, asker.host, asker.on_tail, attempt, begin, tail, history
            )

    # -- the acceptor ----------------------------------------------------------------------

    def act(self) -> None:
        """One thing of its own accord."""
        chance = self.world.chance.random
        if not self.up:
            if self.world.fair or chance() < 0.1:
                self.start()
            return
        if self.refill is not None:
            self.refill.act()
        if self.state is not CopyState.FULL:
            return
        drawn = chance()
        if drawn < 0.05:
            self.tell_position()
        elif drawn < 0.1:
            self.ask_peers()
        elif self._target is None:
            return
        elif self._connection is None:
            self.connect(*self._target)
        elif not self.hears():
            return
        else:
            self._pull(drawn)

    def _pull(self, drawn: float) -> None:
        """What the acceptor's loop does; it may stop after each part."""
        if drawn < 0.8:
            self.receive()
        if "reports before sync" in self.world.flaws:
            self.report()
        if drawn > 0.35 and self.world.chance.random() < 0.8:
            self.sync()
        if drawn > 0.4:
            self.report()
        if drawn > 0.6:
            self.tell_position()

    # -- hub, mesh and gate ----------------------------------------------------------------

    def tell_position(self) -> None:
        """To the agent of the writer that it follows."""
        target = self._target
        view = self.view()
        if target is not None:
            asker = target[0]
            self.world.network.send(self.host, asker.host, asker.on_position, position_of(view))

    def on_beat(
        self, asker: Instance, promise: Promise, vdl: Vdl | None, consents_to: str = ""
    ) -> None:
        """A beat of some hub; the answer is the own position."""
        if not self.up or self.state is not CopyState.FULL:
            return
        if promise == self.record.promise:
            self._beat_at = self.world.now
            self._consent = (consents_to, self.world.now)
        if vdl is not None:
            self.learn(vdl)
        self.world.network.send(self.host, asker.host, asker.on_position, position_of(self.view()))

    def ask_peers(self) -> None:
        """The mesh: ask one more, and look at what the answers imply."""
        network = self.world.network
        peer = self.world.pods[int(self.world.chance.random() * 6)]
        if peer is not self:
            network.send(self.host, peer.host, peer.on_status, self)
        if len(self._peers) < 3:
            return
        vdl = implied_vdl(self.view(), self._peers.values(), AURORA_QUORUM)
        if vdl is not None:
            self.learn(vdl)
        if self.world.chance.random() < 0.3:
            self._peers = {}

    def learn(self, heard: Vdl) -> None:
        """Rule 7: take note of a VDL, and let the page store have what it allows."""
        record = self.record
        known = merge_known(record.known_vdl, heard, self.view().log_term)
        if known != record.known_vdl:
            self.changed(replace(record, known_vdl=known))
        if self.world.chance.random() < 0.2:
            self._saved_vdl = known
        self.serve()

    def serve(self) -> int:
        """Rule 7: how much of the log anybody may read here; often it ends inside a record."""
        point = serve_point(self.record.history, position(len(self.log)), self.record.known_vdl)
        if point is None:
            return 0
        end = offset(point.limit)
        whole = self.world.ledger.last_record_end(self.log, end)
        if whole > self.pages:
            self.pages = whole
            self.world.tell(self.log, whole, point.term, f"I2: served by {self.identity}")
        return end

    # -- faults ----------------------------------------------------------------------------

    def crash(self) -> None:
        """The process dies, and its machine's memory with it: of what was not synced, a part."""
        kept = int(self.world.chance.random() * (len(self.unsynced) + 1))
        self.world.note(self.host, "crashes; of what was not synced it keeps", kept)
        self.hang_up()
        self.unsynced = self.unsynced[:kept]
        self.up = False
        if self.refill is not None:
            self.refill = None
            self.state, self.log = CopyState.BLANK, []
            self.changed()
        self._peers = {}
        self._watchers = {}
        self._hold = None
        self._beat_at = -1000.0
        self._consent = ("", -1000.0)
        if self.state is not CopyState.FULL:
            return
        self.sync()
        promise = self.record.promise
        before = self._promise_before
        if "promise not fsynced" in self.world.flaws and before.term >= self._newest_adopted:
            promise = before
        self.changed(replace(self.record, known_vdl=self._saved_vdl, promise=promise))

    def start(self) -> None:
        """The process comes back and reads its disk."""
        self.up = True
        self._up_since = self.world.now

    def wipe(self) -> None:
        """The disk is lost, and replaced by an empty one."""
        self.world.note(self.host, "loses its disk")
        self.hang_up()
        self.state = CopyState.BLANK
        self.log = []
        self.unsynced = []
        self.pages = 0
        self._record = None
        self._view = None
        self.refill = None
        self.is_lost = True
        self.told_at_loss = len(self.world.ledger.line)
        self.world.wiped += 1
