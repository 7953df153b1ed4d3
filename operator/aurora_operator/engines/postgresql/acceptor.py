"""Signatures first; the bodies follow within the hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from aurora_operator.api.messages import StreamState
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import Identity
from aurora_operator.engines.postgresql.endpoint import Endpoint, TlsFiles


class CopyLog(Protocol):
    """What an acceptor needs of a copy."""

    def scl(self) -> Lsn: ...
    def last_term(self) -> Term: ...
    def append(self, lsn: Lsn, data: bytes, term: Term) -> None: ...
    def sync(self) -> None: ...
    def reportable(self, writer_term: Term) -> Lsn | None: ...


class Acceptor:
    """Follows one writer of one term until stopped; make a new one for the next term."""

    def __init__(
        self,
        *,
        copy: CopyLog,
        identity: Identity,
        system_identifier: str,
        writer: Endpoint,
        term: Term,
        tls: TlsFiles | None,
        on_progress: Callable[[], None],
        peer_gates: Callable[[], Sequence[Endpoint]] = tuple,
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the task that follows the writer."""
        raise NotImplementedError

    def stop(self) -> None:
        """At once, in this very call: the connection is aborted, nothing is appended after it."""
        raise NotImplementedError

    async def join(self) -> None:
        """Wait for the task's end after ``stop``."""
        raise NotImplementedError

    def stream_state(self) -> StreamState:
        raise NotImplementedError

    @property
    def streaming(self) -> bool:
        raise NotImplementedError

    @property
    def term(self) -> Term:
        raise NotImplementedError
