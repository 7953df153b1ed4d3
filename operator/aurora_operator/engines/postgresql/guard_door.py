"""The agent's hand on the door.

One byte in a small file says whether clients may be in the server; the guard library maps the file
when the server starts. The byte is written in place: a file that was replaced would be another
file than the one that is mapped. Shutting is the byte first, then SIGHUP to the postmaster, which
makes every client's backend look (I4, I7).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_OPEN: Final = b"O"
_SHUT: Final = b"S"


class Door:
    """The byte. Only the agent writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """What ``aurora_guard.door_file`` is set to."""
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether the byte says open; a missing or empty file is shut."""
        try:
            return self._path.read_bytes()[:1] == _OPEN
        except FileNotFoundError:
            return False

    def create_shut(self) -> None:
        """Before a server starts: the file is there, and says shut."""
        if self._path.exists():
            self._write(_SHUT)
            return
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(_SHUT)
        temporary.rename(self._path)

    def open(self) -> None:
        """Let clients in; takes effect at once for whoever connects."""
        self._write(_OPEN)

    def shut(self) -> None:
        """Let nobody in; the sessions that are there end when the server is told to reload."""
        self._write(_SHUT)

    def _write(self, byte: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, byte, 0)
        finally:
            os.close(descriptor)
