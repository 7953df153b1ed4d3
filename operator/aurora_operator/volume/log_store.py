"""The log of one copy: contiguous, checksummed, and never guessed.

Bytes are appended at the end only, count once they are synced, are cut at the end by an adoption
and removed at the start when nobody needs them. After a crash the log is read from its beginning:
a torn end was never reported and is cut off, anything else that does not fit is damage, and a
damaged copy says so instead of serving or counting what it is not sure of (I5).

What the log does not know: terms (it only writes down what it is told) and how far it may be
served.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import LOG_START, SEGMENT_BYTES, Lsn, Term
from aurora_operator.telemetry.metrics import LOG_APPENDED_BYTES, LOG_SYNC_SECONDS
from aurora_operator.volume import frames
from aurora_operator.volume.errors import (
    LogDamaged,
    LogRefused,
    LogRemoved,
    NotWritten,
    StorageFailed,
)
from aurora_operator.volume.files import BESIDE, Files
from aurora_operator.volume.frames import PAYLOAD_BYTES_MAX
from aurora_operator.volume.segment import Scan, Segment, segment_path, segment_starts

_LOADED_SEGMENTS: Final = 8
_ROOMS_PER_SEGMENT: Final = 16
"""In so many steps is the room of a segment made ready."""


class LogStore:
    """The log in one directory. Made by ``open``; after a failure it refuses everything."""

    def __init__(self, files: Files, directory: Path, segment_bytes: int, salt: bytes) -> None:
        self._files = files
        self._salt = salt
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._starts: list[Lsn] = []
        self._active: Segment | None = None
        self._loaded: OrderedDict[Lsn, Segment] = OrderedDict()
        self._begin = LOG_START
        self._end = LOG_START
        self._durable_end = LOG_START
        self._failure: str | None = None
        self.generation = 0
        """Changes when bytes that were there are other bytes, or are gone at the end."""
        self.term_runs: tuple[TermStart, ...] = ()
        """Which terms the frames named when the log was opened."""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        begin: Lsn = LOG_START,
        floor: Lsn = LOG_START,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        salt: bytes = b"",
    ) -> LogStore:
        """Sync and read all of the log; raises ``LogDamaged`` or ``StorageFailed``.

        ``begin`` is where a log begins that has no byte yet.
        ``floor`` is a position that was durable once: a log that ends below it lost bytes.
        ``salt`` is this copy's alone, and the same at every opening.
        """
        store = cls(files or Files(), directory, segment_bytes, salt)
        store._begin = store._end = store._durable_end = begin
        with store._failing(f"the log in {directory} could not be read and synced"):
            store._open(floor)
        return store

    @property
    def begin(self) -> Lsn:
        """The first position that is kept."""
        return self._begin

    @property
    def end(self) -> Lsn:
        """The end of what was appended."""
        return self._end

    @property
    def durable_end(self) -> Lsn:
        """The end of what is durable: the SCL of a full copy."""
        return self._durable_end

    @property
    def starts(self) -> Sequence[Lsn]:
        """Where the kept segments begin."""
        return self._starts

    def end_of_segment(self, start: Lsn) -> Lsn:
        """Where the segment that begins at ``start`` ends, once it is complete."""
        return start.advanced(self._segment_bytes)

    def segment_file(self, start: Lsn) -> tuple[Path, int]:
        """The file of a segment, and the seed of its checksums."""
        return segment_path(self._directory, start), frames.seed_of(self._salt, start)

    @property
    def failure(self) -> str | None:
        """Why the store refuses everything, if it does."""
        return self._failure

    def append(self, lsn: Lsn, data: bytes, term: Term) -> None:
        """Write log bytes at the end; they count after ``sync`` only (I1)."""
        self._check()
        if lsn != self._end:
            raise LogRefused(
                f"log of {lsn} cannot go to the end at {self._end}; nothing was written, ask again"
                f" from {self._end}"
            )
        rest = memoryview(data)
        while rest:
            length = min(len(rest), PAYLOAD_BYTES_MAX, self._left_in_segment())
            self._append_frame(bytes(rest[:length]), term)
            rest = rest[length:]

    def sync(self) -> Lsn:
        """Make all that was appended durable; returns its end.

        A failed fsync is final: the system may have dropped the bytes and forgotten the error.
        """
        self._check()
        if self._active is not None and self._durable_end < self._end:
            begun = time.perf_counter()
            try:
                self._active.sync()
            except OSError:
                with self._failing(f"log up to {self._end} could not be made durable"):
                    raise
            self._durable_end = self._end
            LOG_SYNC_SECONDS.observe(time.perf_counter() - begun)
        return self._durable_end

    def read(self, lsn: Lsn, length_bytes: int) -> bytes:
        """At most so many durable bytes from ``lsn`` on; empty at the end, never across a segment.

        Checksums are verified each time: what is damaged is not served.
        """
        self._check()
        if lsn < self._begin:
            raise LogRemoved(f"log before {self._begin} was removed here; {lsn} is asked for")
        length = min(length_bytes, self._durable_end - lsn)
        if length <= 0:
            return b""
        with self._failing(f"log at {lsn} could not be read"):
            return self._segment(self._start_of(lsn)).read(lsn, length)

    def truncate(self, lsn: Lsn) -> None:
        """Durably cut the log at ``lsn`` (rule 5).

        Later segments go first, the highest before the others, each durably: a crash leaves a
        shorter log, never one with a gap. The segment that holds the cut is then replaced by a
        shortened one in one instant.
        """
        self._check()
        self.generation += 1
        if not self._begin < lsn <= self._end:
            raise ValueError(f"cannot cut the log {self._begin} to {self._end} at {lsn}")
        if lsn == self._end:
            self.sync()
            return
        with self._failing(f"the log could not be cut at {lsn}"):
            self._unload()
            while self._starts[-1] >= lsn:
                self._files.unlink(segment_path(self._directory, self._starts[-1]))
                self._files.sync_directory(self._directory)
                self._starts.pop()
            self._active = self._scan_file(self._starts[-1]).segment
            self._end = self._durable_end = self._active.end
            if lsn < self._end:
                self._shorten_active(lsn)

    def repair(self, begin: Lsn, pieces: Sequence[tuple[Term, bytes]]) -> None:
        """Put ``pieces`` in the place of damaged durable bytes from ``begin`` on (``core.scrub``).

        The segment is written anew beside the old one and takes its name in one instant: a crash
        leaves the damaged one, which is found again, or the repaired one.
        """
        self._check()
        start = self._start_of(begin)
        end = begin.advanced(sum(len(data) for _, data in pieces))
        if not (self._begin <= begin < end <= min(self._durable_end, self.end_of_segment(start))):
            raise LogRefused(f"{begin} to {end} is no durable part of one segment of this log")
        is_active = self._active is not None and self._active.start == start
        old = self._active if is_active else self._open_damaged(start)
        assert old is not None
        try:
            new = self._patched(old, begin, end, pieces)
        finally:
            if not is_active:
                old.close()
        with self._failing(f"the repair of {begin} to {end} could not be made durable"):
            self._files.rename(new.path.with_name(new.path.name + BESIDE), new.path)
            self._files.sync_directory(self._directory)
        self._forget(start)
        self.generation += 1
        if is_active:
            old.close()
            self._active = new
        else:
            new.close()

    def remove_before(self, lsn: Lsn) -> None:
        """Remove the segments that end at or below ``lsn`` (rule 14); the last one always stays."""
        self._check()
        with self._failing(f"log before {lsn} could not be removed"):
            while len(self._starts) > 1 and self._starts[1] <= lsn:
                self._forget(self._starts[0])
                self._files.unlink(segment_path(self._directory, self._starts[0]))
                self._files.sync_directory(self._directory)
                self._starts.pop(0)
                self._begin = self._starts[0]

    def check_terms(self, history: TermHistory) -> None:
        """Frames name the term they were written in; the history must say the same (H15)."""
        ends = [run.begin for run in self.term_runs[1:]] + [self._end]
        for run, end in zip(self.term_runs, ends, strict=False):
            run_end = history.end_of_run(run.begin)
            ends_early = run_end is not None and run_end < end
            if ends_early or history.term_of_byte(run.begin) != run.term:
                raise LogDamaged(
                    f"the log says that {run.begin} to {end} is of term {run.term}, the history is"
                    f" {history}; the copy is failed and must be filled from its peers"
                )

    def close(self) -> None:
        """Close every file; what was not synced is not durable."""
        self._unload()

    # -- opening ---------------------------------------------------------------------------

    def _open(self, floor: Lsn) -> None:
        if not self._directory.is_dir():
            self._directory.mkdir()
            self._files.sync_directory(self._directory.parent)
        for leftover in self._directory.glob(f"*{BESIDE}"):
            self._files.unlink(leftover)
        self._files.sync_directory(self._directory)
        self._starts = segment_starts(self._directory)
        self._check_names()
        runs: list[TermStart] = []
        for start in tuple(self._starts):
            scan = self._scan(start)
            runs += [run for run in scan.term_runs if not runs or runs[-1].term != run.term]
        self.term_runs = tuple(runs)
        if self._end < floor:
            raise LogDamaged(
                f"the log ends at {self._end}, but was durable up to {floor} once; the copy is"
                " failed and must be filled from its peers"
            )

    def _check_names(self) -> None:
        for earlier, later in pairwise(self._starts):
            if later != earlier + self._segment_bytes:
                raise LogDamaged(
                    f"the segment between {earlier} and {later} is missing; the copy is failed and"
                    " must be filled from its peers"
                )

    def _scan(self, start: Lsn) -> Scan:
        """Read one segment and take it over, with its torn end cut off if it is the last one."""
        is_last = start == self._starts[-1]
        scan = self._scan_file(start)
        segment = scan.segment
        complete = segment.end == start + self._segment_bytes
        contiguous = start == self._starts[0] or segment.first_lsn == self._end
        whole = scan.torn_at is None and contiguous
        if scan.lost_after is not None or not contiguous or not (is_last or (whole and complete)):
            segment.close()
            raise LogDamaged(
                f"{segment.path.name} is good up to {segment.end} only, but was durable beyond; the"
                " copy is failed and must be filled from its peers"
            )
        if scan.torn_at is not None:
            segment.shorten(scan.torn_at)
            segment.sync()
        if start == self._starts[0]:
            self._begin = segment.first_lsn
        self._end = self._durable_end = segment.end
        if is_last:
            self._active = segment
        else:
            segment.trim()
            segment.close()
        return scan

    # -- writing ---------------------------------------------------------------------------

    def _append_frame(self, payload: bytes, term: Term) -> None:
        start = self._start_of(self._end)
        if self._active is None or self._active.start != start:
            self._roll(start)
        segment = self._active
        assert segment is not None
        try:
            ahead_bytes = self._segment_bytes // _ROOMS_PER_SEGMENT
            segment.append(term, self._end, self._durable_end, payload, ahead_bytes)
        except OSError as error:
            with self._failing(f"a broken write at {self._end} could not be taken back"):
                segment.shorten(segment.size_bytes)
            raise NotWritten(
                f"log at {self._end} could not be written ({error}); nothing of it was kept, the"
                " copy is whole up to there and asks again when there is room"
            ) from error
        self._end = self._end.advanced(len(payload))
        LOG_APPENDED_BYTES.inc(len(payload))

    def _roll(self, start: Lsn) -> None:
        """Begin a segment: the one before is durable first, so only the last can be torn."""
        if self._active is not None:
            with self._failing(f"the segment before {start} could not be closed"):
                self._active.trim()
        self.sync()
        try:
            created = Segment.create(self._files, self._directory, start, self._salt)
        except OSError as error:
            raise NotWritten(
                f"a log segment at {start} could not be made ({error}); nothing was written, the"
                " copy is whole up to there and asks again when there is room"
            ) from error
        with self._failing(f"a log segment at {start} could not be made durable"):
            if self._active is not None:
                self._active.close()
            self._active = created
            self._starts.append(start)
            self._files.sync_directory(self._directory)

    def _shorten_active(self, lsn: Lsn) -> None:
        """Replace the last segment by one that ends at ``lsn``, in one instant."""
        old = self._active
        assert old is not None
        beside = old.path.with_name(old.path.name + BESIDE)
        try:
            beside.unlink(missing_ok=True)
            new = Segment(self._files, old.path, self._files.create(beside), old.start, self._salt)
            old.copy_below(lsn, new)
            new.sync()
        except OSError as error:
            raise NotWritten(
                f"the log could not be cut at {lsn} ({error}); it is whole up to {self._end}, and"
                " is cut when there is room"
            ) from error
        self._files.rename(beside, old.path)
        self._files.sync_directory(self._directory)
        old.close()
        self._active = new
        self._end = self._durable_end = lsn

    def _open_damaged(self, start: Lsn) -> Segment:
        held = max(start, self._begin), self.end_of_segment(start)
        with self._failing(f"the segment at {start} could not be read"):
            return Segment.open_damaged(self._files, self._directory, start, self._salt, held)

    def _patched(
        self, old: Segment, begin: Lsn, end: Lsn, pieces: Sequence[tuple[Term, bytes]]
    ) -> Segment:
        """The repaired segment, durable under another name."""
        beside = old.path.with_name(old.path.name + BESIDE)
        frames_of_pieces = [
            (term, data[at : at + PAYLOAD_BYTES_MAX])
            for term, data in pieces
            for at in range(0, len(data), PAYLOAD_BYTES_MAX)
        ]
        try:
            beside.unlink(missing_ok=True)
            new = old.patched(self._files.create(beside), begin, end, frames_of_pieces)
            new.sync()
        except OSError as error:
            raise NotWritten(
                f"{begin} to {end} could not be repaired ({error}); the damaged piece is as it was"
            ) from error
        return new

    # -- helpers ---------------------------------------------------------------------------

    def _scan_file(self, start: Lsn) -> Scan:
        return Segment.scan(self._files, self._directory, start, self._salt)

    def _start_of(self, lsn: Lsn) -> Lsn:
        return Lsn(int(lsn) - int(lsn) % self._segment_bytes)

    def _left_in_segment(self) -> int:
        return self._segment_bytes - int(self._end) % self._segment_bytes

    def _segment(self, start: Lsn) -> Segment:
        """The segment for reading: the active one, or one of a few that stay open."""
        if self._active is not None and self._active.start == start:
            return self._active
        if start not in self._loaded:
            scan = self._scan_file(start)
            if scan.torn_at is not None or scan.segment.end != start + self._segment_bytes:
                scan.segment.close()
                raise LogDamaged(
                    f"{scan.segment.path.name} is good up to {scan.segment.end} only; the copy is"
                    " failed and must be filled from its peers"
                )
            self._loaded[start] = scan.segment
        self._loaded.move_to_end(start)
        while len(self._loaded) > _LOADED_SEGMENTS:
            self._loaded.popitem(last=False)[1].close()
        return self._loaded[start]

    def _forget(self, start: Lsn) -> None:
        segment = self._loaded.pop(start, None)
        if segment is not None:
            segment.close()

    def _unload(self) -> None:
        for start in tuple(self._loaded):
            self._forget(start)
        if self._active is not None:
            self._active.close()
            self._active = None

    def _check(self) -> None:
        if self._failure is not None:
            raise StorageFailed(self._failure)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """After an error in here the store refuses everything: its state on disk is unknown."""
        try:
            yield
        except OSError as error:
            self._failure = f"{what} ({error}); the copy is failed and must be filled anew"
            raise StorageFailed(self._failure) from error
        except LogDamaged as error:
            self._failure = str(error)
            raise
