"""PostgreSQL, as far as log and acknowledgements go.

A server writes the log of one term and sends it to whoever connects through a slot. It believes
every flush position it is told (rule 1), counts each connection whose name is in its list, and
lets a commit return when four of them are there. A slot serves one connection: while an old one
is not known to be dead, a copy that comes back is refused. Reports keep their order on the way,
and what was sent before a copy hung up still arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import Identity
from aurora_operator.core.quorum import AURORA_QUORUM, volume_durable_lsn
from support.simulation.ledger import offset

if TYPE_CHECKING:
    from support.simulation.copy import Copy


class Connection:
    """A log stream from a server to a copy, seen from both ends."""

    __slots__ = ("closed_here", "closed_there", "copy", "flushed", "identity", "reports", "server")

    def __init__(self, server: Server, copy: Copy, identity: Identity) -> None:
        self.server = server
        self.copy = copy
        self.identity = identity
        self.reports: list[Lsn] = []
        """On their way to the server."""
        self.flushed: Lsn | None = None
        """The last report that the server took."""
        self.closed_here = False
        """The copy hung up; the server may not know yet."""
        self.closed_there = False
        """The server hung up."""


class Server:
    """A writer's PostgreSQL process; another one after each start."""

    def __init__(
        self,
        host: int,
        log: list[int],
        history: TermHistory,
        standbys: tuple[Identity, ...],
    ) -> None:
        self.host = host
        self.log = log
        self.history = history
        self.term = history.last.term
        self.fork = offset(history.last.begin)
        self._terms = [entry.term for entry in history.entries]
        self._begins = [offset(entry.begin) for entry in history.entries]
        self.standbys = standbys
        """The ANY list."""
        self.runs = True
        self.connections: list[Connection] = []

    def accept(
        self, copy: Copy, identity: Identity, start: int, timeline: Term
    ) -> Connection | None:
        """``START_REPLICATION``: refused when the slot is taken, or the branch is another one."""
        taken = any(c.identity == identity for c in self.connections)
        if not self.runs or (taken and "two connections a slot" not in copy.world.flaws):
            return None
        ends = dict(zip(self._terms, (*self._begins[1:], len(self.log)), strict=True))
        if start > ends.get(timeline, -1):
            return None
        connection = Connection(self, copy, identity)
        self.connections.append(connection)
        return connection

    def take_report(self, connection: Connection) -> None:
        """The next report on a connection has arrived."""
        connection.flushed = connection.reports.pop(0)

    def hang_up(self, connection: Connection) -> None:
        """The walsender ends, and its slot is free."""
        connection.closed_there = True
        if connection in self.connections:
            self.connections.remove(connection)

    def wait_for(self, standbys: tuple[Identity, ...]) -> None:
        """Commits wait for any four of these from now on; others' walsenders end (rule 8)."""
        for connection in list(self.connections):
            if connection.identity in self.standbys and connection.identity not in standbys:
                self.hang_up(connection)
        self.standbys = standbys

    def end(self) -> None:
        """The process is gone, with all its connections."""
        self.runs = False
        for connection in self.connections:
            connection.closed_there = True
        self.connections = []

    @property
    def released(self) -> int:
        """Up to where commits return: four of the listed standbys flushed that much."""
        flushed = [
            c.flushed
            for c in self.connections
            if c.flushed is not None and c.identity in self.standbys
        ]
        if len(flushed) < AURORA_QUORUM.write_quorum:
            return 0
        four = volume_durable_lsn(flushed, AURORA_QUORUM)
        return 0 if four is None else offset(four)
