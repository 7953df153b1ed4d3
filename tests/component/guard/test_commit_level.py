"""I7: no way of asking for less than `on` lets a commit return before its quorum.

Every way is tried on a server whose own configuration says `off`, too. Nobody is exempt.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from component.guard.quorum import (
    MEMBER,
    THE_LIST,
    Copy,
    assert_held,
    begin_insert,
    heard,
    set_list,
    shown,
    start_without_quorum,
    stays,
    wait_waiting,
    waiting,
)
from component.guard.server import AGENT, CLIENT, COPY, SUPERUSER, GuardedServer, wait_until

MakeServer = Callable[[], GuardedServer]

PREPARE = """
CREATE ROLE lax LOGIN;
ALTER ROLE lax SET synchronous_commit = off;
CREATE DATABASE lax;
ALTER DATABASE lax SET synchronous_commit = off;
CREATE TABLE indexed (id int);
ALTER TABLE indexed OWNER TO app;
CREATE PROCEDURE commit_inside() LANGUAGE plpgsql AS
 'BEGIN SET synchronous_commit = off; INSERT INTO kept VALUES (10); COMMIT; END';
CREATE FUNCTION lower_it() RETURNS trigger LANGUAGE plpgsql AS
 'BEGIN PERFORM set_config(''synchronous_commit'', ''off'', false); RETURN NULL; END';
CREATE TABLE watched (id int);
GRANT INSERT ON watched TO PUBLIC;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED
 FOR EACH ROW EXECUTE FUNCTION lower_it();
CREATE FUNCTION with_clause() RETURNS void LANGUAGE sql SET synchronous_commit = off AS
 'INSERT INTO kept VALUES (11)';
BEGIN;
INSERT INTO kept VALUES (12);
PREPARE TRANSACTION 'to-commit';
BEGIN;
INSERT INTO kept VALUES (13);
PREPARE TRANSACTION 'to-roll-back';
"""

INSERT = "INSERT INTO kept VALUES (1)"


@dataclass(frozen=True)
class Way:
    """How a session lowers its level, and the statement whose commit must wait all the same."""

    prepare: tuple[str, ...] = ()
    commit: str = INSERT
    user: str = CLIENT
    over_tcp: bool = True
    database: str = "postgres"
    options: str = ""


OFF = ("SET synchronous_commit = off",)

WAYS = {
    "nothing-asked": Way(),
    "set-off": Way(OFF),
    "set-local-level": Way(("SET synchronous_commit = local",)),
    "set-remote-write": Way(("SET synchronous_commit = remote_write",)),
    "set-remote-apply": Way(("SET synchronous_commit = remote_apply",)),
    "set-local-in-transaction": Way(
        ("BEGIN", "SET LOCAL synchronous_commit = off", INSERT), "COMMIT"
    ),
    "set-local-in-savepoint": Way(
        ("BEGIN", INSERT, "SAVEPOINT s", "SET LOCAL synchronous_commit = off"), "COMMIT"
    ),
    "set-config": Way(("SELECT set_config('synchronous_commit', 'off', false)",)),
    "update-pg-settings": Way(
        ("UPDATE pg_settings SET setting = 'off' WHERE name = 'synchronous_commit'",)
    ),
    "set-then-reset": Way((*OFF, "RESET synchronous_commit")),
    "reset-all": Way(("RESET ALL",)),
    "options-of-the-connection": Way(options="-c synchronous_commit=off"),
    "alter-role": Way(user="lax"),
    "alter-database": Way(database="lax", commit="CREATE TABLE public.t (id int)", user=SUPERUSER),
    "commit-in-procedure": Way(commit="CALL commit_inside()"),
    "commit-in-do-block": Way(
        OFF, "DO $$ BEGIN INSERT INTO kept VALUES (1); COMMIT; PERFORM pg_sleep(0); END $$"
    ),
    "deferred-trigger-at-commit": Way(commit="INSERT INTO watched VALUES (1)"),
    "set-clause-of-function": Way(commit="SELECT with_clause()"),
    "ddl": Way(OFF, "CREATE TABLE made (id int)"),
    "create-index-concurrently": Way(OFF, "CREATE INDEX CONCURRENTLY ON indexed (id)"),
    "create-database": Way(OFF, "CREATE DATABASE other", user=SUPERUSER),
    "prepare-transaction": Way((*OFF, "BEGIN", INSERT), "PREPARE TRANSACTION 'p'"),
    "commit-prepared": Way(OFF, "COMMIT PREPARED 'to-commit'", user=SUPERUSER),
    "rollback-prepared": Way(OFF, "ROLLBACK PREPARED 'to-roll-back'", user=SUPERUSER),
    "superuser": Way(OFF, user=SUPERUSER),
    "agent": Way(OFF, user=AGENT, over_tcp=False),
}


@pytest.fixture(scope="module")
def lax_server(module_server: GuardedServer) -> GuardedServer:
    """Commits wait; the configuration says `off` from the start."""
    with (module_server.data / "postgresql.conf").open("a") as configuration:
        configuration.write("synchronous_commit = off\n")
    start_without_quorum(module_server, PREPARE)
    return module_server


@pytest.mark.parametrize("way", WAYS)
def test_a_lowered_commit_waits(lax_server: GuardedServer, way: str) -> None:
    tried = WAYS[way]
    session = lax_server.connect(
        tried.user,
        over_tcp=tried.over_tcp,
        application_name=way,
        dbname=tried.database,
        options=tried.options,
    )
    for statement in tried.prepare:
        session.execute(statement.encode())
    session.pgconn.send_query(tried.commit.encode())
    wait_waiting(lax_server, way)
    stays(lambda: way in waiting(lax_server), True)


def test_nothing_of_all_that_waits_is_shown(lax_server: GuardedServer) -> None:
    session = lax_server.connect(
        CLIENT, application_name="last", options="-c synchronous_commit=off"
    )
    begin_insert(session, 1)
    wait_waiting(lax_server, "last")
    for number in (1, 10, 11, 12):
        assert not shown(lax_server, number), number


def test_a_commit_with_remote_apply_returns_when_the_log_is_kept(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """Copies never apply, so a commit that insisted on it would wait for ever."""
    server = make_server()
    start_without_quorum(server, synchronous_commit="remote_apply")
    with Copy(server, tmp_path / "copy"), server.connect(CLIENT) as session:
        begin_insert(session, 1)
        assert heard(session) == ["COMMAND_OK"]


def test_a_commit_with_remote_write_waits_until_the_log_is_durable(
    make_server: MakeServer,
) -> None:
    """A copy that wrote and did not fsync yet has promised nothing."""
    server = make_server()
    start_without_quorum(server)
    session = server.connect(
        CLIENT, application_name="waiter", options="-c synchronous_commit=remote_write"
    )
    begin_insert(session, 1)
    wait_waiting(server, "waiter")
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute(
            "SELECT pg_current_wal_flush_lsn(), pg_current_wal_flush_lsn() - '0/0'"
        )
        here, here_bytes = rows.fetchall()[0]
        stream = server.connect(COPY, application_name=MEMBER, replication="true").pgconn
        stream.exec_(f"START_REPLICATION PHYSICAL {here}".encode())

        def acknowledge(flushed_bytes: int) -> None:
            positions = (int(here_bytes), flushed_bytes, 0, 0)
            stream.put_copy_data(struct.pack("!cQQQQB", b"r", *positions, 0))
            stream.flush()

        acknowledge(1)
        wait_until(
            "the server has heard that the log is written",
            lambda: agent.execute("SELECT write_lsn FROM pg_stat_replication").fetchone(),
            lambda seen: seen == (here,),
        )
        assert_held(server, "waiter", 1)
        acknowledge(int(here_bytes))
        assert heard(session) == ["COMMAND_OK"]


RELOADED = {
    "insert": INSERT,
    "prepare": "BEGIN; INSERT INTO kept VALUES (1); PREPARE TRANSACTION 'p'",
    "commit-prepared": "COMMIT PREPARED 'to-commit'",
    "rollback-prepared": "ROLLBACK PREPARED 'to-roll-back'",
}


def test_a_reload_just_before_a_commit_changes_nothing(make_server: MakeServer) -> None:
    """The only way to a lowered level without a commit in between, which would raise it."""
    server = make_server()
    start_without_quorum(server, PREPARE)
    sessions = {name: server.connect(SUPERUSER, application_name=name) for name in RELOADED}
    set_list(server, THE_LIST + "synchronous_commit = off\n")
    for name, session in sessions.items():
        # The signal is there before the statement is, and makes the session reload first.
        os.kill(session.info.backend_pid, signal.SIGHUP)
        session.pgconn.send_query(RELOADED[name].encode())
        wait_waiting(server, name)
    stays(lambda: set(waiting(server)), set(RELOADED))


def test_what_a_client_sees_of_its_setting(lax_server: GuardedServer) -> None:
    """SET is taken, so that dumps and drivers run unchanged; a commit then shows what holds."""
    with lax_server.connect(CLIENT, options="-c synchronous_commit=on") as session:
        with session.transaction():
            session.execute("SET synchronous_commit = off")
            assert session.execute("SHOW synchronous_commit").fetchone() == ("off",)
        assert session.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_commit_that_wrote_nothing_does_not_wait(lax_server: GuardedServer) -> None:
    with lax_server.connect(CLIENT, options="-c statement_timeout=10s") as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
        session.execute("LISTEN news")
        session.execute("NOTIFY news")


def test_autovacuum_does_not_wait(make_server: MakeServer, tmp_path: Path) -> None:
    """It keeps the level that the server gives it: cleaning goes on without a quorum."""
    server = make_server()
    start_without_quorum(
        server,
        autovacuum_naptime="1",
        autovacuum_analyze_threshold="1",
        autovacuum_analyze_scale_factor="0",
    )
    with server.connect(AGENT, over_tcp=False) as agent:
        set_list(server, THE_LIST + "autovacuum = off\n")
        server.reload()
        wait_until(
            "autovacuum is off",
            lambda: agent.execute("SHOW autovacuum").fetchone(),
            lambda seen: seen == ("off",),
        )
        with Copy(server, tmp_path / "copy"):
            agent.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
        set_list(server, THE_LIST)
        server.reload()

        def analyzed() -> tuple[object, ...] | None:
            return agent.execute(
                "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'kept'"
            ).fetchone()

        assert analyzed() == (False,)
        wait_until("the table is analyzed", analyzed, lambda seen: seen == (True,))


def test_without_the_guard_postgresql_obeys(make_server: MakeServer) -> None:
    """So the tests above would see it, if the guard were not there."""
    server = make_server()
    start_without_quorum(server, shared_preload_libraries="")
    with server.connect(CLIENT, options="-c synchronous_commit=off") as session:
        session.execute("INSERT INTO kept VALUES (1)")
