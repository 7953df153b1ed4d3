"""What replication needs of a copy: a place to put log, and a place to serve it from.

The copy itself is ``volume.copy_store``; these are its two seams to this engine, kept so small that
a test can stand in for it.
"""

from __future__ import annotations

from typing import Protocol

from aurora_operator.core.gate import ServePoint
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import Lsn, Term


class CopyLog(Protocol):
    """Takes log. Every call is synchronous: no promise can come between its steps (H10)."""

    def scl(self) -> Lsn:
        """The end of the durable log."""

    def history(self) -> TermHistory:
        """The adopted history; its last term may have no byte yet."""

    def append(self, lsn: Lsn, data: bytes, term: Term) -> None:
        """Put ``data`` of ``term`` at ``lsn``, which must be the end of what was appended."""

    def sync(self) -> None:
        """Make all that was appended durable; the SCL is then its end."""

    def reportable(self, writer_term: Term) -> Lsn | None:
        """What the writer of this term may be told, if anything (rule 1, H7)."""


class LogSource(Protocol):
    """Serves log."""

    def system_identifier(self) -> str:
        """PostgreSQL's name for the database; standbys refuse another one's log."""

    def history(self) -> TermHistory:
        """The history of the own log."""

    def log_start(self) -> Lsn:
        """The first position that is still kept."""

    def serve_point(self) -> ServePoint | None:
        """How far everybody may read: min(VDL, own log), and its term (rule 7)."""

    def why_elsewhere(self) -> str | None:
        """Why whoever reads here, and can go elsewhere, should; ``None``: stay."""

    def uncapped_point(self) -> ServePoint | None:
        """How far a candidate or a copy being filled may read: all of the own log."""

    def read(self, lsn: Lsn, length_bytes: int) -> bytes:
        """At most so many bytes from ``lsn`` on; at least one if the log goes on there."""
