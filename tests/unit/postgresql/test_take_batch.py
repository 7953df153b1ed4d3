"""What is left of a batch that could be taken in part only."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from aurora_operator.core.birth import VolumeRecord, born_record
from aurora_operator.core.copy import Adoption, CopyState
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import Slot, VolumeId
from aurora_operator.engines.postgresql import wire
from aurora_operator.engines.postgresql.log_client import LogEvent
from aurora_operator.engines.postgresql.log_fetch import take_batch
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import LogRefused, NotWritten, StorageFailed
from support.copies import IDENTITIES, at, history, members, promise
from support.crash import QuickFiles

SEGMENT = 512
TWO = Term(2)


class SmallDisk(QuickFiles):
    """Has room for so many more bytes, and may fail to sync."""

    room_bytes = 1_000_000
    broken = False

    def write(self, descriptor: int, parts: Sequence[bytes], offset: int) -> None:
        size = sum(map(len, parts))
        if size > self.room_bytes:
            raise OSError(errno.ENOSPC, "no room")
        self.room_bytes -= size
        super().write(descriptor, parts, offset)

    def sync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(errno.EIO, "the disk does not answer")


@pytest.fixture
def disk() -> SmallDisk:
    return SmallDisk()


@pytest.fixture
def copy(tmp_path: Path, disk: SmallDisk) -> CopyStore:
    """A copy at byte 100 that follows the writer of term 2."""
    store = CopyStore.open(tmp_path, IDENTITIES[0], Slot(0), files=disk, segment_bytes=SEGMENT)
    store.begin_fill()
    store.append(at(0), bytes(100), Term(1))
    volume = VolumeRecord(VolumeId("volume"), IDENTITIES)
    store.complete_birth(born_record(volume, Slot(0), "7000000000000000001", at(100)))
    assert store.promise(promise(2), lambda: None) is None
    store.adopt(Adoption(promise(2), history((1, 0), (2, 100)), at(110), members()))
    return store


def sent(start: Lsn, end: Lsn) -> wire.LogData:
    return wire.LogData(start, end, bytes(range(end - start)))


def test_a_full_disk_in_the_middle_of_a_batch_leaves_what_came_before(
    copy: CopyStore, disk: SmallDisk
) -> None:
    """The rest comes when there is room: the copy asks from the end of what it has."""
    disk.room_bytes = 100
    batch: list[LogEvent] = [sent(at(100), at(130)), sent(at(130), at(160))]
    with pytest.raises(NotWritten, match="room"):
        take_batch(copy, batch, TWO)
    assert copy.scl() == at(130)
    disk.room_bytes = 1_000_000
    take_batch(copy, [sent(copy.scl(), at(160))], TWO)
    assert copy.scl() == at(160)


def test_a_full_disk_in_the_middle_of_one_piece_leaves_its_first_frame(
    copy: CopyStore, disk: SmallDisk
) -> None:
    """The piece crosses a segment; only its first part finds room."""
    take_batch(copy, [sent(at(100), at(300)), sent(at(300), at(500))], TWO)
    disk.room_bytes = 60
    with pytest.raises(NotWritten, match="room"):
        take_batch(copy, [sent(at(500), at(600))], TWO)
    assert copy.scl() == at(SEGMENT)
    disk.room_bytes = 1_000_000
    take_batch(copy, [sent(copy.scl(), at(600))], TWO)
    assert copy.scl() == at(600)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        pytest.param(sent(at(131), at(160)), wire.WireError, id="gap"),
        pytest.param(sent(at(130), at(160)), LogRefused, id="refused"),
    ],
)
def test_a_piece_that_does_not_fit_leaves_what_came_before(
    copy: CopyStore, monkeypatch: pytest.MonkeyPatch, bad: wire.LogData, error: type[Exception]
) -> None:
    append = copy.append

    def refuse_at_130(lsn: Lsn, data: bytes, term: Term) -> None:
        if lsn == at(130):
            raise LogRefused("not of this term")
        append(lsn, data, term)

    monkeypatch.setattr(copy, "append", refuse_at_130)
    with pytest.raises(error):
        take_batch(copy, [sent(at(100), at(130)), bad], TWO)
    monkeypatch.undo()
    assert copy.scl() == at(130)
    take_batch(copy, [sent(copy.scl(), at(160))], TWO)
    assert copy.scl() == at(160)


def test_a_disk_that_fails_is_not_taken_for_a_full_one(copy: CopyStore, disk: SmallDisk) -> None:
    """The full disk is met first, the failed sync after it: the copy has failed."""
    disk.room_bytes = 100
    disk.broken = True
    with pytest.raises(StorageFailed):
        take_batch(copy, [sent(at(100), at(130)), sent(at(130), at(160))], TWO)
    assert copy.state is CopyState.FAILED
