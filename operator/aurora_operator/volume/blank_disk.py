"""A copy's disk until it is full: wiped, begun, filled (rules 9 and 13).

The half of ``CopyStore`` that has no record: nothing here counts for anything, so what a crash
leaves is simply begun again. The record is written last, and makes the copy full.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aurora_operator.core.birth import FORMAT_HISTORY
from aurora_operator.core.copy import CopyRecord, CopyState
from aurora_operator.core.history import TermHistory, common_prefix_end
from aurora_operator.core.lsn import LOG_START, Lsn
from aurora_operator.core.names import Identity, Slot, VolumeId
from aurora_operator.volume.errors import LogRefused
from aurora_operator.volume.files import Files
from aurora_operator.volume.log_store import LogStore
from aurora_operator.volume.term_file import record_path, why_foreign

LOG_DIRECTORY: Final = "log"
FAILED_NAME: Final = "failed"
"""Says that the copy failed, and why; it outlives a restart, a failed fsync does not."""


class BlankDisk:
    """What ``CopyStore`` can do without a record."""

    _directory: Path
    _files: Files
    _slot: Slot
    _volume_id: VolumeId | None
    _identity: Identity
    _state: CopyState
    _sentence: str
    _record: CopyRecord | None
    _saved: CopyRecord | None
    _log: LogStore | None
    _fill_history: TermHistory

    if TYPE_CHECKING:  # what the other half has

        def _read_log(self, *, begin: Lsn = LOG_START, floor: Lsn = LOG_START) -> LogStore: ...
        def _open_log(self) -> LogStore: ...
        def _guarded(self, act: Callable[[], object]) -> None: ...
        def _save(self, record: CopyRecord) -> None: ...
        def _become_full(self, record: CopyRecord, log: LogStore) -> None: ...
        def _changed(self) -> None: ...

    def wipe(self) -> None:
        """Forget a copy that counts no more; the record goes first, so a crash leaves it blank.

        What is left of its log goes when a fill begins. A disk of another volume or slot is not
        touched: that is a mistake with claims, which only a person can put right.
        """
        if self._record is not None and why_foreign(self._record, self._slot, self._volume_id):
            raise LogRefused(f"nothing is wiped: {self._sentence}")
        if record_path(self._directory).exists():
            self._files.unlink(record_path(self._directory))
            self._files.sync_directory(self._directory)
        self._record = self._saved = None
        self._state = CopyState.BLANK
        self._sentence = "wiped, to be filled anew"
        self._changed()

    def begin_fill(
        self, identity: Identity | None = None, history: TermHistory = FORMAT_HISTORY
    ) -> None:
        """Start from nothing: whatever an unfinished fill left is removed.

        The disk is ``identity``'s from now on, its log will be of ``history`` and begins where
        ``begin_log`` says. The record is written last, so a crash on the way leaves a blank copy.
        """
        if self._record is not None:
            raise LogRefused(f"{self._identity} has a record; a copy that was full is not re-begun")
        if self._log is not None:
            self._log.close()
        self._identity = identity or self._identity
        self._fill_history = history
        self._remove_log()
        self._state = CopyState.FILLING
        self._sentence = "being filled"
        self.begin_log(history.first.begin)
        self._changed()

    def begin_log(self, lsn: Lsn) -> None:
        """While it is being filled and nothing was appended: the log begins here."""
        self._guarded(lambda: self._read_log(begin=lsn))

    def extend_fill_history(self, history: TermHistory) -> None:
        """While it is being filled: the volume goes on under ``history``.

        Refused when that parts from the log that is here already.
        """
        log = self._open_log()
        if common_prefix_end(self._fill_history, log.end, history) < log.end:
            raise LogRefused(
                f"the log that was filled in up to {log.end} is of {self._fill_history}, and the"
                f" volume goes on as {history}; the fill begins anew"
            )
        self._fill_history = history

    def complete_birth(self, record: CopyRecord) -> None:
        """The copy is full: its whole log is durable, now its record is."""
        log = self._open_log()
        if self._state is not CopyState.FILLING or log.end != record.scl_floor:
            raise LogRefused(
                f"{self._identity} is {self._state} with log up to {log.end}, not filled up to"
                f" {record.scl_floor}"
            )
        self._guarded(log.sync)
        self._guarded(lambda: self._save(record))
        self._become_full(record, log)
        self._changed()

    def _remove_log(self) -> None:
        directory = self._directory / LOG_DIRECTORY
        if directory.exists():
            shutil.rmtree(directory)
        (self._directory / FAILED_NAME).unlink(missing_ok=True)
        self._files.sync_directory(self._directory)
