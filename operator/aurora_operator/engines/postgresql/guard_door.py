"""The agent's hand on the door, and on the stamp beside it.

The guard library maps the beginning of a small file when the server starts (``GuardPage`` in
``images/engine/guard/guard.h``): one byte says whether clients may be in the server, behind it
stand the writer's stamp and how many statements waited for a younger one. The byte is written in
place: a file that was replaced would be another file than the one that is mapped. Shutting is the
byte first, then SIGHUP to the postmaster, which makes every client's backend look (I4, I7).
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OPEN: Final = b"O"
_SHUT: Final = b"S"
_BYTES: Final = 32
_STAMP, _HELD_COUNT, _HELD_NS = 1, 2, 3
"""The page as words of 8 bytes; the door's byte is the first of word 0."""
_NO_STAMP: Final = 0


@dataclass(frozen=True, slots=True)
class HeldStatements:
    """Statements that waited for a younger stamp since the file was made."""

    count: int = 0
    total_ns: int = 0


class Door:
    """The byte and the stamp. Only the agent writes them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._words: memoryview | None = None

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
        """Before a server starts: the file is there, says shut, and has no stamp."""
        if self._path.exists():
            self._write(_SHUT)
        else:
            temporary = self._path.with_suffix(".new")
            temporary.write_bytes(_SHUT.ljust(_BYTES, b"\0"))
            temporary.rename(self._path)
        self.stamp(_NO_STAMP)

    def open(self) -> None:
        """Let clients in; takes effect at once for whoever connects."""
        self._write(_OPEN)

    def shut(self) -> None:
        """Let nobody in; the sessions that are there end when the server is told to reload."""
        self._write(_SHUT)

    def stamp(self, stamp_ns: int) -> None:
        """Rule 12: from now on statements wait while this moment of CLOCK_BOOTTIME is long ago.

        A file without a stamp holds nobody. One machine word is written by one instruction, so
        the server never sees half of it.
        """
        self._page()[_STAMP] = stamp_ns

    def held(self) -> HeldStatements:
        """What the server counted; nothing before the first server starts."""
        if not self._path.exists():
            return HeldStatements()
        words = self._page()
        return HeldStatements(words[_HELD_COUNT], words[_HELD_NS])

    def _page(self) -> memoryview:
        if self._words is None:
            descriptor = os.open(self._path, os.O_RDWR)
            try:
                self._words = memoryview(mmap.mmap(descriptor, _BYTES)).cast("q")
            finally:
                os.close(descriptor)
        return self._words

    def _write(self, byte: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, byte, 0)
        finally:
            os.close(descriptor)
