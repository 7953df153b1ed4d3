"""Signatures first; the bodies follow within the hour."""

from __future__ import annotations

from pathlib import Path


class Door:
    """The byte that lets clients in; the guard library in the server reads it."""

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    def create_shut(self) -> None:
        """Before the server starts: the file exists and says shut."""
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def shut(self) -> None:
        """Only the byte; the caller then has the server reload (SIGHUP) so that sessions end."""
        raise NotImplementedError

    @property
    def is_open(self) -> bool:
        raise NotImplementedError
