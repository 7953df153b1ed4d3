"""Reading a copy's log again from the disk, a piece at a time (``core.scrub``).

A walk goes through the segments from the log's start to its durable end. What to read next is
decided where the log lives, reading and checking may happen in a thread, and what was found is
held against the log as it is by then: a log that was cut or repaired in between is read again from
the start of its segment. Bytes above the durable end are nobody's yet and are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aurora_operator.core.lsn import Lsn
from aurora_operator.core.scrub import PIECE_BYTES, Damage
from aurora_operator.volume import frames
from aurora_operator.volume.files import Files
from aurora_operator.volume.log_store import LogStore

_FRAME_BYTES_MAX: Final = frames.HEADER_BYTES + frames.PAYLOAD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Piece:
    """What to read: from ``offset`` of a segment's file on, where the frame of ``lsn`` begins."""

    path: Path
    seed: int
    start: Lsn
    offset: int
    lsn: Lsn
    stop: Lsn
    """No byte from here on counts."""
    generation: int


@dataclass(frozen=True, slots=True)
class Examined:
    """What was there: good up to ``lsn``; ``damage`` begins there, if it is not ``None``."""

    lsn: Lsn
    offset: int
    read_bytes: int
    damage: Damage | None = None
    offset_after: int = 0
    """Where the first good frame behind the damage begins in the file."""


def examine(files: Files, piece: Piece) -> Examined:
    """Read one piece from the disk and check it. Touches nothing; may run in a thread.

    Raises ``OSError`` when the file is gone, which the log may have removed meanwhile.
    """
    descriptor = files.open(piece.path)
    try:
        files.forget_cached(descriptor, PIECE_BYTES, piece.offset)
        content = files.read(descriptor, PIECE_BYTES, piece.offset)
        lsn, position = piece.lsn, 0
        while lsn < piece.stop:
            frame = frames.decode(piece.seed, content, position)
            if frame is not None and frame.lsn == lsn:
                lsn, position = frame.end, frame.offset_after
                continue
            if position > 0:  # the rest is looked at with the next piece
                break
            content = files.read(descriptor, _FRAME_BYTES_MAX, piece.offset)
            frame = frames.decode(piece.seed, content, 0)
            if frame is None or frame.lsn != lsn:
                return _damaged(piece, files.read(descriptor, piece.path.stat().st_size, 0))
            lsn, position = frame.end, frame.offset_after
        return Examined(lsn, piece.offset + position, position)
    finally:
        files.close(descriptor)


def _damaged(piece: Piece, content: bytes) -> Examined:
    """The damage reaches to the next good frame of this log, or to the end of what counts."""
    for frame in frames.find_after(piece.seed, content, piece.offset - 1):
        if piece.lsn < frame.lsn < piece.stop:
            damage = Damage(piece.lsn, frame.lsn)
            return Examined(piece.lsn, piece.offset, len(content), damage, frame.offset)
    damage = Damage(piece.lsn, piece.stop)
    return Examined(piece.lsn, piece.offset, len(content), damage, len(content))


class Walk:
    """One pass over the log after another."""

    def __init__(self) -> None:
        self.passes = 0
        """How many were finished."""
        self._start: Lsn | None = None
        self._lsn = Lsn(0)
        self._offset = 0
        self._generation = 0

    def next_piece(self, log: LogStore) -> Piece | None:
        """What to read now; ``None`` when a pass has just come to its end."""
        if self._generation != log.generation or (self._start or log.begin) < log.starts[0]:
            self._restart(log, self._start)
        if self._start is None:
            self._restart(log, None)
        assert self._start is not None
        segment_end = log.end_of_segment(self._start)
        if self._lsn >= segment_end:
            self._restart(log, segment_end)
        stop = min(log.durable_end, log.end_of_segment(self._start))
        if self._lsn >= stop:
            self._start = None
            self.passes += 1
            return None
        path, seed = log.segment_file(self._start)
        return Piece(path, seed, self._start, self._offset, self._lsn, stop, log.generation)

    def take(self, log: LogStore, piece: Piece, seen: Examined) -> Damage | None:
        """Go on behind what was read; the damage, if the log still is what was read."""
        if piece.generation != log.generation or piece.start < log.starts[0]:
            return None
        self._lsn, self._offset = seen.lsn, seen.offset
        return seen.damage

    def _restart(self, log: LogStore, start: Lsn | None) -> None:
        """Begin at a segment, or at the first one that is kept."""
        first = log.starts[0] if log.starts else log.begin
        self._generation = log.generation
        self._start = first if start is None else max(start, first)
        self._lsn = log.begin if self._start == first else self._start
        self._offset = 0
