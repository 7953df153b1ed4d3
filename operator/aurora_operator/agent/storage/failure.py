"""A copy that failed says so on its disk before its process ends.

After a failed fsync the system may claim success the next time, without having written anything.
A new process would then find a log that looks whole and vote with it (I5); only the note tells it
otherwise. A disk that broke may refuse the note as well. Until it is there this process is the
note: it stays, failed, and tries again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from aurora_operator.core.copy import CopyState
from aurora_operator.volume.blank_disk import FAILED_NAME
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import StorageError
from aurora_operator.volume.files import Files, write_atomically

log = structlog.get_logger()

_RETRY_SECONDS: Final = 1.0


async def note_failure(store: CopyStore, disk: Path, files: Files) -> None:
    """Return once the failure of a failed copy is durable; at once for any other copy."""
    while store.state is CopyState.FAILED:
        sentence = store.view().sentence
        try:
            write_atomically(files, disk / FAILED_NAME, f"{sentence}\n".encode())
        except StorageError as error:
            log.error(
                "the failure of this copy cannot be written down; it stays failed in memory and"
                " counts for nothing: do not restart this pod, replace its disk",
                failure=sentence,
                reason=str(error),
            )
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
