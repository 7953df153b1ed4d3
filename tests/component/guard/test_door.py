"""I4: nobody reads a server that may not answer — the door, from every side, on real PostgreSQL."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from component.guard.server import (
    AGENT,
    CLIENT,
    COPY,
    DEADLINE_SECONDS,
    SUPERUSER,
    GuardedServer,
    wait_until,
)
from component.guard.sessions import POSITIONS, last_words, open_sessions

MakeServer = Callable[[], GuardedServer]
ALL_ENDED_WITHIN_SECONDS = 5.0


def clients_inside(server: GuardedServer) -> list[str]:
    """The names of the client sessions that the server has, the asking one left out."""
    with server.connect(AGENT, over_tcp=False) as agent:
        rows = agent.execute(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND usename <> %s ORDER BY 1",
            [AGENT],
        ).fetchall()
    return [row[0] for row in rows]


def waits(server: GuardedServer, event: str) -> int:
    """How many sessions wait for this."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event = %s"
    with server.connect(AGENT, over_tcp=False) as agent:
        return len(agent.execute(query, [event]).fetchall())


def assert_shut(server: GuardedServer) -> None:
    for user, over_tcp in [(CLIENT, True), (CLIENT, False), (SUPERUSER, True), (AGENT, True)]:
        answer = server.knock(user, over_tcp=over_tcp)
        assert answer.sqlstate == "57P03", (user, over_tcp, answer)
        assert answer.fields["S"] == "FATAL"
        assert answer.fields["D"]
        assert answer.fields["H"]
    assert server.knock(AGENT, over_tcp=False).welcome


def test_a_server_starts_shut(server: GuardedServer) -> None:
    assert_shut(server)


def test_a_byte_left_by_an_earlier_server_does_not_open_the_next(make_server: MakeServer) -> None:
    server = make_server()
    server.open_door()
    server.start()
    assert server.door.read_bytes()[:1] == b"S"
    assert_shut(server)


def test_the_agents_byte_opens_it(server: GuardedServer) -> None:
    server.open_door()
    with server.connect(CLIENT) as session:
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert server.knock(SUPERUSER, over_tcp=False).welcome


@pytest.mark.parametrize("byte", [b"S", b"o", b"0", b"\0", b"\xff", b" "])
def test_any_other_byte_is_shut(server: GuardedServer, byte: bytes) -> None:
    server.open_door()
    server.write_door(byte)
    assert_shut(server)


def remove(door: Path) -> None:
    door.unlink()


def empty(door: Path) -> None:
    door.write_bytes(b"")


def forbid(door: Path) -> None:
    door.chmod(0)


def make_a_folder_of(door: Path) -> None:
    door.unlink()
    door.mkdir()


@pytest.mark.parametrize("spoil", [remove, empty, forbid, make_a_folder_of])
def test_without_a_usable_file_it_stays_shut(
    make_server: MakeServer, spoil: Callable[[Path], None]
) -> None:
    server = make_server()
    spoil(server.door)
    server.start()
    assert_shut(server)
    assert "No client will be let into this server" in server.log.read_text()
    if server.door.is_dir():
        server.door.rmdir()
    elif server.door.exists():
        server.door.chmod(0o600)
    server.door.write_bytes(b"O")
    server.reload()
    assert_shut(server)


def test_without_the_setting_it_stays_shut(make_server: MakeServer) -> None:
    server = make_server()
    server.start(aurora_guard__door_file="")
    server.open_door()
    assert_shut(server)


def test_shutting_ends_every_client_with_57p01(server: GuardedServer) -> None:
    server.open_door()
    with server.connect(AGENT, over_tcp=False) as agent:
        agent.execute("CREATE TABLE inbox (id int)")
        agent.execute("GRANT INSERT ON inbox TO PUBLIC")
        agent.execute("SELECT pg_advisory_lock(1)")
        sessions = open_sessions(server, of_each=2)
        wait_until(
            "all sessions are seen",
            lambda: len(clients_inside(server)),
            lambda count: count == 2 * len(POSITIONS),
        )
        begun = time.monotonic()
        server.shut_door()
        wait_until("every client is gone", lambda: clients_inside(server), lambda seen: not seen)
        took_seconds = time.monotonic() - begun
        ends = [(position, last_words(session)) for position, session in sessions]
        assert ends == [(position, "57P01") for position, _ in sessions]
        assert took_seconds < ALL_ENDED_WITHIN_SECONDS
        assert agent.execute("SELECT 1").fetchone() == (1,), "the agent's own session stays"
    for _, session in sessions:
        session.close()
    assert_shut(server)


def test_shutting_ends_a_client_that_does_not_read(server: GuardedServer) -> None:
    server.open_door()
    session = server.connect(CLIENT)
    session.pgconn.send_query(b"SELECT repeat('x', 1000), generate_series(1, 100000000)")
    wait_until("it is blocked", lambda: waits(server, "ClientWrite"), lambda count: count == 1)
    server.shut_door()
    wait_until("it is gone", lambda: clients_inside(server), lambda seen: not seen)
    session.close()


def test_a_wrong_line_in_the_configuration_does_not_hold_the_door(server: GuardedServer) -> None:
    server.open_door()
    with server.connect(CLIENT) as session:
        with (server.data / "postgresql.auto.conf").open("a") as configuration:
            configuration.write("no_such_setting_at_all = 'x\n")
        server.shut_door()
        wait_until("it is gone", lambda: clients_inside(server), lambda seen: not seen)
        assert last_words(session) == "57P01"
    assert_shut(server)


def test_an_ordinary_reload_ends_nobody(server: GuardedServer) -> None:
    server.open_door()
    with server.connect(CLIENT) as session:
        with (server.data / "postgresql.auto.conf").open("a") as configuration:
            configuration.write("work_mem = '7MB'\n")
        server.reload()
        wait_until(
            "the session has reloaded",
            lambda: session.execute("SHOW work_mem").fetchone(),
            lambda seen: seen == ("7MB",),
        )


class Crowd:
    """Eight clients that connect again and again, and stay, until the door refuses each."""

    def __init__(self, server: GuardedServer) -> None:
        self.inside: list[psycopg.Connection[tuple[object, ...]]] = []
        self._server = server
        self._threads = [threading.Thread(target=self._keep_connecting) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def _keep_connecting(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.inside.append(self._server.connect(CLIENT))
            except psycopg.OperationalError:
                return

    def end(self) -> None:
        for thread in self._threads:
            thread.join(timeout=2 * DEADLINE_SECONDS)
            assert not thread.is_alive(), "a client never met the shut door"
        for session in self.inside:
            session.close()


def test_nobody_slips_in_while_it_shuts(server: GuardedServer) -> None:
    for _ in range(10):
        server.open_door()
        crowd = Crowd(server)
        wait_until("some are in", lambda: len(crowd.inside), lambda count: count >= 16)  # noqa: B023
        server.shut_door()
        wait_until("all are gone", lambda: clients_inside(server), lambda seen: not seen)
        crowd.end()
        assert clients_inside(server) == []


def walsenders(server: GuardedServer) -> list[tuple[object, ...]]:
    with server.connect(AGENT, over_tcp=False) as agent:
        return agent.execute("SELECT pid, state FROM pg_stat_replication ORDER BY pid").fetchall()


def test_copies_stream_through_a_shut_door_and_stay_when_it_shuts(
    server: GuardedServer, tmp_path: Path
) -> None:
    assert server.knock(COPY, replication="true").welcome
    stream = subprocess.Popen(
        [
            *("pg_receivewal", "--no-loop", "--directory", tmp_path, "--username", COPY),
            *("--host", "127.0.0.1", "--port", str(server.port)),
        ],
        stderr=subprocess.PIPE,
    )
    try:
        before = wait_until(
            "the copy streams",
            lambda: walsenders(server),
            lambda seen: [state for _, state in seen] == ["streaming"],
        )
        server.open_door()
        with server.connect(CLIENT):
            server.shut_door()
            wait_until("it is gone", lambda: clients_inside(server), lambda seen: not seen)
        assert walsenders(server) == before
        assert stream.poll() is None
    finally:
        stream.terminate()
        stream.communicate(timeout=DEADLINE_SECONDS)


@pytest.mark.parametrize("byte", [b"O", b"S"])
def test_standby_and_promotion_leave_the_door_as_it_is(
    make_server: MakeServer, byte: bytes
) -> None:
    primary = make_server()
    primary.start()
    standby = make_server()
    subprocess.run(["rm", "-r", standby.data], check=True, timeout=60)
    subprocess.run(
        [
            *("pg_basebackup", "--pgdata", standby.data, "--username", COPY, "--no-sync"),
            *("--host", "127.0.0.1", "--port", str(primary.port), "--checkpoint=fast"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    (standby.data / "standby.signal").touch()
    standby.start(primary_conninfo=f"host=127.0.0.1 port={primary.port} user={COPY}")
    assert_shut(standby)
    standby.write_door(byte)
    session = standby.connect(CLIENT) if byte == b"O" else None

    with standby.connect(AGENT, over_tcp=False) as agent:
        assert agent.execute("SELECT pg_promote(true, 10)").fetchone() == (True,)
        assert agent.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)

    if session is None:
        assert_shut(standby)
    else:
        assert session.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        session.close()
        assert standby.knock(CLIENT).welcome
