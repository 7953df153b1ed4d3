"""One PostgreSQL server on one data directory, as a child of this process.

Starting, stopping, killing, promoting, and telling that it ended. It restarts nothing by itself:
what an ended server means is for the agent to decide (rule 11). The directory is never handed on
while any process still uses it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from aurora_operator.core.lsn import Term
from aurora_operator.engines.postgresql.history_file import history_file_name
from aurora_operator.engines.postgresql.leftovers import end_users_of
from aurora_operator.engines.postgresql.programs import (
    DEBIAN_BINARIES,
    ControlData,
    control_data,
    environment,
    initdb,
)
from aurora_operator.engines.postgresql.server_log import Emit, ServerLog

_POLL_SECONDS: Final = 0.005
_STATUS_LINE: Final = 7
"""Line of postmaster.pid, counted from 0, in which the postmaster tells its state."""
_READY: Final = "ready"
_LAST_WORDS_SECONDS: Final = 1.0
_REAP_SECONDS: Final = 5.0


class ServerEnded(Exception):
    """The server is not there: it did not start, or it ended; with its last log lines."""


class StopMode(Enum):
    """How a server is stopped, and the signal that says so."""

    FAST = signal.SIGINT
    """Sessions are ended, then a checkpoint: the directory is consistent."""
    IMMEDIATE = signal.SIGQUIT
    """At once; the next start recovers."""


class Server:
    """The server of one data directory. Make one, keep it, start and stop it at will."""

    def __init__(self, *, data: Path, emit: Emit, binaries: Path = DEBIAN_BINARIES) -> None:
        """``emit`` is given each log record of the server, to be printed."""
        self._data = data
        self._binaries = binaries
        self._emit = emit
        self._process: asyncio.subprocess.Process | None = None
        self._log = ServerLog(emit)
        self._reader: asyncio.Task[None] | None = None

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self._data

    @property
    def running(self) -> bool:
        """Whether its postmaster is there, ready or not."""
        return self._process is not None and self._process.returncode is None

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last log lines of the server that runs or ran."""
        return tuple(self._log.last_lines)

    # --- the directory ---

    async def initdb(self) -> None:
        """Make a new database in the empty directory."""
        await initdb(self._binaries, self._data)

    async def control_data(self) -> ControlData:
        """What ``pg_control`` says; exact while the server does not run."""
        return await control_data(self._binaries, self._data)

    def has_data(self) -> bool:
        """Whether there is a database in the directory."""
        return (self._data / "PG_VERSION").exists()

    def write_files(self, files: Mapping[str, str]) -> None:
        """Put configuration files in place, each replaced as a whole."""
        for name, text in files.items():
            temporary = self._data / f"{name}.new"
            temporary.write_text(text)
            temporary.rename(self._data / name)

    def make_standby(self) -> None:
        """At its next start it follows the log; where from is in its settings."""
        (self._data / "standby.signal").touch()

    async def remove_data(self) -> None:
        """End whatever uses the directory, and empty it."""
        await self.kill()
        await asyncio.to_thread(_empty, self._data)

    # --- the process ---

    async def start(self, *, timeout_seconds: float = 60.0, wait_ready: bool = True) -> None:
        """Start; returns when it takes connections, or at once without ``wait_ready``.

        Raises ``ServerEnded`` when it ends instead, ``TimeoutError`` when it does neither. A
        standby is ready when it is consistent, which may need log that is not there yet.
        """
        if self.running:
            raise ServerEnded(f"a server already runs on {self._data}")
        await end_users_of(self._data)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self._log = ServerLog(self._emit)
        self._process = await asyncio.create_subprocess_exec(
            self._binaries / "postgres",
            "-D",
            self._data,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment({"PGDATA": str(self._data)}),
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._reader = asyncio.create_task(
            self._log.read(self._process.stderr), name="read the server's log"
        )
        if wait_ready:
            await self.wait_ready(timeout_seconds=timeout_seconds)

    async def wait_ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until the server that was started takes connections."""
        async with asyncio.timeout(timeout_seconds):
            while self._state() != _READY:
                if not self.running:
                    raise ServerEnded(await self.ended_sentence())
                await asyncio.sleep(_POLL_SECONDS)

    async def wait_exit(self) -> int:
        """Wait until the postmaster has ended; returns its status, negative for a signal."""
        if self._process is None:
            raise ServerEnded(f"no server was started on {self._data}")
        return await self._process.wait()

    async def ended_sentence(self) -> str:
        """Why the server is not there, in its own last words."""
        status = await self.wait_exit()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=_LAST_WORDS_SECONDS)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"PostgreSQL {how}; its last words: " + " | ".join(self.last_lines[-5:])

    def reload(self) -> None:
        """Have it read its configuration, and its clients look at the door."""
        self._signal(signal.SIGHUP)

    async def stop(self, mode: StopMode = StopMode.FAST, *, timeout_seconds: float = 30.0) -> None:
        """Stop it, and be sure that all of it is gone; killed when it takes too long."""
        if self._process is not None and self.running:
            self._signal(mode.value)
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._process.wait()
            except TimeoutError:
                self._emit(
                    {
                        "severity": "WARNING",
                        "message": f"the server did not stop in {timeout_seconds:.0f} s: killed;"
                        " its next start recovers from the log",
                    }
                )
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the postmaster, and to all that still uses its directory."""
        if self._process is not None and self.running:
            self._signal(signal.SIGKILL)
        await end_users_of(self._data)
        if self._process is not None:
            async with asyncio.timeout(_REAP_SECONDS):
                await self._process.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=_LAST_WORDS_SECONDS)
            self._reader.cancel()
            self._reader = None

    def request_promotion(self, skipped_terms: Sequence[Term] = ()) -> None:
        """Tell a standby to become a writer, on the timeline after ``skipped_terms``.

        PostgreSQL takes the first number that has no history file: numbers that no writer ever
        owned get an empty one, and so the timeline equals the term (rule 4, T8).
        """
        for term in skipped_terms:
            (self._data / "pg_wal" / history_file_name(term)).touch()
        (self._data / "promote").touch()
        self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            raise ServerEnded(f"no server runs on {self._data}, so it cannot be told {number.name}")
        os.kill(self._process.pid, number)

    def _state(self) -> str:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return ""
        return lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""


def _empty(directory: Path) -> None:
    if not directory.exists():
        return
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
