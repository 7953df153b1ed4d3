"""Signatures first; the bodies follow within the hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aurora_operator.core.lsn import Lsn, Term


@dataclass(frozen=True, slots=True)
class ControlData:
    """What pg_controldata says."""

    system_identifier: str
    state: str
    checkpoint_lsn: Lsn
    redo_lsn: Lsn
    timeline: Term
    minimum_recovery_lsn: Lsn


class Server:
    """One PostgreSQL server on one data directory, a child of this process."""

    def __init__(
        self,
        *,
        data: Path,
        socket_directory: Path,
        port: int = 5432,
        binaries: Path,
        emit: Callable[[Mapping[str, object]], None],
    ) -> None:
        """``emit`` is given each log line of the server as a mapping, to be printed as JSON."""
        raise NotImplementedError

    async def initdb(self, *, timeout_seconds: float = 60) -> None:
        raise NotImplementedError

    async def backup_from(self, source: object, *, timeout_seconds: float = 3600) -> None:
        """pg_basebackup from a page store into the (emptied) data directory."""
        raise NotImplementedError

    def write_settings(self, files: Mapping[str, str]) -> None:
        """Files of settings.py by name, replaced atomically."""
        raise NotImplementedError

    def make_standby(self) -> None:
        """standby.signal; where to stream from is in the settings."""
        raise NotImplementedError

    async def start(self, *, timeout_seconds: float = 60, wait_ready: bool = True) -> None:
        raise NotImplementedError

    async def stop(self, mode: str = "fast", *, timeout_seconds: float = 30) -> None:
        raise NotImplementedError

    async def kill(self) -> None:
        """SIGKILL to the postmaster and everything that has the data directory as its own."""
        raise NotImplementedError

    def reload(self) -> None:
        raise NotImplementedError

    def request_promotion(self, skipped_terms: tuple[Term, ...] = ()) -> None:
        """Write stub histories (T8) and tell the postmaster to promote."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        raise NotImplementedError

    async def wait_exit(self) -> int:
        """Returns the exit status of the postmaster when it ended."""
        raise NotImplementedError

    @property
    def last_lines(self) -> tuple[str, ...]:
        raise NotImplementedError

    async def control_data(self) -> ControlData:
        raise NotImplementedError

    async def remove(self) -> None:
        """End what uses the data directory and delete its contents."""
        raise NotImplementedError
