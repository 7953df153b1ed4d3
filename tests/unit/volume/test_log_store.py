"""The log of a copy: contiguous, verified, cut and removed, and never guessed."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.volume.errors import (
    LogDamaged,
    LogRefused,
    LogRemoved,
    NotWritten,
    StorageFailed,
)
from aurora_operator.volume.files import Files
from aurora_operator.volume.frames import HEADER_BYTES
from aurora_operator.volume.log_store import LogStore
from support.copies import at
from support.crash import DONE, CrashingFiles, QuickFiles, every_cut

SEGMENT = 256
ONE = Term(1)


def content(offset: int, length: int) -> bytes:
    """The bytes that every test writes at ``offset``."""
    return bytes((offset + n) % 251 for n in range(length))


def reopen(directory: Path, *, floor: int = 0, files: Files | None = None) -> LogStore:
    files = files or QuickFiles()
    return LogStore.open(directory, floor=at(floor), files=files, segment_bytes=SEGMENT)


def write(store: LogStore, start: int, end: int, step: int = 40) -> None:
    for offset in range(start, end, step):
        store.append(at(offset), content(offset, min(step, end - offset)), ONE)
    store.sync()


def read_all(store: LogStore) -> bytes:
    parts: list[bytes] = []
    lsn = store.begin
    while part := store.read(lsn, 1000):
        parts.append(part)
        lsn = lsn.advanced(len(part))
    return b"".join(parts)


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return reopen(tmp_path / "log")


def test_a_new_log_is_empty(store: LogStore) -> None:
    assert (store.begin, store.end, store.durable_end) == (at(0), at(0), at(0))
    assert store.read(at(0), 10) == b""


def test_reads_what_was_written_from_anywhere(store: LogStore, tmp_path: Path) -> None:
    write(store, 0, 700)
    for again in (store, reopen(tmp_path / "log")):
        assert read_all(again) == content(0, 700)
        assert again.read(at(45), 10) == content(45, 10)
        assert again.read(at(39), 2) == content(39, 2)
        assert again.read(at(250), 100) == content(250, 6), "not across a segment"
        assert again.read(at(700), 10) == b""


def test_rule_1_only_synced_bytes_count_or_are_read(store: LogStore) -> None:
    """Mutant 4 (I1)."""
    write(store, 0, 40)
    store.append(at(40), content(40, 40), ONE)
    assert (store.end, store.durable_end) == (at(80), at(40))
    assert store.read(at(0), 80) == content(0, 40)
    assert store.sync() == at(80)


@pytest.mark.parametrize("start", [39, 41, 0])
def test_refuses_a_gap_and_an_overlap(store: LogStore, start: int) -> None:
    write(store, 0, 40)
    with pytest.raises(LogRefused, match="nothing was written"):
        store.append(at(start), b"x", ONE)
    assert store.end == at(40)


@pytest.mark.parametrize("cut", [1, 39, 40, 41, 255, 256, 257, 511, 512, 513, 699, 700])
def test_rule_5_a_cut_leaves_just_what_is_below(store: LogStore, tmp_path: Path, cut: int) -> None:
    write(store, 0, 700)
    store.truncate(at(cut))
    assert (store.end, store.durable_end) == (at(cut), at(cut))
    assert read_all(store) == content(0, cut)
    store.append(at(cut), content(cut, 300), Term(2))
    store.sync()
    again = reopen(tmp_path / "log")
    assert read_all(again) == content(0, cut + 300)
    assert [(run.term, run.begin) for run in again.term_runs] == [(1, at(0)), (2, at(cut))]


def test_cannot_cut_beyond_either_end(store: LogStore) -> None:
    write(store, 0, 40)
    for cut in (0, 41):
        with pytest.raises(ValueError, match="cannot cut"):
            store.truncate(at(cut))


def test_rule_14_removes_whole_segments_only(store: LogStore, tmp_path: Path) -> None:
    write(store, 0, 700)
    store.remove_before(at(600))
    assert store.begin == at(512)
    with pytest.raises(LogRemoved):
        store.read(at(511), 1)
    again = reopen(tmp_path / "log")
    assert (again.begin, again.end) == (at(512), at(700))
    assert read_all(again) == content(512, 188)
    store.remove_before(at(10_000))
    assert (store.begin, store.end) == (at(512), at(700)), "the last segment stays"


def test_every_crash_while_writing_keeps_what_was_synced(tmp_path: Path) -> None:
    def act(root: Path, files: Files) -> None:
        store = reopen(root / "log", files=files)
        write(store, 100, 200)
        store.append(at(200), content(200, 100), ONE)
        store.append(at(300), content(300, 10), ONE)

    cuts = 0
    for what, found in every_cut(tmp_path, lambda root: write(reopen(root / "log"), 0, 100), act):
        again = reopen(found / "log", floor=100)
        assert at(100) <= again.end <= at(310), what
        assert again.end >= at(200) or not what.startswith(DONE), what
        assert read_all(again) == content(0, again.end - at(0)), what
        cuts += 1
    assert cuts > 50


def test_rule_5_what_is_found_at_start_is_made_durable_before_it_counts(tmp_path: Path) -> None:
    """H15: the process died, the system did not, and the power goes after the restart."""
    root = tmp_path / "root"
    root.mkdir()
    files = CrashingFiles(root)
    write(reopen(root / "log", files=files), 0, 40)
    reopen(root / "log", files=files).append(at(40), content(40, 40), ONE)
    counted = reopen(root / "log", files=files).durable_end
    assert counted == at(80)
    for found in files.survivors(tmp_path):
        assert reopen(found / "log").end >= counted, found.name


@pytest.mark.parametrize("cut", [30, 256, 300, 512])
def test_every_crash_while_cutting_leaves_a_prefix(tmp_path: Path, cut: int) -> None:
    """Mutant 24 (H15): never a gap, never less than asked."""

    def act(root: Path, files: Files) -> None:
        reopen(root / "log", files=files).truncate(at(cut))

    for what, found in every_cut(tmp_path, lambda root: write(reopen(root / "log"), 0, 700), act):
        again = reopen(found / "log")
        assert at(cut) <= again.end <= at(700), what
        assert again.end == at(cut) or not what.startswith(DONE), what
        assert read_all(again) == content(0, again.end - at(0)), what
        again.truncate(at(cut))
        assert read_all(again) == content(0, cut), what


def tear(file: Path) -> None:
    """The end of the last frame never reached the disk, nor did the room behind it."""
    file.write_bytes(file.read_bytes().rstrip(b"\0")[:-5])


def test_a_torn_end_is_cut_for_good(tmp_path: Path) -> None:
    store = reopen(tmp_path / "log")
    write(store, 0, 80)
    store.append(at(80), content(80, 40), ONE)
    store.close()
    file = tmp_path / "log" / f"{int(at(0)):016X}.log"
    tear(file)
    again = reopen(tmp_path / "log", floor=80)
    assert again.end == at(80)
    assert len(file.read_bytes()) == 2 * (HEADER_BYTES + 40)


def test_room_made_ready_is_no_torn_end(tmp_path: Path) -> None:
    store = reopen(tmp_path / "log")
    write(store, 0, 40)
    store.close()
    file = tmp_path / "log" / f"{int(at(0)):016X}.log"
    found = file.read_bytes()
    assert len(found) > HEADER_BYTES + 40
    again = reopen(tmp_path / "log")
    assert again.end == at(40)
    assert file.read_bytes() == found
    write(again, 40, 300)
    assert read_all(reopen(tmp_path / "log")) == content(0, 300)
    assert len(file.read_bytes()) == SEGMENT + 7 * HEADER_BYTES, "a complete segment has no room"


def test_a_frame_whose_head_never_reached_the_disk_is_cut(tmp_path: Path) -> None:
    """Zeros first, then bytes that nothing explains: torn, and not reported by anybody."""
    store = reopen(tmp_path / "log")
    write(store, 0, 40)
    store.append(at(40), content(40, 40), ONE)
    store.close()
    file = tmp_path / "log" / f"{int(at(0)):016X}.log"
    head = slice(HEADER_BYTES + 40, 2 * HEADER_BYTES + 50)
    harmed = bytearray(file.read_bytes())
    harmed[head] = bytes(head.stop - head.start)
    file.write_bytes(harmed)
    again = reopen(tmp_path / "log", floor=40)
    assert again.end == at(40)
    assert len(file.read_bytes()) == HEADER_BYTES + 40


def test_without_space_for_room_the_frame_alone_is_written(tmp_path: Path) -> None:
    class Narrow(QuickFiles):
        def write(self, descriptor: int, parts: Sequence[bytes], offset: int) -> None:
            if len(parts) > 2:
                super().write(descriptor, (*parts[:2], parts[2][:7]), offset)
                raise OSError(errno.ENOSPC, "no space for that")
            super().write(descriptor, parts, offset)

    store = reopen(tmp_path / "log", files=Narrow())
    write(store, 0, 300)
    file = tmp_path / "log" / f"{int(at(256)):016X}.log"
    assert len(file.read_bytes()) == HEADER_BYTES * 2 + 44
    assert read_all(reopen(tmp_path / "log")) == content(0, 300)


def test_a_frame_that_a_user_stored_is_not_taken_for_one_of_the_log(tmp_path: Path) -> None:
    """A row may hold a piece of some other log: torn, it is no witness of lost bytes (I5)."""
    other = tmp_path / "other"
    log = reopen(other)
    for start in range(0, 160, 40):
        write(log, start, start + 40)
    image = (other / f"{int(at(0)):016X}.log").read_bytes()
    piece = image[3 * (HEADER_BYTES + 40) :]
    store = LogStore.open(
        tmp_path / "log", files=QuickFiles(), segment_bytes=SEGMENT, salt=b"this copy"
    )
    write(store, 0, 80)
    store.append(at(80), piece + b"the rest of the row", ONE)
    store.close()
    file = tmp_path / "log" / f"{int(at(0)):016X}.log"
    tear(file)
    again = LogStore.open(
        tmp_path / "log", floor=at(80), files=QuickFiles(), segment_bytes=SEGMENT, salt=b"this copy"
    )
    assert again.end == at(80)


def harm(directory: Path, segment: int, byte: int) -> None:
    file = directory / f"{int(at(segment)):016X}.log"
    harmed = bytearray(file.read_bytes())
    harmed[byte] ^= 0x10
    file.write_bytes(harmed)


@pytest.mark.parametrize(
    ("segment", "byte"),
    [
        pytest.param(0, 50, id="older-segment"),
        pytest.param(512, 10, id="last-segment-first-frame"),
        pytest.param(512, HEADER_BYTES + 45, id="last-segment-second-frame"),
    ],
)
def test_a_flipped_bit_in_durable_log_is_damage(tmp_path: Path, segment: int, byte: int) -> None:
    """I5: what was acknowledged once is never taken for a torn end."""
    store = reopen(tmp_path / "log")
    for end in (200, 512, 560, 600, 640):
        write(store, int(store.end - at(0)), end)
    store.close()
    harm(tmp_path / "log", segment, byte)
    with pytest.raises(LogDamaged, match="filled"):
        reopen(tmp_path / "log")


def test_a_flipped_bit_is_not_served(tmp_path: Path) -> None:
    store = reopen(tmp_path / "log")
    write(store, 0, 200)
    harm(tmp_path / "log", 0, HEADER_BYTES + 3)
    with pytest.raises(LogDamaged):
        store.read(at(0), 10)
    with pytest.raises(StorageFailed):
        store.append(at(200), b"x", ONE)


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    write(reopen(tmp_path / "log"), 0, 700)
    (tmp_path / "log" / f"{int(at(256)):016X}.log").unlink()
    with pytest.raises(LogDamaged, match="missing"):
        reopen(tmp_path / "log")


def test_a_log_below_its_floor_is_damage(tmp_path: Path) -> None:
    """H17: a disk that lied, or a volume from an old snapshot."""
    write(reopen(tmp_path / "log"), 0, 100)
    with pytest.raises(LogDamaged, match="durable up to"):
        reopen(tmp_path / "log", floor=101)


class FailingFiles(QuickFiles):
    """Operations that fail when told to."""

    def __init__(self) -> None:
        self.failing: set[str] = set()

    def _check(self, name: str, number: int) -> None:
        if name in self.failing:
            raise OSError(number, "injected")

    def create(self, path: Path) -> int:
        self._check("create", errno.ENOSPC)
        return super().create(path)

    def write(self, descriptor: int, parts: Sequence[bytes], offset: int) -> None:
        if "write" in self.failing:
            super().write(descriptor, (parts[0][:10],), offset)
        self._check("write", errno.ENOSPC)
        super().write(descriptor, parts, offset)

    def shorten(self, descriptor: int, length_bytes: int) -> None:
        self._check("shorten", errno.EIO)
        super().shorten(descriptor, length_bytes)

    def sync(self, descriptor: int) -> None:
        self._check("sync", errno.EIO)
        super().sync(descriptor)


def test_rule_5_a_failed_fsync_is_final(tmp_path: Path) -> None:
    """Mutant 3: the second fsync would succeed and mean nothing."""
    files = FailingFiles()
    store = reopen(tmp_path / "log", files=files)
    store.append(at(0), content(0, 40), ONE)
    files.failing = {"sync"}
    with pytest.raises(StorageFailed):
        store.sync()
    files.failing = set()
    for use in (
        store.sync,
        lambda: store.append(at(40), b"x", ONE),
        lambda: store.read(at(0), 1),
        lambda: store.truncate(at(10)),
        lambda: store.remove_before(at(10)),
    ):
        with pytest.raises(StorageFailed):
            use()


@pytest.mark.parametrize("full_at", ["create", "write"])
def test_a_full_disk_is_no_damage(tmp_path: Path, full_at: str) -> None:
    files = FailingFiles()
    store = reopen(tmp_path / "log", files=files)
    write(store, 0, 240)
    files.failing = {full_at}
    with pytest.raises(NotWritten, match="room"):
        write(store, 240, 300)
    files.failing = set()
    reached = store.end
    assert at(240) <= reached <= at(256)
    write(store, int(reached - at(0)), 300)
    assert read_all(reopen(tmp_path / "log")) == content(0, 300)


def test_a_cut_on_a_full_disk_waits_for_room(tmp_path: Path) -> None:
    files = FailingFiles()
    store = reopen(tmp_path / "log", files=files)
    write(store, 0, 600)
    files.failing = {"create"}
    with pytest.raises(NotWritten, match="room"):
        store.truncate(at(100))
    assert read_all(store) == content(0, 256), "later segments are gone already"
    files.failing = set()
    store.truncate(at(100))
    assert read_all(reopen(tmp_path / "log")) == content(0, 100)


def test_a_write_that_cannot_be_taken_back_is_final(tmp_path: Path) -> None:
    files = FailingFiles()
    store = reopen(tmp_path / "log", files=files)
    write(store, 0, 40)
    files.failing = {"write", "shorten"}
    with pytest.raises(StorageFailed):
        store.append(at(40), b"x", ONE)
    assert store.failure is not None


def test_a_large_piece_is_split(tmp_path: Path) -> None:
    store = LogStore.open(tmp_path / "log")
    data = content(0, 3_000_000)
    store.append(at(0), data, ONE)
    store.sync()
    assert read_back(store, Lsn(at(0)), len(data)) == data


def read_back(store: LogStore, lsn: Lsn, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        parts += store.read(lsn.advanced(len(parts)), 1_000_000)
    return parts
