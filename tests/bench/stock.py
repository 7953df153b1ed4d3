"""Stock PostgreSQL as others run it: alone, with standbys, with ``pg_receivewal``.

Same programs, same machine, same buffers and log settings as ours. A primary behind receivers runs
with fsync off, as our writer does, because there too the copies are what is durable; a primary
alone or with two standbys runs with fsync on, as everybody runs it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from aurora_operator.engines.postgresql.programs import DEBIAN_BINARIES
from bench.clients import CHECKPOINTS, Target
from support.authority import Authority

HOST = "127.0.30.1"
START_SECONDS = 60.0
COPIES = 6

_SETTINGS = {
    "shared_buffers": "128MB",
    "min_wal_size": "80MB",
    **CHECKPOINTS,
    "jit": "off",
    "max_connections": "500",
    "max_wal_senders": "40",
    "max_worker_processes": "16",
    "max_replication_slots": "40",
    "wal_keep_size": "512MB",
    "shared_preload_libraries": "pg_stat_statements",
    "wal_level": "replica",
    "hot_standby_feedback": "off",
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "logging_collector": "off",
    "ssl": "on",
}
_ACCESS = "host all all all trust\nhost replication all all trust\n"


def wait_until(what: str, check: Callable[[], bool]) -> None:
    """Wait until ``check`` is true; errors of a server that starts count as not yet."""
    deadline = time.monotonic() + START_SECONDS
    seen: object = None
    while True:
        try:
            if check():
                return
        except psycopg.Error as error:
            seen = error
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {START_SECONDS} s; last error: {seen}")
        time.sleep(0.02)


@dataclass
class Stock:
    """All stock servers and receivers of one run; ``stop`` ends them."""

    base: Path
    authority: Authority
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _port: int = 6000

    def __post_init__(self) -> None:
        self.base.mkdir()
        self.authority.issue(self.base / "tls", "instance", "stock", ip=HOST)
        self._template = self.base / "template"
        words = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        words += ["--locale=C", "--data-checksums", "--auth=trust", "--username=postgres"]
        subprocess.run(
            [DEBIAN_BINARIES / "initdb", "-D", self._template, *words],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def primary(self, name: str, **settings: str) -> Target:
        """A primary with pgbench's tables."""
        data = self.base / name
        shutil.copytree(self._template, data, copy_function=shutil.copy)
        data.chmod(0o700)
        target = self._start(name, data, settings)
        target.fill()
        return target

    def standby(self, name: str, primary: Target) -> Target:
        """A standby with fsync on, which streams from ``primary`` over TLS."""
        data = self.base / name
        words: list[Any] = [
            DEBIAN_BINARIES / "pg_basebackup",
            "-D",
            data,
            "-R",
            "-c",
            "fast",
            "--no-sync",
        ]
        subprocess.run([*words, "-d", self._conninfo(primary, name)], check=True)
        target = self._start(name, data, {"primary_conninfo": self._conninfo(primary, name)})
        self._wait_streaming(primary, name)
        return target

    def receiver(self, folder: str, name: str, primary: Target) -> None:
        """``pg_receivewal --synchronous`` over TLS, through a slot of its own."""
        directory = self.base / folder
        directory.mkdir()
        words: list[Any] = [DEBIAN_BINARIES / "pg_receivewal", "-D", directory, "--slot", name]
        words += ["-d", self._conninfo(primary, name)]
        subprocess.run([*words, "--create-slot"], check=True)
        with (self.base / f"{folder}.log").open("ab") as output:
            words.append("--synchronous")
            process = subprocess.Popen(words, cwd=directory, stdout=output, stderr=output)
        self.processes.append(process)
        self._wait_streaming(primary, name)

    def demand(self, primary: Target, names: list[str], needed: int) -> None:
        """Have commits wait for any ``needed`` of ``names``."""
        with primary.session() as session:
            value = f"ANY {needed} ({', '.join(names)})"
            session.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{value}'")
            session.execute("SELECT pg_reload_conf()")

        def all_count() -> bool:
            with primary.session() as session:
                query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
                row = session.execute(query).fetchone()
                return row is not None and row[0] == len(names)

        wait_until(f"{value} counts", all_count)

    def stop(self) -> None:
        """Kill everything that was started."""
        for process in self.processes:
            process.send_signal(signal.SIGQUIT)  # to a postmaster: end at once, children too
        for process in self.processes:
            process.wait(START_SECONDS)
        shutil.rmtree(self.base, ignore_errors=True)

    def _start(self, name: str, data: Path, settings: dict[str, str]) -> Target:
        self._port += 1
        values = {**_SETTINGS, "port": str(self._port), "cluster_name": name}
        for key, file in (("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")):
            values[f"ssl_{key}_file"] = str(self.base / "tls" / file)
        lines = [f"{key} = '{value}'\n" for key, value in {**values, **settings}.items()]
        (data / "postgresql.conf").write_text("".join(lines))
        (data / "pg_hba.conf").write_text(_ACCESS)
        with (self.base / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                [DEBIAN_BINARIES / "postgres", "-D", data], stdout=output, stderr=output
            )
        self.processes.append(process)
        target = Target(HOST, self._port, "postgres", "postgres")
        wait_until(f"{name} takes clients", target.answers)
        return target

    def _conninfo(self, primary: Target, name: str) -> str:
        return (
            f"host={primary.host} port={primary.port} user=postgres application_name={name}"
            " sslmode=require"
        )

    def _wait_streaming(self, primary: Target, name: str) -> None:
        def streams() -> bool:
            query = (
                "SELECT 1 FROM pg_stat_replication"
                f" WHERE application_name = '{name}' AND state = 'streaming'"
            )
            with primary.session() as session:
                return session.execute(query).fetchone() is not None

        wait_until(f"{name} streams from {primary.port}", streams)
