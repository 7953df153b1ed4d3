"""One copy of the volume on its disk: the record, the log, and the steps that change them.

The core decides which steps are taken and in which order; here they are taken, each durable before
the next. Everything is synchronous on purpose: between the close of the stream and the answer of a
promise nothing else may run (H10). When something cannot be made durable, or what was durable is
not there, the copy is FAILED: it says so, for good, and has no vote (I5).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from aurora_operator.core.birth import FORMAT_HISTORY
from aurora_operator.core.copy import (
    Adoption,
    AnswerPosition,
    CloseStream,
    CopyRecord,
    CopyState,
    CopyView,
    Follow,
    LowerFloor,
    PersistHistory,
    PersistPromise,
    Promise,
    SyncLog,
    TruncateLog,
    Vdl,
    decide_adoption,
    decide_members,
    decide_promise,
    may_take_log,
    reportable_lsn,
)
from aurora_operator.core.gate import ServePoint, candidate_serve_point, serve_point
from aurora_operator.core.history import TermHistory
from aurora_operator.core.lsn import LOG_START, SEGMENT_BYTES, Lsn, Term
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, Slot, VolumeId
from aurora_operator.core.scrub import Damage
from aurora_operator.core.vdl import merge_known
from aurora_operator.core.verdicts import Refuse
from aurora_operator.volume.behind import Behind
from aurora_operator.volume.blank_disk import FAILED_NAME, LOG_DIRECTORY, BlankDisk
from aurora_operator.volume.errors import (
    LogDamaged,
    LogRefused,
    LogRemoved,
    NotWritten,
    RecordDamaged,
    StorageError,
    StorageFailed,
)
from aurora_operator.volume.files import Files, write_atomically
from aurora_operator.volume.log_store import LogStore
from aurora_operator.volume.strain import Strain
from aurora_operator.volume.term_file import read_record, why_foreign, write_record

logger = structlog.get_logger(__name__)

BEHIND_SECONDS: Final = 3.0
"""A copy that stays behind for so long sends its readers to another one."""


class CopyStore(BlankDisk):
    """A copy on its disk. Made by ``open``, which never raises for a damaged one."""

    def __init__(
        self, directory: Path, identity: Identity, slot: Slot, files: Files, segment_bytes: int
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._slot = slot
        self._volume_id: VolumeId | None = None
        self._fill_history = FORMAT_HISTORY
        self._files = files
        self._segment_bytes = segment_bytes
        self._state = CopyState.BLANK
        self._sentence = "blank"
        self._record: CopyRecord | None = None
        self._saved: CopyRecord | None = None
        self._log: LogStore | None = None
        self._prefix_end = LOG_START
        self._listeners: list[Callable[[], None]] = []
        self._behind = Behind()
        self.strain = Strain()

    @classmethod
    def open(
        cls,
        directory: Path,
        identity: Identity,
        slot: Slot,
        *,
        volume_id: VolumeId | None = None,
        files: Files | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> CopyStore:
        """Read what is there: a full copy, a blank one, or a failed one that says why.

        A disk that holds a copy keeps the identity of its record; ``identity`` is a blank one's.
        """
        store = cls(directory, identity, slot, files or Files(), segment_bytes)
        store._volume_id = volume_id
        try:
            store._open()
        except StorageError as error:
            store._fail(error, for_good=isinstance(error, StorageFailed))
        return store

    # -- what it is ------------------------------------------------------------------------

    @property
    def state(self) -> CopyState:
        """What the copy is good for."""
        return self._state

    @property
    def record(self) -> CopyRecord | None:
        """What it keeps beside the log; ``None`` while it is blank or filling."""
        return self._record

    def view(self) -> CopyView:
        """The copy as it stands now."""
        is_full = self._state is CopyState.FULL and self._log is not None
        return CopyView(
            identity=self._identity,
            slot=self._slot,
            state=self._state,
            record=self._record,
            scl=self._log.durable_end if is_full and self._log is not None else None,
            log_start=self._log.begin if is_full and self._log is not None else None,
            sentence=self._sentence,
        )

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever log, history, promise, VDL or state changed (T6)."""
        self._listeners.append(listener)

    # -- rules 2 and 5: promise and adopt --------------------------------------------------

    def promise(self, asked: Promise, close_stream: Callable[[], None]) -> Refuse | None:
        """Rule 2, in one step; ``None``: promised, and ``view()`` is the answer.

        ``close_stream`` must end the stream at once: nothing may be appended after it returns.
        """
        steps = decide_promise(self.view(), asked)
        if isinstance(steps, Refuse):
            return steps

        def take() -> None:
            for step in steps:
                match step:
                    case CloseStream():
                        close_stream()
                    case SyncLog():
                        self._open_log().sync()
                    case PersistPromise(promise):
                        scl = self._open_log().durable_end
                        self._save(replace(self._full_record(), promise=promise, scl_floor=scl))
                    case AnswerPosition():
                        self._changed()

        return self._refused(take)

    def adopt(self, asked: Adoption) -> Follow | Refuse:
        """Rule 5: cut to the common prefix, take the history, both durable, then follow."""
        steps = decide_adoption(self.view(), asked)
        if isinstance(steps, Refuse):
            return steps
        *cuts, follow = steps
        assert isinstance(follow, Follow)

        def take() -> None:
            for step in cuts:
                match step:
                    case LowerFloor(lsn):
                        self._save(replace(self._full_record(), scl_floor=lsn))
                    case TruncateLog(lsn):
                        self._open_log().truncate(lsn)
                    case PersistHistory(history, end, members):
                        kept = replace(self._full_record(), history=history, first_record_end=end)
                        self._save(replace(kept, members=members))

        refusal = self._refused(take)
        if refusal is not None:
            return refusal
        self._prefix_end = follow.start_lsn
        self._changed()
        return follow

    def store_members(self, writer: Promise, asked: MemberList) -> Refuse | None:
        """Rule 8: keep the member list that the holder of the promise changed; ``None``: kept."""
        members = decide_members(self.view(), writer, asked)
        if isinstance(members, Refuse):
            return members
        return self._refused(lambda: self._save(replace(self._full_record(), members=members)))

    # -- rule 1: log in --------------------------------------------------------------------

    def scl(self) -> Lsn:
        """The end of the durable log."""
        return self._open_log().durable_end

    def history(self) -> TermHistory:
        """The history of the own log; while it is being filled, the one it was given."""
        return self._fill_history if self._record is None else self._record.history

    def append(self, lsn: Lsn, data: bytes, term: Term) -> None:
        """Take log bytes of ``term``; they count after ``sync`` only.

        Refused (``LogRefused``, nothing written) unless the copy follows the writer it promised
        to and the adopted history says that these bytes are of that term (I3).
        """
        log = self._open_log()
        if self._state is CopyState.FULL and not may_take_log(self.view(), self._promise().term):
            raise LogRefused(
                f"{self._identity} promised {self._promise()} and has not adopted its history;"
                " no log is taken from anybody until then"
            )
        history = self.history()
        run_end = history.end_of_run(lsn)
        crosses = run_end is not None and lsn.advanced(len(data)) > run_end
        if history.term_of_byte(lsn) != term or crosses:
            raise LogRefused(
                f"{len(data)} bytes at {lsn} were sent as term {term}, but the adopted history is"
                f" {history}; nothing was written"
            )
        try:
            self._guarded(lambda: log.append(lsn, data, term))
        except NotWritten as error:
            self.strain.note_refusal(str(error))
            raise

    def sync(self) -> None:
        """Make all that was appended durable; raises ``StorageFailed``, and the copy has failed."""
        log = self._open_log()
        before, began = log.durable_end, time.monotonic()
        self._guarded(log.sync)
        self.strain.note_sync(time.monotonic() - began)
        record = self._record
        size = self._segment_bytes
        if record is not None and record.scl_floor // size != log.durable_end // size:
            self._save_lazily(replace(record, scl_floor=log.durable_end))
        if log.durable_end != before:
            self._changed()

    def reportable(self, writer_term: Term) -> Lsn | None:
        """Rules 1 and 5: what the writer of this term may be told is flushed here, if anything."""
        received_end = None if self._log is None else self._log.end
        return reportable_lsn(self.view(), writer_term, self._prefix_end, received_end)

    # -- rule 7: log out -------------------------------------------------------------------

    def system_identifier(self) -> str:
        """The database's own name for itself."""
        return self._full_record().system_identifier

    def log_start(self) -> Lsn:
        """The first position that is kept."""
        return self._open_log().begin

    def serve_point(self) -> ServePoint | None:
        """How far everybody may read."""
        if self._state is not CopyState.FULL:
            return None
        record = self._full_record()
        return serve_point(record.history, self.scl(), record.known_vdl)

    def note_served_elsewhere(self, point: ServePoint) -> None:
        """Another gate serves this much."""
        self._behind.compare(self.serve_point(), point)

    def why_elsewhere(self) -> str | None:
        """Why whoever reads here should ask another gate, if so."""
        if self._state is not CopyState.FULL:
            return f"{self._identity} is {self._state} and serves nobody"
        seconds = self._behind.seconds(self.serve_point())
        if seconds < BEHIND_SECONDS:
            return None
        return f"{self._identity} has been behind other gates for {seconds:.1f} s"

    def behind(self) -> tuple[int, float]:
        """Bytes known to be durable elsewhere and not here, and seconds behind other gates."""
        if self._state is not CopyState.FULL:
            return 0, 0.0
        known = self._full_record().known_vdl
        lacking = 0 if known is None else max(0, known.lsn - self.scl())
        return lacking, self._behind.seconds(self.serve_point())

    def uncapped_point(self) -> ServePoint | None:
        """How far the candidate that holds the promise may read."""
        if self._state is not CopyState.FULL:
            return None
        return candidate_serve_point(self._full_record().history, self.scl())

    def read(self, lsn: Lsn, length_bytes: int) -> bytes:
        """Durable log bytes, checksums verified; raises ``LogRemoved`` below the start."""
        log = self._open_log()
        data = b""

        def reading() -> None:
            nonlocal data
            data = log.read(lsn, length_bytes)

        self._guarded(reading)
        return data

    def learn_vdl(self, heard: Vdl) -> bool:
        """Rule 7: take note of a VDL; true when what may be served moved. Saved lazily."""
        if self._state is not CopyState.FULL:
            return False
        record = self._full_record()
        merged = merge_known(record.known_vdl, heard, record.history.last_term_before(self.scl()))
        moved = merged != record.known_vdl
        if moved:
            self._record = replace(record, known_vdl=merged)
            self._changed()
        self.note_served_elsewhere(ServePoint(heard.lsn, heard.term))
        return moved

    def save_known_vdl(self) -> None:
        """Make the known VDL durable if it moved; called now and then, a lower bound is enough."""
        record = self._record
        if self._state is CopyState.FULL and record is not None and record != self._saved:
            self._save_lazily(record)

    def remove_log_before(self, lsn: Lsn) -> None:
        """Rule 14: remove segments below ``lsn``."""
        log = self._open_log()
        self._guarded(lambda: log.remove_before(lsn))

    # -- scrub and repair ------------------------------------------------------------------

    def full_log(self) -> LogStore | None:
        """The log of a full copy, to be read again; ``None`` for any other."""
        return self._log if self._state is CopyState.FULL else None

    def repair(self, damage: Damage, data: bytes) -> None:
        """Put a peer's bytes in the place of damaged ones; they are of the terms that the own
        history says."""
        log, history, pieces = self._open_log(), self.history(), []
        lsn = damage.begin
        while data:
            term, run_end = history.term_of_byte(lsn), history.end_of_run(lsn)
            length = len(data) if run_end is None else min(len(data), run_end - lsn)
            assert term is not None, f"{lsn} lies below the history {history}"
            pieces.append((term, data[:length]))
            lsn, data = lsn.advanced(length), data[length:]
        self._guarded(lambda: log.repair(damage.begin, pieces))

    def give_up(self, sentence: str) -> None:
        """Damage that no peer repaired: the copy is FAILED and has to be filled anew (I5)."""
        self._fail(LogDamaged(sentence))

    def close(self) -> None:
        """Close the files."""
        if self._log is not None:
            self._log.close()

    # -- helpers ---------------------------------------------------------------------------

    def _open(self) -> None:
        failed = self._directory / FAILED_NAME
        if failed.exists():
            self._record = read_record(self._directory)
            raise LogDamaged(failed.read_text().strip())
        record = self._record = self._saved = read_record(self._directory)
        if record is None:
            return
        self._identity = record.identity
        if foreign := why_foreign(record, self._slot, self._volume_id):
            raise RecordDamaged(foreign)
        log = self._read_log(floor=record.scl_floor)
        log.check_terms(record.history)
        self._become_full(record, log)

    def _read_log(self, *, begin: Lsn = LOG_START, floor: Lsn = LOG_START) -> LogStore:
        self._log = LogStore.open(
            self._directory / LOG_DIRECTORY,
            begin=begin,
            floor=floor,
            files=self._files,
            segment_bytes=self._segment_bytes,
            salt=self._identity.encode(),
        )
        return self._log

    def _become_full(self, record: CopyRecord, log: LogStore) -> None:
        self._record = record
        self._state = CopyState.FULL
        self._prefix_end = log.durable_end
        self._sentence = "full"

    def _save(self, record: CopyRecord) -> None:
        write_record(self._files, self._directory, record)
        self._record = self._saved = record

    def _save_lazily(self, record: CopyRecord) -> None:
        """Save what is a lower bound anyhow: a full disk is reported and otherwise no matter."""
        try:
            self._guarded(lambda: self._save(record))
        except NotWritten as error:
            logger.warning("record not saved; saved with the next change", reason=str(error))

    def _refused(self, act: Callable[[], object]) -> Refuse | None:
        """Do something that was asked for; ``None``: done. What the disk refuses is refused."""
        try:
            act()
        except NotWritten as error:
            return Refuse(str(error))
        except StorageError as error:
            self._fail(error)
            return Refuse(self._sentence)
        return None

    def _guarded(self, act: Callable[[], object]) -> None:
        """Do something with the storage; if that breaks the copy, it is failed from now on."""
        try:
            act()
        except (LogRefused, LogRemoved, NotWritten):
            raise
        except StorageError as error:
            self._fail(error)
            raise

    def _fail(self, error: StorageError, *, for_good: bool = True) -> None:
        """From now on the copy counts for nothing; ``for_good``: after a restart, too.

        What opening finds wrong it finds again; a failed fsync would not show a second time.
        """
        self._state = CopyState.FAILED
        self._sentence = str(error)
        if for_good:
            try:
                write_atomically(self._files, self._directory / FAILED_NAME, f"{error}\n".encode())
            except StorageError as second:
                self._sentence = f"{error}; and that could not be written down ({second})"
        self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    def _promise(self) -> Promise:
        return self._full_record().promise

    def _full_record(self) -> CopyRecord:
        if self._record is None:
            raise LogRefused(f"{self._identity} is {self._state} and has no record")
        return self._record

    def _open_log(self) -> LogStore:
        if self._log is None or self._state in (CopyState.BLANK, CopyState.FAILED):
            raise LogRefused(f"{self._identity} is {self._state} ({self._sentence}); it has no log")
        return self._log
