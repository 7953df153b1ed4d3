"""The few file operations that a copy's storage consists of.

They stand in one class so that tests can stop the world after each of them, lose what was not
made durable, and demand that the copy is in an allowed state. All of them block: an fsync in the
event loop is meant, since no report may leave between a promise's fsync and its answer (H10).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aurora_operator.volume.errors import NotWritten, StorageFailed

BESIDE: Final = ".new"
"""Ends the name of a file that is still being written; worthless after a crash."""
_MODE: Final = 0o600


class Files:
    """File operations on descriptors; errors are ``OSError`` as the system raises them."""

    def create(self, path: Path) -> int:
        """Make a new, empty file for reading and writing; it must not exist."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)

    def open(self, path: Path) -> int:
        """Open a file for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close; says nothing about durability."""
        os.close(descriptor)

    def write(self, descriptor: int, parts: Sequence[bytes], offset: int) -> None:
        """Write all parts, one after the other, from ``offset`` on."""
        written = os.pwritev(descriptor, parts, offset)
        length = sum(len(part) for part in parts)
        if written == length:
            return
        rest = b"".join(parts)
        while written < length:
            written += os.pwrite(descriptor, rest[written:], offset + written)

    def read(self, descriptor: int, length_bytes: int, offset: int) -> bytes:
        """Read up to ``length_bytes``; less only at the end of the file."""
        return os.pread(descriptor, length_bytes, offset)

    def forget_cached(self, descriptor: int, length_bytes: int, offset: int) -> None:
        """Read this from the disk next time, as far as what is cached was written back."""
        os.posix_fadvise(descriptor, offset, length_bytes, os.POSIX_FADV_DONTNEED)

    def shorten(self, descriptor: int, length_bytes: int) -> None:
        """Cut a file's end off."""
        os.ftruncate(descriptor, length_bytes)

    def sync(self, descriptor: int) -> None:
        """Make a file's content and length durable."""
        os.fdatasync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file a name, replacing what had it, in one instant."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(files: Files, path: Path, content: bytes) -> None:
    """Replace a file's content so that every crash leaves the old or the new, whole.

    Write beside it, sync, rename, sync the directory; in this order each makes the next safe.
    Raises ``NotWritten`` while the old content certainly stands (a full disk is no damage),
    ``StorageFailed`` when nobody can say which of the two is durable.
    """
    beside = path.with_name(path.name + BESIDE)
    try:
        beside.unlink(missing_ok=True)
        descriptor = files.create(beside)
        try:
            files.write(descriptor, (content,), 0)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
    except OSError as error:
        raise NotWritten(f"{path} could not be replaced ({error}); the old one stands") from error
    try:
        files.rename(beside, path)
        files.sync_directory(path.parent)
    except OSError as error:
        raise StorageFailed(
            f"{path} was replaced, but that could not be made durable ({error}); the copy is failed"
            " and must be filled anew"
        ) from error
