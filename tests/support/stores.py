"""A small copy on a disk: born, filled, following a writer; and a disk that fails when told to."""

from __future__ import annotations

from pathlib import Path

from aurora_operator.core.birth import VolumeRecord, born_record
from aurora_operator.core.copy import Adoption, Follow
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Slot, VolumeId
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.files import Files
from support.copies import IDENTITIES, at, history, members, promise
from support.crash import QuickFiles

SEGMENT = 256
SLOT = Slot(2)
VOLUME = VolumeRecord(VolumeId("volume"), IDENTITIES)
BORN_END = 100
SEVEN = history((1, 0), (7, 90))
"""The history that copies adopt here: term 7 forks below the end of the formatted log."""


def content(offset: int, length: int) -> bytes:
    return bytes((offset + n) % 251 for n in range(length))


def reopen(root: Path, files: Files | None = None) -> CopyStore:
    return CopyStore.open(
        root, IDENTITIES[2], SLOT, files=files or QuickFiles(), segment_bytes=SEGMENT
    )


def bear(store: CopyStore, length: int = BORN_END) -> None:
    store.begin_fill()
    store.append(at(0), content(0, length), Term(1))
    store.complete_birth(born_record(VOLUME, SLOT, "7000000000000000001", at(length)))


def born(root: Path, files: Files | None = None) -> CopyStore:
    store = reopen(root, files)
    bear(store)
    return store


def adoption(term: int = 7, fork: int = 90) -> Adoption:
    terms = history((1, 0), (term, fork))
    return Adoption(promise(term), terms, at(fork + 10), members())


def following(root: Path, files: Files | None = None) -> CopyStore:
    """A copy that promised and adopted term 7."""
    store = born(root, files)
    assert store.promise(promise(7), lambda: None) is None
    assert store.adopt(adoption()) == Follow(at(90), Term(1))
    return store


def write(store: CopyStore, start: int, end: int, term: int) -> None:
    store.append(at(start), content(start, end - start), Term(term))
    store.sync()


def read_all(store: CopyStore) -> bytes:
    parts = b""
    while part := store.read(at(len(parts)), 1000):
        parts += part
    return parts


class FailingFiles(QuickFiles):
    """Operations that fail when told to."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        """Operations whose next call fails, and with what."""

    def _check(self, name: str) -> None:
        if name in self.failing:
            raise OSError(self.failing.pop(name), "injected")

    def create(self, path: Path) -> int:
        self._check("create")
        return super().create(path)

    def sync(self, descriptor: int) -> None:
        self._check("sync")

    def rename(self, source: Path, target: Path) -> None:
        self._check("rename")
        super().rename(source, target)
