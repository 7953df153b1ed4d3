"""Signatures first; the bodies follow within the hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aurora_operator.core.gate import ServePoint
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn
from aurora_operator.engines.postgresql.endpoint import TlsFiles


class LogSource(Protocol):
    """What a gate needs of a copy."""

    def system_identifier(self) -> str: ...
    def history(self) -> TermHistory: ...
    def log_start(self) -> Lsn: ...
    def serve_point(self) -> ServePoint | None:
        """Rule 7: min(VDL, own log)."""

    def uncapped_point(self) -> ServePoint | None:
        """All of the own log."""

    def read(self, lsn: Lsn, length_bytes: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SessionAsk:
    """Who asks a gate for log."""

    local: bool
    """Over the Unix socket of the own pod."""
    common_name: str | None
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SessionVerdict:
    """What a session may have."""

    granted: bool
    uncapped: bool = False
    batch_seconds: float = 0.0
    sentence: str = ""


class GateServer:
    """Serves a copy's log to walreceivers, never beyond the serve point."""

    def __init__(
        self,
        *,
        source: LogSource,
        judge: Callable[[SessionAsk], SessionVerdict],
        server_version: str = "17.0",
    ) -> None:
        raise NotImplementedError

    async def start(
        self, *, port: int | None, tls: TlsFiles | None, socket: Path | None, host: str = "0.0.0.0"
    ) -> None:
        """Listen on a TLS port, a Unix socket, or both."""
        raise NotImplementedError

    def notify(self) -> None:
        """Call when the VDL moved, the own log moved, or the history changed (T6)."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
