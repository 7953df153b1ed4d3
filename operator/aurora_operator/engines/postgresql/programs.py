"""PostgreSQL's own programs, run to their end: initdb, pg_basebackup, pg_controldata.

Each run has a deadline, is killed when it passes or when the caller is cancelled, and fails with
the last lines that the program said.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint, TlsFiles
from aurora_operator.engines.postgresql.settings import AGENT_ROLE, BASE_ROLE

DEBIAN_BINARIES: Final = Path("/usr/lib/postgresql/17/bin")

_OUTPUT_TAIL_BYTES: Final = 2000
_RATE_KIB_MIN: Final = 32
"""The least that pg_basebackup takes for a rate; the most is a gigabyte a second."""
_PROGRESS: Final = re.compile(r"\s*(\d+)/(\d+) kB")
_LABEL: Final = re.compile(r"START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) \(")


class ProgramFailed(Exception):
    """A program ended with an error, or not in time."""


@dataclass(frozen=True, slots=True)
class ControlData:
    """What pg_controldata says of a data directory."""

    system_identifier: str
    state: str
    checkpoint_lsn: Lsn
    redo_lsn: Lsn
    timeline: Term
    minimum_recovery_lsn: Lsn


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every program: the own one, without other servers' PG settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**inherited, "LC_ALL": "C", "TZ": "UTC", **(extra or {})}


async def run_program(
    arguments: Sequence[str | Path],
    *,
    timeout_seconds: float,
    on_error_line: Callable[[str], None] = lambda _line: None,
) -> str:
    """Run to the end; returns standard output, raises ``ProgramFailed`` with standard error.

    ``on_error_line`` hears each line of the latter as it comes: programs tell their progress there.
    """
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    name = Path(arguments[0]).name
    try:
        async with asyncio.timeout(timeout_seconds):
            assert process.stdout is not None
            assert process.stderr is not None
            output, errors, _ = await asyncio.gather(
                process.stdout.read(), _tail(process.stderr, on_error_line), process.wait()
            )
    except TimeoutError:
        raise ProgramFailed(f"{name} did not end within {timeout_seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        tail = (errors or output)[-_OUTPUT_TAIL_BYTES:].decode(errors="replace").strip()
        raise ProgramFailed(f"{name} ended with {process.returncode}: {tail}")
    return output.decode(errors="replace")


async def _tail(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> bytes:
    """Read to the end, telling each line; the last of it."""
    tail = b""
    while line := await stream.readline():
        on_line(line.decode(errors="replace").rstrip())
        tail = (tail + line)[-_OUTPUT_TAIL_BYTES:]
    return tail


async def initdb(binaries: Path, data: Path, *, timeout_seconds: float = 120.0) -> None:
    """Make a database: UTF8, the builtin C.UTF-8 locale, checksums, superuser ``rdsadmin``."""
    await run_program(
        [
            binaries / "initdb",
            f"--pgdata={data}",
            f"--username={AGENT_ROLE}",
            "--auth=reject",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--data-checksums",
        ],
        timeout_seconds=timeout_seconds,
    )


async def base_backup(
    binaries: Path,
    data: Path,
    *,
    source: TcpEndpoint,
    tls: TlsFiles,
    application_name: str,
    sync: bool,
    timeout_seconds: float = 3600.0,
    bytes_per_second: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Copy a base from a page store, without log: that comes from a gate (T9).

    The source sends no faster than ``bytes_per_second``. ``on_progress`` hears about once a second
    how many bytes came, of about how many.

    The address is resolved here, because libpq verifies the certificate against ``host``, which
    is the pod's short name and need not resolve.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10.0):
        found = await loop.getaddrinfo(source.host, source.port, type=socket.SOCK_STREAM)
    connection = {
        "host": source.server_name,
        "hostaddr": str(found[0][4][0]),
        "port": str(source.port),
        "user": BASE_ROLE,
        "application_name": application_name,
        "sslmode": "verify-full",
        "sslnegotiation": "direct",
        "sslrootcert": str(tls.ca),
        "sslcert": str(tls.certificate),
        "sslkey": str(tls.key),
        "connect_timeout": "5",
    }
    arguments: list[str | Path] = [
        binaries / "pg_basebackup",
        f"--pgdata={data}",
        "--wal-method=none",
        "--checkpoint=fast",
        "--no-manifest",
        "--dbname=" + " ".join(f"{name}='{value}'" for name, value in connection.items()),
    ]
    if not sync:
        arguments.append("--no-sync")
    if bytes_per_second is not None:
        arguments.append(f"--max-rate={max(_RATE_KIB_MIN, bytes_per_second // 1024)}")
    if on_progress is not None:
        arguments.append("--progress")

    def hear(line: str) -> None:
        told = _PROGRESS.match(line)
        if told is not None and on_progress is not None:
            on_progress(int(told[1]) * 1024, int(told[2]) * 1024)

    await run_program(arguments, timeout_seconds=timeout_seconds, on_error_line=hear)


def base_start(data: Path) -> Lsn | None:
    """Where the log begins that a base needs; ``None`` while its label has not come.

    The label is the first file of a base, so this is known long before the base is whole.
    """
    try:
        told = _LABEL.match((data / "backup_label").read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return None
    return None if told is None else Lsn.parse(told[1])


async def control_data(binaries: Path, data: Path) -> ControlData:
    """Read ``pg_control``; right for a server that does not run, a moment old for one that does."""
    text = await run_program([binaries / "pg_controldata", data], timeout_seconds=10.0)
    return parse_control_data(text)


def parse_control_data(text: str) -> ControlData:
    """The fields that matter here; raises ``KeyError`` naming one that is missing."""
    pairs = (line.partition(":") for line in text.splitlines())
    values = {name.strip(): value.strip() for name, _, value in pairs}
    return ControlData(
        system_identifier=values["Database system identifier"],
        state=values["Database cluster state"],
        checkpoint_lsn=Lsn.parse(values["Latest checkpoint location"]),
        redo_lsn=Lsn.parse(values["Latest checkpoint's REDO location"]),
        timeline=Term(int(values["Latest checkpoint's TimeLineID"])),
        minimum_recovery_lsn=Lsn.parse(values["Minimum recovery ending location"]),
    )
