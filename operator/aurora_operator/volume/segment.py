"""One file of the log: frames of one segment, and an index of where they begin.

A segment file is named by the position its segment begins at, and holds frames without gaps, then
perhaps zeros. It is written at its end only; cutting it makes a new file that takes the old one's
name. The zeros are room made ready: a sync that changes no length costs less, and does not wait for
what others write to the same file system.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aurora_operator.core.history import TermStart
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.volume import frames
from aurora_operator.volume.errors import LogDamaged, LogRefused
from aurora_operator.volume.files import Files

SUFFIX: Final = ".log"
_READ_BYTES: Final = 1024 * 1024


def segment_path(directory: Path, start: Lsn) -> Path:
    """The file of the segment that begins at ``start``."""
    return directory / f"{int(start):016X}{SUFFIX}"


def segment_starts(directory: Path) -> list[Lsn]:
    """The segments that a directory holds, in log order."""
    return sorted(Lsn(int(path.stem, 16)) for path in directory.glob(f"*{SUFFIX}"))


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment file was found to hold."""

    segment: Segment
    term_runs: tuple[TermStart, ...]
    torn_at: int | None
    """Where the first byte that is no whole frame lies; ``None``: nothing but zeros follow."""
    lost_after: Lsn | None
    """A later frame says that the log was durable beyond the torn one, up to here."""


class Segment:
    """An open segment file."""

    def __init__(self, files: Files, path: Path, descriptor: int, start: Lsn, salt: bytes) -> None:
        self._files = files
        self._seed = frames.seed_of(salt, start)
        self._descriptor = descriptor
        self._lsns = array("Q")
        self._offsets = array("Q")
        self.path = path
        self._zeroed_bytes = 0
        """Up to here the file has room that is written already."""
        self.start = start
        self.end = start
        self.size_bytes = 0
        """What its frames take."""

    @classmethod
    def create(cls, files: Files, directory: Path, start: Lsn, salt: bytes) -> Segment:
        """A new, empty file; the caller makes its name durable."""
        path = segment_path(directory, start)
        return cls(files, path, files.create(path), start, salt)

    @classmethod
    def scan(cls, files: Files, directory: Path, start: Lsn, salt: bytes) -> Scan:
        """Sync, then read a file from its beginning and stop at the first thing that is no frame.

        Synced first, so that nothing is believed that could still vanish (rule 5, H15).
        """
        path = segment_path(directory, start)
        segment = cls(files, path, files.open(path), start, salt)
        files.sync(segment._descriptor)
        content = files.read(segment._descriptor, path.stat().st_size, 0)
        runs: list[TermStart] = []
        for frame in _frames_of(segment._seed, content):
            if segment.size_bytes and frame.lsn != segment.end:
                break
            if not runs or runs[-1].term != frame.term:
                runs.append(TermStart(frame.term, frame.lsn))
            segment._note(frame)
        rest_bytes = len(content) - segment.size_bytes
        torn = content.count(0, segment.size_bytes) < rest_bytes
        segment._zeroed_bytes = len(content)
        later = frames.find_after(segment._seed, content, segment.size_bytes) if torn else ()
        durable = max((f.durable_end for f in later if f.durable_end <= f.lsn), default=Lsn(0))
        return Scan(
            segment,
            tuple(runs),
            segment.size_bytes if torn else None,
            durable if durable > segment.end else None,
        )

    @classmethod
    def open_damaged(
        cls, files: Files, directory: Path, start: Lsn, salt: bytes, held: tuple[Lsn, Lsn]
    ) -> Segment:
        """Open a complete file that holds the log from ``held[0]`` to ``held[1]``.

        It may be broken in places; what is broken counts as one frame.
        """
        path = segment_path(directory, start)
        segment = cls(files, path, files.open(path), start, salt)
        segment.end = held[0]
        content = files.read(segment._descriptor, path.stat().st_size, 0)
        while segment.size_bytes < len(content):
            frame = frames.decode(segment._seed, content, segment.size_bytes)
            if frame is not None and frame.lsn == segment.end:
                segment._note(frame)
                continue
            later = frames.find_after(segment._seed, content, segment.size_bytes - 1)
            good = next((f for f in later if f.lsn > segment.end), None)
            segment._lsns.append(segment.end)
            segment._offsets.append(segment.size_bytes)
            segment.size_bytes = len(content) if good is None else good.offset
            segment.end = held[1] if good is None else good.lsn
        return segment

    @property
    def first_lsn(self) -> Lsn:
        """The position of its first byte; the start of the segment while it is empty."""
        return Lsn(self._lsns[0]) if self._lsns else self.start

    def append(
        self, term: Term, lsn: Lsn, durable_end: Lsn, payload: bytes, ahead_bytes: int = 0
    ) -> None:
        """Write one frame at the end; not durable before ``sync``.

        With it go ``ahead_bytes`` of room for the next ones whenever there is none left.
        """
        frame = (frames.encode(self._seed, term, lsn, durable_end, payload), payload)
        end_bytes = self.size_bytes + frames.HEADER_BYTES + len(payload)
        if end_bytes <= self._zeroed_bytes or not self._write_with_room(frame, ahead_bytes):
            self._files.write(self._descriptor, frame, self.size_bytes)
        self._note(frames.Frame(self.size_bytes, term, lsn, len(payload), durable_end))

    def shorten(self, length_bytes: int) -> None:
        """Cut the file's end off, where no frame is noted; not durable before ``sync``."""
        self._zeroed_bytes = 0
        self._files.shorten(self._descriptor, length_bytes)

    def trim(self) -> None:
        """Give back the room that was not used."""
        if self._zeroed_bytes > self.size_bytes:
            self.shorten(self.size_bytes)

    def sync(self) -> None:
        """Make everything written durable."""
        self._files.sync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._descriptor)

    def read(self, lsn: Lsn, length_bytes: int) -> bytes:
        """At most so many log bytes from ``lsn`` on, every checksum verified."""
        parts: list[bytes] = []
        missing = length_bytes
        for frame, payload in self._payloads(lsn, length_bytes):
            skip = max(0, lsn - frame.lsn)
            part = payload[skip : skip + missing]
            parts.append(part)
            missing -= len(part)
            if missing == 0:
                break
        return b"".join(parts)

    def copy_below(self, lsn: Lsn, target: Segment) -> None:
        """Append every byte below ``lsn`` to ``target``; the frame that holds it is shortened."""
        for frame, payload in self._payloads(self.first_lsn, lsn - self.first_lsn):
            kept = payload[: max(0, lsn - frame.lsn)]
            if kept:
                target.append(frame.term, frame.lsn, frame.durable_end, kept)

    def patched(
        self, descriptor: int, begin: Lsn, end: Lsn, pieces: Sequence[tuple[Term, bytes]]
    ) -> Segment:
        """This segment with other frames for the bytes from ``begin`` to ``end``, in a new file.

        Everything else is taken over as it lies on the disk, also what is broken there: that is
        found, and replaced, by itself. Raises ``LogRefused`` when frames do not begin just there.
        """
        first, after = bisect_left(self._lsns, begin), bisect_left(self._lsns, end)
        edges = [self._lsns[n] if n < len(self._lsns) else self.end for n in (first, after)]
        if edges != [begin, end]:
            raise LogRefused(f"{self.path.name} has no frames that begin at {begin} and {end}")
        content = self._files.read(self._descriptor, self.size_bytes, 0)
        cut = [
            self._offsets[n] if n < len(self._offsets) else self.size_bytes for n in (first, after)
        ]
        new = Segment(self._files, self.path, descriptor, self.start, b"")
        new._seed = self._seed
        new._lsns, new._offsets = self._lsns[:first], self._offsets[:first]
        new.size_bytes, new.end = cut[0], begin
        self._files.write(descriptor, (content[: cut[0]],), 0)
        for term, payload in pieces:
            new.append(term, new.end, new.end, payload)
        shift = new.size_bytes - cut[1]
        self._files.write(descriptor, (content[cut[1] :],), new.size_bytes)
        new._lsns.extend(self._lsns[after:])
        new._offsets.extend(offset + shift for offset in self._offsets[after:])
        new.size_bytes, new.end = self.size_bytes + shift, self.end
        return new

    def _payloads(self, lsn: Lsn, length_bytes: int) -> Iterator[tuple[frames.Frame, bytes]]:
        """The frames that hold these log bytes, read in large pieces."""
        first = bisect_right(self._lsns, lsn) - 1
        last = bisect_right(self._lsns, lsn + length_bytes - 1) - 1
        while first <= last:
            begin = self._offsets[first]
            stop = bisect_right(self._offsets, begin + _READ_BYTES) - 1
            stop = min(max(stop, first + 1), last + 1)
            end = self._offsets[stop] if stop < len(self._offsets) else self.size_bytes
            content = self._files.read(self._descriptor, end - begin, begin)
            for number in range(first, stop):
                frame = frames.decode(self._seed, content, self._offsets[number] - begin)
                if frame is None or frame.lsn != self._lsns[number]:
                    raise LogDamaged(
                        f"{self.path.name}: the frame at {Lsn(self._lsns[number])} no longer has"
                        " its checksum; the copy is failed and must be filled from its peers"
                    )
                payload_at = frame.offset + frames.HEADER_BYTES
                yield frame, content[payload_at : frame.offset_after]
            first = stop

    def _write_with_room(self, frame: tuple[bytes, bytes], ahead_bytes: int) -> bool:
        """False: there is no room for that, and nothing of it was kept."""
        if not ahead_bytes:
            return False
        try:
            self._files.write(self._descriptor, (*frame, bytes(ahead_bytes)), self.size_bytes)
        except OSError:
            self.shorten(self.size_bytes)
            return False
        self._zeroed_bytes = self.size_bytes + sum(map(len, frame)) + ahead_bytes
        return True

    def _note(self, frame: frames.Frame) -> None:
        self._lsns.append(frame.lsn)
        self._offsets.append(frame.offset)
        self.end = frame.end
        self.size_bytes = frame.offset_after


def _frames_of(seed: int, content: bytes) -> Iterator[frames.Frame]:
    offset = 0
    view = memoryview(content)
    while (frame := frames.decode(seed, view, offset)) is not None:
        yield frame
        offset = frame.offset_after
