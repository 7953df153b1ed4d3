"""A real PostgreSQL 17 with the guard loaded, and a client that sees what the wire says.

The helper of the door's tests: it starts and stops a server in the foreground, writes the door's
byte as an agent would (in place, then SIGHUP to the postmaster), and speaks just enough of the
start-up protocol to read the SQLSTATE of a refusal, which libpq does not give.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from support.waiting import NotYet, wait_for

T = TypeVar("T")

DEADLINE_SECONDS = 15.0
PROTOCOL_VERSION_3 = 196608
PAGE_BYTES, STAMP_AT, HELD_AT = 32, 8, 16
AGENT = "rdsadmin"
CLIENT = "app"
SUPERUSER = "boss"
COPY = "aurora_acceptor"

HBA = """
local all,replication all trust
host  all,replication all 127.0.0.1/32 trust
"""
ROLES = f"""
CREATE ROLE {CLIENT} LOGIN;
CREATE ROLE {SUPERUSER} LOGIN SUPERUSER;
CREATE ROLE {COPY} LOGIN REPLICATION;
"""


def wait_until(what: str, observe: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """Wait until what is observed is what is wanted, and return it."""

    def probe() -> T:
        seen = observe()
        if not wanted(seen):
            raise NotYet(repr(seen))
        return seen

    return wait_for(what, probe, timeout_seconds=DEADLINE_SECONDS, interval_seconds=0.005)


def make_template(folder: Path) -> Path:
    """A data directory with the roles of these tests; servers start from copies of it."""
    data = folder / "template"
    subprocess.run(
        [
            *("initdb", "--pgdata", data, "--username", AGENT, "--no-sync", "--encoding=UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C.UTF-8"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    (data / "pg_hba.conf").write_text(HBA)
    subprocess.run(
        ["postgres", "--single", "-D", data, "-j", "postgres"],
        input=ROLES.replace(";\n", ";\n\n"),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return data


@dataclass(frozen=True)
class Answer:
    """What a server said to a start-up packet: welcome, or an error's fields."""

    welcome: bool
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def sqlstate(self) -> str:
        return self.fields.get("C", "")


class GuardedServer:
    """One server: its folder, its port, its door."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.port = port
        self.sockets = data.parent
        self.door = data.parent / f"door-{port}"
        self.door.write_bytes(b"S".ljust(PAGE_BYTES, b"\0"))
        self.log = data.parent / f"log-{port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: list[psycopg.Connection[tuple[Any, ...]]] = []

    def start(self, **settings: str) -> None:
        """Start and wait until the agent's role is let in, which does not depend on the door."""
        chosen = {
            "port": str(self.port),
            "unix_socket_directories": str(self.sockets),
            "listen_addresses": "127.0.0.1",
            "shared_preload_libraries": "aurora_guard",
            "aurora_guard.door_file": str(self.door),
            "restart_after_crash": "off",
            "wal_level": "replica",
            "fsync": "off",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        words = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(["postgres", "-D", self.data, *words], stderr=log)
        wait_until("the server answers its agent", self._agent_gets_in, lambda seen: seen is None)

    def _agent_gets_in(self) -> str | None:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended:\n{self.log.read_text()}"
        try:
            self.connect(AGENT, over_tcp=False).close()
        except psycopg.OperationalError as error:
            return str(error)
        return None

    def freeze(self) -> None:
        """SIGSTOP for the postmaster and every process of it."""
        for process in self._all():
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT for all of them."""
        for process in self._all():
            os.kill(process, signal.SIGCONT)

    def _all(self) -> list[int]:
        assert self._process is not None
        postmaster = self._process.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def stop(self) -> None:
        """End the server at once; nothing of it is needed any more."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=DEADLINE_SECONDS)
        self._process = None
        for session in self._sessions:
            session.close()
        self._sessions.clear()

    def shut_down_fast(self) -> float:
        """Have the postmaster end the server cleanly; returns the seconds that it took."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=DEADLINE_SECONDS)
        return time.monotonic() - begun

    def reload(self) -> None:
        """What an agent does after it has written the byte."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def write_door(self, byte: bytes) -> None:
        """Write the byte in place, as the mapping demands."""
        door = os.open(self.door, os.O_WRONLY)
        try:
            os.pwrite(door, byte, 0)
        finally:
            os.close(door)

    def write_stamp(self, age_seconds: float) -> None:
        """As a writer's agent: three members last answered so long ago."""
        self.write_stamp_ns(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(age_seconds * 1e9))

    def write_stamp_ns(self, stamp_ns: int) -> None:
        """Write that very moment; 0 is no stamp."""
        page = os.open(self.door, os.O_WRONLY)
        try:
            os.pwrite(page, struct.pack("=q", stamp_ns), STAMP_AT)
        finally:
            os.close(page)

    def held(self) -> tuple[int, float]:
        """How many statements were held so far, and for how many seconds together."""
        count, total_ns = struct.unpack_from("=qq", self.door.read_bytes(), HELD_AT)
        return count, total_ns / 1e9

    def open_door(self) -> None:
        """Let clients in."""
        self.write_door(b"O")

    def shut_door(self) -> None:
        """Send clients away."""
        self.write_door(b"S")
        self.reload()

    def connect(
        self, user: str, *, over_tcp: bool = True, **parameters: str
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """An ordinary client's connection, each statement its own transaction.

        It is closed with the server, at the latest.
        """
        chosen = {
            "host": "127.0.0.1" if over_tcp else str(self.sockets),
            "port": str(self.port),
            "user": user,
            "dbname": "postgres",
            "connect_timeout": "10",
            "sslmode": "disable",
            **parameters,
        }
        session = psycopg.connect(make_conninfo(**chosen), autocommit=True)
        self._sessions.append(session)
        return session

    def knock(self, user: str, *, over_tcp: bool = True, **parameters: str) -> Answer:
        """Send a start-up packet and read the first message of the answer."""
        pairs = {"user": user, "database": "postgres", **parameters}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items()) + b"\0"
        packet = struct.pack("!ii", len(body) + 8, PROTOCOL_VERSION_3) + body
        family = socket.AF_INET if over_tcp else socket.AF_UNIX
        with socket.socket(family, socket.SOCK_STREAM) as wire:
            wire.settimeout(DEADLINE_SECONDS)
            wire.connect(
                ("127.0.0.1", self.port)
                if over_tcp
                else str(self.sockets / f".s.PGSQL.{self.port}")
            )
            wire.sendall(packet)
            with wire.makefile("rb") as stream:
                kind = stream.read(1)
                size = struct.unpack("!i", stream.read(4))[0]
                message = stream.read(size - 4)
        if kind == b"R":
            return Answer(welcome=True)
        assert kind == b"E", f"unexpected message {kind!r} {message!r}"
        parts = [part.decode() for part in message.split(b"\0") if part]
        return Answer(welcome=False, fields={part[0]: part[1:] for part in parts})
