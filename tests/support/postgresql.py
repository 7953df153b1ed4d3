"""A small volume in one process, with real PostgreSQL servers around it.

Six copies on a temporary disk, each with its gate and its acceptor; instances and page stores that
are real servers. It stands in for the agents, which are tested elsewhere: what it does by itself is
only to carry positions to the hub's function and the VDL back to the copies.
"""

from __future__ import annotations

import asyncio
import getpass
import itertools
import os
import secrets
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from aurora_operator.core.birth import FORMAT_HISTORY
from aurora_operator.core.copy import Adoption, CopyRecord, Promise, Vdl, position_of
from aurora_operator.core.gate import judge_fill_session, judge_uncapped
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.members import MemberList, MemberVersion
from aurora_operator.core.names import SLOT_COUNT, AttemptId, Identity, Slot, VolumeId
from aurora_operator.core.opening import next_term, skipped_terms
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.vdl import durable_point
from aurora_operator.core.verdicts import Proceed
from aurora_operator.engines.postgresql.acceptor import Acceptor
from aurora_operator.engines.postgresql.birth import Birth
from aurora_operator.engines.postgresql.endpoint import Endpoint, TcpEndpoint, TlsFiles
from aurora_operator.engines.postgresql.gate import GateServer, SessionAsk, SessionVerdict
from aurora_operator.engines.postgresql.guard_door import Door
from aurora_operator.engines.postgresql.leftovers import users_of
from aurora_operator.engines.postgresql.queries import QuestionFailed, Sql, WriterFacts
from aurora_operator.engines.postgresql.relay import (
    ATTEMPT_PARAMETER,
    FILL_PARAMETER,
    TERM_PARAMETER,
    Relay,
)
from aurora_operator.engines.postgresql.server import Server, StopMode
from aurora_operator.engines.postgresql.server_log import Record
from aurora_operator.engines.postgresql.settings import (
    LOG_SOCKET_PORT,
    MEMBERS_FILE,
    Purpose,
    ServerSettings,
    configuration_files,
    members_conf,
    sync_names,
)
from aurora_operator.volume.copy_store import CopyStore
from support.authority import Authority

T = TypeVar("T")

HOST = "127.0.0.1"
DEADLINE_SECONDS = 20.0
_ports = itertools.count(15400)


async def eventually(
    what: str,
    observe: Callable[[], Awaitable[T]],
    wanted: Callable[[T], bool],
    *,
    timeout_seconds: float = DEADLINE_SECONDS,
) -> T:
    """Wait until what is observed is what is wanted; fail with the last thing observed."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        seen: object
        try:
            observed = seen = await observe()
            if wanted(observed):
                return observed
        except (psycopg.Error, QuestionFailed, OSError) as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_seconds} s; last seen: {seen!r}")
        await asyncio.sleep(0.005)


class Copy:
    """A storage pod: one copy, its gate, and its acceptor while it follows a writer."""

    def __init__(self, directory: Path, slot: Slot, tls: TlsFiles) -> None:
        self.slot = slot
        self.identity = Identity(f"s{slot}_test")
        self.pod = f"shop-storage-{slot}"
        self.tls = tls
        self.run = directory / "run"
        self.run.mkdir(parents=True)
        self.disk = directory / "disk"
        self.disk.mkdir()
        self.store = CopyStore.open(self.disk, self.identity, slot)
        self.gate = GateServer(source=self.store, judge=self._judge)
        self.gate_endpoint = TcpEndpoint(HOST, 0, self.pod)
        self.acceptor: Acceptor | None = None
        self.store.on_change(self.gate.notify)

    async def listen(self) -> None:
        """Open the gate, on a port and on the pod's own socket."""
        await self.gate.start(
            host=HOST, port=0, tls=self.tls, socket_path=self.run / f".s.PGSQL.{LOG_SOCKET_PORT}"
        )
        self.gate_endpoint = TcpEndpoint(HOST, self.gate.port, self.pod)

    def follow(self, volume: Volume, writer: Endpoint, term: Term) -> None:
        """Start the acceptor."""
        self.acceptor = Acceptor(
            copy=self.store,
            identity=self.identity,
            system_identifier=volume.system_identifier,
            writer=writer,
            term=term,
            tls=self.tls,
            on_progress=lambda: None,
            on_stream=lambda: None,
            peer_gates=lambda: [c.gate_endpoint for c in volume.copies if c is not self],
        )
        self.acceptor.start()

    async def stop_following(self) -> None:
        """Stop the acceptor, as a promise or the pod's end does."""
        if self.acceptor is not None:
            self.acceptor.stop()
            await self.acceptor.join()
            self.acceptor = None

    def _judge(self, ask: SessionAsk) -> SessionVerdict:
        view = self.store.view()
        term, attempt = ask.parameters.get(TERM_PARAMETER), ask.parameters.get(ATTEMPT_PARAMETER)
        if term is not None and attempt is not None:
            verdict = judge_uncapped(view, Promise(Term(int(term)), AttemptId(attempt)))
        elif FILL_PARAMETER in ask.parameters:
            verdict = judge_fill_session(view, Identity(ask.parameters[FILL_PARAMETER]))
        else:
            return SessionVerdict(True, "a standby", batch_seconds=0.0)
        return SessionVerdict(isinstance(verdict, Proceed), verdict.sentence, uncapped=True)


class Volume:
    """Six copies of a newly born database, and what the hub does for them."""

    def __init__(self, directory: Path, authority: Authority, birth: Birth) -> None:
        self.directory = directory
        self.system_identifier = birth.system_identifier
        self.birth = birth
        self.authority = authority
        self.copies = [self._make_copy(Slot(n)) for n in range(SLOT_COUNT)]
        self.members = MemberList(
            MemberVersion(Term(1), 0), tuple(copy.identity for copy in self.copies)
        )
        self.vdl: Vdl | None = None
        self._in_hub = False
        self.hub_is_silent = False

    def _make_copy(self, slot: Slot) -> Copy:
        pod = f"shop-storage-{slot}"
        tls = TlsFiles(self.authority.issue(self.directory / pod / "tls", "storage", pod))
        return Copy(self.directory / pod, slot, tls)

    async def start(self) -> None:
        """Fill every copy with the log of term 1, and open the gates."""
        log = list(self.birth.log())
        for copy in self.copies:
            copy.store.begin_fill()
            for position, data in log:
                copy.store.append(position, data, Term(1))
            copy.store.sync()
            copy.store.complete_birth(self._birth_record(copy))
            copy.store.on_change(self.beat)
            await copy.listen()

    def _birth_record(self, copy: Copy) -> CopyRecord:
        end = self.birth.log_end
        return CopyRecord(
            volume_id=VolumeId("test"),
            identity=copy.identity,
            slot=copy.slot,
            system_identifier=self.system_identifier,
            promise=Promise(Term(1), AttemptId("birth")),
            history=FORMAT_HISTORY,
            first_record_end=end,
            members=self.members,
            known_vdl=Vdl(Term(1), end),
            scl_floor=end,
        )

    @property
    def term(self) -> Term:
        """The term that is open."""
        assert self.vdl is not None
        return self.vdl.term

    def next_term(self) -> Term:
        """A term that no copy has promised yet."""
        promised = (copy.store.view().promised_term for copy in self.copies)
        return next_term(term for term in promised if term is not None)

    async def close(self) -> None:
        """End acceptors and gates."""
        for copy in self.copies:
            await copy.stop_following()
            await copy.gate.close()
            copy.store.close()

    def beat(self) -> None:
        """What the hub does: positions in, the VDL out to every copy."""
        if self._in_hub or self.hub_is_silent:
            return
        self._in_hub = True
        try:
            positions = [position_of(copy.store.view()) for copy in self.copies]
            records = [copy.store.record for copy in self.copies]
            newest = max((r for r in records if r), key=lambda r: r.history.last.term)
            term = newest.history.last.term
            lsn = durable_point(
                term, newest.first_record_end, positions, self.members, AURORA_QUORUM
            )
            if lsn is not None:
                self.vdl = Vdl(term, lsn)
                for copy in self.copies:
                    copy.store.learn_vdl(self.vdl)
        finally:
            self._in_hub = False

    def promise(self, term: Term, slots: Iterable[int] = range(SLOT_COUNT)) -> Promise:
        """Have copies promise to a new attempt, as a candidate's asks do."""
        promise = Promise(term, AttemptId(secrets.token_hex(8)))
        self.promise_again(promise, slots)
        return promise

    def promise_again(self, promise: Promise, slots: Iterable[int]) -> None:
        """Have stragglers give the promise that others gave before."""
        for slot in slots:
            copy = self.copies[slot]
            stop = copy.acceptor.stop if copy.acceptor is not None else (lambda: None)
            refusal = copy.store.promise(promise, stop)
            assert refusal is None, refusal

    def adopt(
        self,
        promise: Promise,
        facts: WriterFacts,
        chosen: TermHistory,
        writer: Endpoint,
        slots: Iterable[int] = range(SLOT_COUNT),
    ) -> None:
        """Have copies take the new writer's history, and follow it."""
        adoption = Adoption(
            promise=promise,
            history=chosen.extended(promise.term, facts.fork_lsn),
            first_record_end=facts.flushed_lsn,
            members=self.members,
        )
        for slot in slots:
            copy = self.copies[slot]
            follow = copy.store.adopt(adoption)
            assert not hasattr(follow, "sentence"), follow
            copy.follow(self, writer, promise.term)


class LocalServer:
    """A real server of some pod, with the questions that tests ask."""

    purpose = Purpose.INSTANCE

    def __init__(self, name: str, directory: Path, run: Path, tls: TlsFiles) -> None:
        self.name = name
        self.port = next(_ports)
        self.run = run
        self.tls = tls
        self.door: Door | None = None
        self.records: list[Record] = []
        self.server = Server(data=directory / "data", emit=self.records.append)
        self.sql = Sql(socket_directory=self.run, port=self.port)

    @property
    def endpoint(self) -> TcpEndpoint:
        """Where its server listens."""
        return TcpEndpoint(HOST, self.port, self.name)

    def write_settings(self) -> None:
        """Its configuration; the door is shut, if there is one."""
        if self.door is not None:
            self.door.create_shut()
        settings = ServerSettings(
            purpose=self.purpose,
            name=self.name,
            socket_directory=self.run,
            port=self.port,
            listen_addresses=HOST,
            tls=self.tls,
            door=None if self.door is None else self.door.path,
            log_socket_directory=self.run,
            os_user=getpass.getuser(),
            parameters={"shared_buffers": "16MB"},
        )
        self.server.write_files(configuration_files(settings))

    async def waiting_commits(self) -> int:
        """How many sessions wait for copies."""
        rows = await self.sql.rows(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        )
        return int(rows[0][0])

    async def flushed(self) -> Lsn:
        """How far the writer's own log is flushed."""
        return (await self.sql.writer_facts()).flushed_lsn

    async def inserted(self) -> Lsn:
        """Where the writer's next record will begin."""
        rows = await self.sql.rows("SELECT pg_current_wal_insert_lsn()")
        return Lsn.parse(rows[0][0])

    async def rows_of(self, table: str) -> int:
        """How many rows a session here sees."""
        async with await self.connect() as session:
            cursor = await session.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            )
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

    async def replayed(self) -> Lsn:
        """How far this standby has applied."""
        return (await self.sql.replay_facts()).replayed_lsn

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the server without ending it."""
        processes = users_of(self.server.data)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    async def close(self) -> None:
        """End the server."""
        await self.sql.close()
        if self.server.running:
            await self.server.stop(StopMode.IMMEDIATE)

    async def connect(self, **options: Any) -> psycopg.AsyncConnection[Any]:
        """A session as ``rdsadmin`` over the socket."""
        return await psycopg.AsyncConnection.connect(
            host=str(self.run),
            port=self.port,
            user="rdsadmin",
            **{"dbname": "postgres", "autocommit": True, **options},
        )


class Instance(LocalServer):
    """A real server behind a relay: a replica until it is promoted."""

    promise: Promise

    def __init__(self, volume: Volume, name: str, *, guard: bool = False) -> None:
        directory = volume.directory / name
        run = directory / "run"
        run.mkdir(parents=True)
        tls = TlsFiles(volume.authority.issue(directory / "tls", "instance", name))
        super().__init__(name, directory, run, tls)
        self.volume = volume
        self.door = Door(self.run / "door") if guard else None
        first = int(name.rpartition("-")[2])
        self.relay = Relay(
            socket=self.run / f".s.PGSQL.{LOG_SOCKET_PORT}",
            tls=self.tls,
            gates=lambda: [
                volume.copies[(first + n) % SLOT_COUNT].gate_endpoint for n in range(SLOT_COUNT)
            ],
        )

    async def start_replica(self, *, copy_birth: bool = True) -> None:
        """Start as a standby of the relay, by default on the base as it was born."""
        if copy_birth:
            await asyncio.to_thread(shutil.copytree, self.volume.birth.data, self.server.data)
        await self.relay.start()
        self.write_settings()
        self.server.make_standby()
        await self.server.start()

    async def catch_up(self, promise: Promise, copy: Copy) -> None:
        """Take the chosen copy's whole log through the relay, uncapped."""
        wanted = copy.store.scl()
        self.relay.set_uncapped(promise.term, promise.attempt_id, copy.gate_endpoint)
        await eventually(
            f"{self.name} flushed up to {wanted}",
            self.sql.replay_facts,
            lambda facts: facts.received_lsn >= wanted,
        )
        last: list[Lsn] = []

        def is_still(replayed: Lsn) -> bool:
            last.append(replayed)
            return len(last) > 5 and len(set(last[-5:])) == 1

        await eventually(f"replay of {self.name} stands still", self.replayed, is_still)

    async def promote(self, promise: Promise, chosen: TermHistory) -> WriterFacts:
        """Slots, list, promotion; returns what came of it."""
        identities = self.volume.members.identities
        await self.sql.ensure_slots(identities)
        self.server.write_files({MEMBERS_FILE: members_conf(identities)})
        self.server.reload()
        await self.sql.wait_setting("synchronous_standby_names", sync_names(identities))
        self.server.request_promotion(skipped_terms(chosen, promise.term))
        await eventually("promoted", self.sql.in_recovery, lambda recovering: not recovering)
        self.relay.set_capped()
        return await self.sql.writer_facts()

    async def open(self, term: int, slots: Iterable[int] = range(SLOT_COUNT)) -> WriterFacts:
        """Open the volume under ``term``, the way the agent does; returns the writer's facts."""
        slots = list(slots)
        promise = self.volume.promise(Term(term), slots)
        copies = [self.volume.copies[slot] for slot in slots]
        chosen = max(copies, key=lambda c: (c.store.view().log_term or 0, c.store.scl()))
        record = chosen.store.record
        assert record is not None
        history = record.history.truncated(chosen.store.scl())
        await self.catch_up(promise, chosen)
        facts = await self.promote(promise, history)
        self.promise = promise
        self.volume.adopt(promise, facts, history, self.endpoint, slots)
        await eventually(f"VDL of term {term}", self._vdl_term, lambda seen: seen == term)
        return facts

    async def _vdl_term(self) -> int | None:
        return None if self.volume.vdl is None else self.volume.vdl.term

    async def close(self) -> None:
        """End the server and the relay."""
        await super().close()
        await self.relay.close()


class PageStore(LocalServer):
    """The standby of a storage pod, behind the pod's own gate."""

    purpose = Purpose.PAGE_STORE

    def __init__(self, volume: Volume, copy: Copy) -> None:
        super().__init__(copy.pod, copy.run.parent, copy.run, copy.tls)
        self._birth = volume.birth

    async def start(self) -> None:
        """Start on the base as it was born."""
        await asyncio.to_thread(shutil.copytree, self._birth.data, self.server.data)
        self.write_settings()
        self.server.make_standby()
        await self.server.start()


def short_directory() -> Path:
    """A directory for sockets, whose paths must stay short."""
    directory = Path("/tmp") / f"au{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    return directory
