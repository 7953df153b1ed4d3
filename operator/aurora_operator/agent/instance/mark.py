"""The mark beside an instance's data: that an attempt to open was begun here (rules 4 and 11).

It is made durable before the first byte that the volume may not keep, and removed after the data,
so that no crash leaves such bytes without it. A mark that cannot be read counts as none; with data
beside it that means: throw the data away.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from aurora_operator.core.copy import Promise
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import AttemptId
from aurora_operator.core.restart import Mark

log = structlog.get_logger()


class _MarkText(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    term: Term
    attempt_id: AttemptId
    pod_uid: str
    boot_id: str
    opened: bool


class MarkFile:
    """Reads and writes ``mark.json``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Mark | None:
        """The mark, or ``None`` when there is none that can be believed."""
        try:
            text = _MarkText.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            log.error("mark unreadable; the data beside it will be thrown away", reason=str(error))
            return None
        promise = Promise(text.term, text.attempt_id)
        return Mark(promise, text.pod_uid, text.boot_id, text.opened)

    def write(self, mark: Mark) -> None:
        """Durably replace the mark."""
        text = _MarkText(
            term=mark.promise.term,
            attempt_id=mark.promise.attempt_id,
            pod_uid=mark.pod_uid,
            boot_id=mark.boot_id,
            opened=mark.opened,
        )
        beside = self._path.with_suffix(".new")
        with beside.open("w", encoding="utf-8") as file:
            file.write(text.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        _sync_directory(self._path.parent)

    def remove(self) -> None:
        """Durably forget the mark; the data is gone before."""
        self._path.unlink(missing_ok=True)
        _sync_directory(self._path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
