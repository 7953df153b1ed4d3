"""Signatures first; the bodies follow within the hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import Identity


@dataclass(frozen=True, slots=True)
class ReplayFacts:
    """Where a standby is."""

    in_recovery: bool
    received_lsn: Lsn
    """Flushed by the walreceiver, never less than what is replayed (T2)."""
    replayed_lsn: Lsn
    receiver_streaming: bool


@dataclass(frozen=True, slots=True)
class WriterFacts:
    """Where a promoted server is."""

    timeline: Term
    flushed_lsn: Lsn
    fork_lsn: Lsn


class Sql:
    """Questions and orders to the local server, as rdsadmin over the socket."""

    def __init__(self, *, socket_directory: Path, port: int = 5432) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def replay_facts(self) -> ReplayFacts:
        raise NotImplementedError

    async def in_recovery(self) -> bool:
        raise NotImplementedError

    async def writer_facts(self) -> WriterFacts:
        """After promotion only."""
        raise NotImplementedError

    async def ensure_slots(self, identities: Sequence[Identity]) -> None:
        """Physical slots of exactly these names, reserved at once; others are dropped."""
        raise NotImplementedError

    async def show(self, name: str) -> str:
        raise NotImplementedError

    async def client_sessions(self) -> int:
        raise NotImplementedError

    async def pending_restart(self) -> tuple[str, ...]:
        raise NotImplementedError
