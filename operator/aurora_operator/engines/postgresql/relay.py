"""Signatures first; the bodies follow within the hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from aurora_operator.engines.postgresql.endpoint import Endpoint, TlsFiles


class Relay:
    """Unix socket of an instance; pipes its walreceiver to a gate."""

    def __init__(
        self, *, socket: Path, tls: TlsFiles | None, gates: Callable[[], Sequence[Endpoint]]
    ) -> None:
        """``gates`` gives the order of preference; it is asked at every connection."""
        raise NotImplementedError

    async def start(self) -> None:
        raise NotImplementedError

    def set_uncapped(self, term: Term, attempt_id: AttemptId, gate: Endpoint) -> None:
        """From now on only this gate, as the candidate of (term, attempt); drops sessions."""
        raise NotImplementedError

    def set_capped(self) -> None:
        raise NotImplementedError

    @property
    def current_gate(self) -> Endpoint | None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
