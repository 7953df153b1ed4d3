"""One copy and its acceptor: what the disk holds, and how log comes to it.

``log`` is what a crash keeps, ``unsynced`` what it may lose. A copy takes log of the writer that it
follows, syncs, reports; each may be the last thing it does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aurora_operator.core.copy import (
    CopyRecord,
    CopyState,
    CopyView,
    Promise,
    StreamState,
    may_take_log,
    reportable_lsn,
    silence_limit_seconds,
)
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from support.simulation.ledger import Violated, position
from support.simulation.server import Connection, Server

if TYPE_CHECKING:
    from support.simulation.instance import Instance
    from support.simulation.world import World


class Copy:
    """The durable half of a storage pod, and the stream into it."""

    def __init__(self, world: World, record: CopyRecord, log: list[int]) -> None:
        self.world = world
        self.host = int(record.slot)
        self.slot = record.slot
        self.identity = record.identity
        self.state = CopyState.FULL
        self.up = True
        self.log = log
        """What the disk holds and a crash keeps."""
        self.is_lost = False
        """The disk was lost, and no member has taken its place yet."""
        self.told_at_loss = 0
        """How much had been told to anybody when the disk was lost."""
        self.unsynced: list[int] = []
        self.pages = len(log)
        """How much of the log the page store applied: whole records."""
        self.promised = record.promise.term
        """The highest promise it ever answered, whatever it remembers."""
        self._record: CopyRecord | None = record
        self._view: CopyView | None = None
        self._target: tuple[Instance, Server] | None = None
        self._connection: Connection | None = None
        self.prefix_end = len(log)
        self._heard_at = self._followed_at = 0.0
        self._hung_up_on = False

    # -- what it is ------------------------------------------------------------------------

    def view(self) -> CopyView:
        """The copy as it would describe itself now."""
        streams = self.stream_state() is StreamState.STREAMING and self._connection is not None
        term = self._connection.server.term if streams and self._connection else None
        view = self._view
        if view is None or view.streaming_term != term:
            full = self.state is CopyState.FULL
            view = self._view = CopyView(
                self.identity,
                self.slot,
                self.state,
                self._record if full else None,
                position(len(self.log)) if full else None,
                position(0) if full else None,
                term,
            )
        return view

    def stream_state(self) -> StreamState:
        """What its acceptor sees of the writer."""
        if self._target is None:
            return StreamState.NONE
        if self._hung_up_on:
            return StreamState.CLOSED
        followed_seconds = self.world.now - self._followed_at
        if self.world.now - self._heard_at >= silence_limit_seconds(followed_seconds):
            return StreamState.SILENT
        return StreamState.STREAMING

    @property
    def record(self) -> CopyRecord:
        """What it keeps beside the log, while it is full."""
        assert self._record is not None
        return self._record

    def become(self, promise: Promise, history: TermHistory, log: list[int]) -> None:
        """For a scenario: this is what the disk holds."""
        self.log = list(log)
        self.promised = promise.term
        self.changed(replace(self.record, promise=promise, history=history))

    def strand(self, term: int) -> None:
        """For a scenario: it promised to an attempt that is no more."""
        self.hang_up()
        self.promised = Term(term)
        promise = Promise(self.promised, AttemptId("lost"))
        self.changed(replace(self.record, promise=promise))

    def changed(self, record: CopyRecord | None = None) -> None:
        if record is not None:
            self._record = record
        self._view = None

    def truncate(self, end: int) -> None:
        self.world.note(self.host, "cuts its log at", end)
        if end < self.pages:
            raise Violated(
                f"I2: the page store of {self.identity} applied {self.pages} bytes,"
                f" and its log is cut at {end}"
            )
        self.log = self.log[:end]
        self.changed()
        self.world.check_kept(f"{self.identity} cut its log at {end}")

    def connect(self, instance: Instance, server: Server) -> None:
        network = self.world.network
        if not network.both_ways(self.host, instance.host):
            return
        self._heard_at = self.world.now
        self._hung_up_on = not server.runs
        begin = position(len(self.log))
        term = self.record.history.last_term_before(begin) or Term(1)
        self._connection = server.accept(self, self.identity, len(self.log), term)

    def hears(self) -> bool:
        """Whether the connection lives; takes note when the writer ended it."""
        connection = self._connection
        assert connection is not None
        if not self.world.network.both_ways(self.host, connection.server.host):
            return False
        self._heard_at = self.world.now
        if connection.closed_there:
            self._connection = None
            self.unsynced = []
            self._hung_up_on = True
            return False
        return True

    def receive(self) -> None:
        """Some bytes arrive."""
        connection = self._connection
        assert connection is not None
        server = connection.server
        if "stream survives promise" not in self.world.flaws and not may_take_log(
            self.view(), server.term
        ):
            return
        have = len(self.log) + len(self.unsynced)
        data = server.log[have : have + 1 + int(self.world.chance.random() * 6)]
        if data:
            if server.term < self.promised:
                raise Violated(
                    f"I3: {self.identity} promised term {self.promised} and takes log of term"
                    f" {server.term}"
                )
            self.unsynced += data

    def sync(self) -> None:
        """One fsync of all that was received."""
        if self.unsynced:
            self.log += self.unsynced
            self.unsynced = []
            self.changed()
            self.check_log_term()

    def check_log_term(self) -> None:
        """Rule 2: the term of a log is that of its last durable byte."""
        end = len(self.log)
        believed = self.record.history.last_term_before(position(end))
        written = self.world.ledger.writer_of[self.log[-1]]
        if believed != written:
            raise Violated(
                f"H5/H15: {self.identity} takes byte {end - 1} for term {believed}'s,"
                f" but term {written} wrote it"
            )

    def report(self) -> None:
        """Rule 1: tell the writer what is durable here, if it may be told anything."""
        connection = self._connection
        if connection is None or connection.closed_there:
            return
        view = self.view()
        if "reports before sync" in self.world.flaws:
            view = replace(view, scl=position(len(self.log) + len(self.unsynced)))
        received = position(len(self.log) + len(self.unsynced))
        lsn = reportable_lsn(view, connection.server.term, position(self.prefix_end), received)
        if lsn is not None and (not connection.reports or connection.reports[-1] != lsn):
            connection.reports.append(lsn)

    def hang_up(self) -> None:
        """The acceptor is stopped; the server learns it later, or never."""
        if self._connection is not None:
            self._connection.closed_here = True
        self._connection = None
        self._target = None
        self._hung_up_on = False

    def lose_connection(self, *, server_learns: bool) -> None:
        """The network ends the connection; the acceptor will connect again."""
        connection = self._connection
        if connection is None:
            return
        connection.closed_here = True
        self._connection = None
        self.unsynced = []
        if server_learns:
            connection.server.hang_up(connection)
