"""The base of a new volume: initdb, roles, and the log that all of it wrote.

It runs once in a cluster's life (rule 13), in slot 0. The server is started alone on a socket,
given its roles, and stopped cleanly: what is left is a consistent base, and a log that runs
without a gap from the first segment to the end of the shutdown checkpoint. That log is term 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aurora_operator.core.lsn import LOG_START, SEGMENT_BYTES, Lsn
from aurora_operator.engines.postgresql.programs import DEBIAN_BINARIES
from aurora_operator.engines.postgresql.queries import Sql
from aurora_operator.engines.postgresql.roles import (
    BIRTH_DATABASES,
    DEFAULT_DATABASE,
    create_extensions,
    create_internal_roles,
)
from aurora_operator.engines.postgresql.server import Server
from aurora_operator.engines.postgresql.server_log import Emit
from aurora_operator.engines.postgresql.settings import (
    MEMBERS_FILE,
    Purpose,
    ServerSettings,
    configuration_files,
    members_conf,
)

PAGE_BYTES: Final = 8192
_LONG_HEADER_BYTES: Final = 40
_SHORT_HEADER_BYTES: Final = 24
_ALIGNMENT: Final = 8
_CHUNK_BYTES: Final = 1024 * 1024
_SHUT_DOWN: Final = "shut down"


class BirthFailed(Exception):
    """The base is not what it must be; remove it and begin again."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A base at rest."""

    system_identifier: str
    data: Path
    log_end: Lsn
    """End of the shutdown checkpoint's record; the next writer's log begins here."""

    def log(self) -> Iterator[tuple[Lsn, bytes]]:
        """The bytes of term 1, from the start of the log to its end."""
        yield from read_log(self.data / "pg_wal", LOG_START, self.log_end)


async def make_base(
    data: Path,
    *,
    socket_directory: Path,
    os_user: str,
    emit: Emit,
    binaries: Path = DEBIAN_BINARIES,
) -> Birth:
    """Make a new database in ``data``, which is emptied first; nothing runs there afterwards."""
    server = Server(data=data, emit=emit, binaries=binaries)
    await server.remove_data()
    await server.initdb()
    settings = ServerSettings(
        purpose=Purpose.BIRTH,
        name="birth",
        socket_directory=socket_directory,
        listen_addresses="",
        os_user=os_user,
    )
    server.write_files({**configuration_files(settings), MEMBERS_FILE: members_conf(())})
    try:
        await server.start()
        await _populate(socket_directory)
        await server.stop()
    finally:
        await server.kill()
    control = await server.control_data()
    if control.state != _SHUT_DOWN:
        raise BirthFailed(f"the new base in {data} is {control.state!r}, not cleanly shut down")
    end = end_of_record(data / "pg_wal", control.checkpoint_lsn)
    return Birth(control.system_identifier, data, end)


async def _populate(socket_directory: Path) -> None:
    for database in BIRTH_DATABASES:
        connection = Sql(socket_directory=socket_directory, database=database)
        try:
            if database == DEFAULT_DATABASE:
                await create_internal_roles(connection)
            await create_extensions(connection)
        finally:
            await connection.close()


def end_of_record(log_directory: Path, start: Lsn) -> Lsn:
    """Where the record that begins at ``start`` ends, padding included.

    A record may run over page boundaries; each page begins with a header that is not part of it.
    """
    length = b"".join(data for _, data in read_log(log_directory, start, start.advanced(4)))
    (left,) = struct.unpack("<I", length)
    position = start
    while left > 0:
        in_page = position % PAGE_BYTES
        if in_page == 0:
            position = position.advanced(_header_bytes(position))
            continue
        step = min(left, PAGE_BYTES - in_page)
        position = position.advanced(step)
        left -= step
    return Lsn(-(-position // _ALIGNMENT) * _ALIGNMENT)


def _header_bytes(page: Lsn) -> int:
    return _LONG_HEADER_BYTES if page % SEGMENT_BYTES == 0 else _SHORT_HEADER_BYTES


def read_log(log_directory: Path, start: Lsn, end: Lsn) -> Iterator[tuple[Lsn, bytes]]:
    """Bytes of timeline 1 from ``start`` to ``end``, in pieces, from the server's own files."""
    position = start
    while position < end:
        segment = position // SEGMENT_BYTES
        per_file = 0x1_0000_0000 // SEGMENT_BYTES
        name = f"{1:08X}{segment // per_file:08X}{segment % per_file:08X}"
        offset = position % SEGMENT_BYTES
        wanted = min(end - position, SEGMENT_BYTES - offset, _CHUNK_BYTES)
        with (log_directory / name).open("rb") as file:
            file.seek(offset)
            data = file.read(wanted)
        if len(data) != wanted:
            raise BirthFailed(f"{name} is shorter than a segment; the new base is of no use")
        yield position, data
        position = position.advanced(len(data))
