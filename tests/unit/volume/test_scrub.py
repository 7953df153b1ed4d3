"""Reading a log again: every broken bit of what is durable is found, and mended in one instant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aurora_operator.core.copy import CopyState, CopyView
from aurora_operator.core.lsn import Term
from aurora_operator.core.scrub import PASS_SECONDS_MAX, Damage, pause_seconds, repair_sources
from aurora_operator.volume.errors import LogRefused
from aurora_operator.volume.files import Files
from aurora_operator.volume.frames import HEADER_BYTES, Frame, decode, seed_of
from aurora_operator.volume.log_store import LogStore
from aurora_operator.volume.scrub import Walk, examine
from aurora_operator.volume.segment import segment_path
from support.copies import at, full, history, vdl, without_say
from support.crash import DONE, QuickFiles, every_cut

SEGMENT = 256
FRAME = 40
ONE = Term(1)
FILES = QuickFiles()


def content(offset: int, length: int) -> bytes:
    return bytes((offset + n) % 251 for n in range(length))


def write(store: LogStore, start: int, end: int) -> None:
    for offset in range(start, end, FRAME):
        store.append(at(offset), content(offset, min(FRAME, end - offset)), ONE)
    store.sync()


def opened(root: Path, files: Files = FILES) -> LogStore:
    return LogStore.open(root / "log", files=files, segment_bytes=SEGMENT, salt=b"own")


def read_all(store: LogStore) -> bytes:
    parts: list[bytes] = []
    lsn = store.begin
    while part := store.read(lsn, 1000):
        parts.append(part)
        lsn = lsn.advanced(len(part))
    return b"".join(parts)


def walk_once(store: LogStore, walk: Walk | None = None) -> Damage | None:
    """One pass, up to the first damage."""
    walk = walk or Walk()
    while (piece := walk.next_piece(store)) is not None:
        damage = walk.take(store, piece, examine(FILES, piece))
        if damage is not None:
            return damage
    return None


def flip(root: Path, segment: int, offset: int, bit: int = 0) -> None:
    path = segment_path(root / "log", at(segment * SEGMENT))
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def mend(store: LogStore, damage: Damage) -> None:
    begin, length = damage.begin - at(0), damage.end - damage.begin
    store.repair(damage.begin, [(ONE, content(begin, length))])


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    """Two complete segments and a third with 188 bytes."""
    made = opened(tmp_path)
    write(made, 0, 700)
    return made


def test_a_whole_log_is_walked_over_again_and_again(store: LogStore) -> None:
    walk = Walk()
    for passes in (1, 2):
        assert walk_once(store, walk) is None
        assert walk.passes == passes
    write(store, 700, 1300)
    store.remove_before(at(600))
    assert walk_once(store, walk) is None


REGIONS = {
    "magic": 0,
    "version": 5,
    "length": 10,
    "term": 15,
    "position": 20,
    "durable-end": 30,
    "checksum": HEADER_BYTES - 1,
    "payload": HEADER_BYTES,
}


@pytest.mark.parametrize("segment", [0, 1, 2], ids=["oldest", "middle", "last"])
def test_a_flipped_bit_is_found_and_mended_wherever_it_is(
    store: LogStore, tmp_path: Path, segment: int
) -> None:
    walk = Walk()
    read_all(store)  # segments stay open for reading; they must not outlive their repair
    for number in (0, 1, 3):
        for region, place in REGIONS.items():
            frame = frames_of(tmp_path, segment)[number]
            flip(tmp_path, segment, frame.offset + place, bit=number)
            damage = walk_once(store, walk)
            assert damage == Damage(frame.lsn, frame.end), f"{region} of frame {number}"
            mend(store, damage)
            assert walk_once(store, walk) is None
            assert read_all(store) == content(0, 700)
    write(store, 700, 800)
    assert read_all(opened(tmp_path)) == content(0, 800)


def frames_of(root: Path, segment: int) -> list[Frame]:
    start = at(segment * SEGMENT)
    data, offset, found = segment_path(root / "log", start).read_bytes(), 0, []
    while (frame := decode(seed_of(b"own", start), data, offset)) is not None:
        found.append(frame)
        offset = frame.offset_after
    return found


def test_the_last_bytes_of_a_complete_segment_are_mended_too(
    store: LogStore, tmp_path: Path
) -> None:
    last = frames_of(tmp_path, 1)[-1]
    flip(tmp_path, 1, last.offset_after - 1)
    damage = Damage(last.lsn, at(2 * SEGMENT))
    assert walk_once(store) == damage
    mend(store, damage)
    assert read_all(opened(tmp_path)) == content(0, 700)


def test_two_damages_in_one_segment_are_mended_one_after_the_other(
    store: LogStore, tmp_path: Path
) -> None:
    offsets = [frame.offset for frame in frames_of(tmp_path, 0)]
    for frame in (1, 4):
        flip(tmp_path, 0, offsets[frame] + 3)
    walk = Walk()
    for begin in (FRAME, 4 * FRAME):
        damage = walk_once(store, walk)
        assert damage == Damage(at(begin), at(begin + FRAME))
        mend(store, damage)
    assert walk_once(store, walk) is None
    assert read_all(opened(tmp_path)) == content(0, 700)


def test_what_is_not_durable_is_nobodys_and_is_found_once_it_is(
    store: LogStore, tmp_path: Path
) -> None:
    store.append(at(700), content(700, FRAME), ONE)
    flip(tmp_path, 2, frames_of(tmp_path, 2)[-1].offset_after - 1)
    assert walk_once(store) is None
    store.sync()
    assert walk_once(store) == Damage(at(700), at(740))


@pytest.mark.parametrize("segment", [0, 2], ids=["complete", "active"])
def test_a_repair_in_other_frames_moves_what_lies_behind(
    store: LogStore, tmp_path: Path, segment: int
) -> None:
    """A peer's bytes come in pieces of other lengths, and terms may end among them."""
    frame = frames_of(tmp_path, segment)[1]
    flip(tmp_path, segment, frame.offset)
    begin = frame.lsn - at(0)
    pieces = [(ONE, content(begin + n, min(15, FRAME - n))) for n in range(0, FRAME, 15)]
    store.repair(frame.lsn, pieces)
    assert read_all(store) == content(0, 700)
    write(store, 700, 800)
    assert read_all(store) == read_all(opened(tmp_path)) == content(0, 800)


def test_a_frame_that_is_missing_is_damage(store: LogStore, tmp_path: Path) -> None:
    """All frames have their checksums, but a write never reached the disk."""
    path = segment_path(tmp_path / "log", at(SEGMENT))
    frames, data = frames_of(tmp_path, 1), path.read_bytes()
    path.write_bytes(data[: frames[2].offset] + data[frames[3].offset :])
    damage = Damage(frames[2].lsn, frames[3].lsn)
    assert walk_once(store) == damage
    mend(store, damage)
    assert read_all(opened(tmp_path)) == content(0, 700)


def test_damage_that_was_cut_off_meanwhile_is_none(store: LogStore, tmp_path: Path) -> None:
    walk = Walk()
    flip(tmp_path, 0, frames_of(tmp_path, 0)[3].offset)
    first = walk.next_piece(store)
    assert first is not None
    assert walk.take(store, first, examine(FILES, first)) is None
    piece = walk.next_piece(store)
    assert piece is not None
    seen = examine(FILES, piece)
    assert seen.damage is not None
    store.truncate(at(90))
    assert walk.take(store, piece, seen) is None


def test_a_cut_between_reading_and_taking_is_no_damage(store: LogStore) -> None:
    walk = Walk()
    piece = walk.next_piece(store)
    assert piece is not None
    seen = examine(FILES, piece)
    store.truncate(at(90))
    write(store, 90, 400)
    assert walk.take(store, piece, seen) is None
    assert walk_once(store, walk) is None


def test_a_walk_in_the_middle_begins_its_segment_anew_after_a_cut(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame that holds the cut is shorter now: what follows begins elsewhere."""
    monkeypatch.setattr("aurora_operator.volume.scrub.PIECE_BYTES", 100)
    walk = Walk()
    while (piece := walk.next_piece(store)) is not None and piece.lsn <= at(310):
        walk.take(store, piece, examine(FILES, piece))
    store.truncate(at(300))
    write(store, 300, 400)
    assert walk_once(store, walk) is None


def test_a_removed_segment_is_not_waited_for(store: LogStore, tmp_path: Path) -> None:
    walk = Walk()
    piece = walk.next_piece(store)
    assert piece is not None
    store.remove_before(at(600))
    with pytest.raises(FileNotFoundError):
        examine(FILES, piece)
    assert walk_once(store, walk) is None


@pytest.mark.parametrize(
    ("begin", "length"), [(690, 20), (200, 100), (700, 10), (45, 10)],
    ids=["beyond-the-end", "two-segments", "nothing-there", "inside-a-frame"],
)  # fmt: skip
def test_only_what_lies_in_one_segment_and_is_durable_is_replaced(
    store: LogStore, begin: int, length: int
) -> None:
    with pytest.raises(LogRefused):
        store.repair(at(begin), [(ONE, content(begin, length))])
    assert read_all(store) == content(0, 700)


@pytest.mark.parametrize("segment", [0, 2], ids=["complete", "active"])
def test_every_crash_while_mending_leaves_the_damage_or_the_whole(
    tmp_path: Path, segment: int
) -> None:
    def before(root: Path) -> None:
        write(opened(root), 0, 700)

    def act(root: Path, files: Files) -> None:
        log = opened(root, files)
        damaged = frames_of(root, segment)[1]
        flip(root, segment, damaged.offset + 2)
        mend(log, Damage(damaged.lsn, damaged.end))

    seen = set()
    for what, found in every_cut(tmp_path, before, act):
        names = [path.name for path in (found / "log").glob("*.log")]
        assert len(names) == 3, what
        whole = len(frames_of(found, segment))
        seen.add(whole)
        if what.startswith(DONE):
            assert read_all(opened(found)) == content(0, 700)
    assert len(seen) == 2, "neither the damaged segment nor the repaired one was seen"


OWN = full(0, scl=300, terms=history((1, 0), (3, 100)), promised=3)
PEER_TERMS = history((1, 0), (3, 100))
OTHER = history((1, 0), (2, 95), (3, 110))


def peer_like(**changes: Any) -> CopyView:
    facts = {"scl": 300, "terms": PEER_TERMS, "promised": 3, "known": vdl(3, 200)}
    return full(1, **(facts | changes))


@pytest.mark.parametrize(
    ("own", "peer", "usable"),
    [
        pytest.param(OWN, peer_like(), True, id="has-it"),
        pytest.param(OWN, peer_like(known=vdl(3, 119)), False, id="not-served-so-far"),
        pytest.param(OWN, peer_like(log_start=91), False, id="removed-there"),
        pytest.param(OWN, peer_like(scl=110), False, id="shorter"),
        pytest.param(OWN, peer_like(terms=OTHER), False, id="other-bytes-there"),
        pytest.param(OWN, without_say(CopyState.BLANK, 1), False, id="blank"),
        pytest.param(replace(OWN, record=None), peer_like(), False, id="own-history-unknown"),
    ],
)
def test_a_piece_comes_from_where_it_is_durable_and_the_same(
    own: CopyView, peer: CopyView, usable: bool
) -> None:
    assert repair_sources(own, Damage(at(90), at(120)), [peer]) == ((1,) if usable else ())


def test_the_rate_reads_any_log_within_a_day() -> None:
    for log_bytes in (1, 2**30, 2**50):
        assert log_bytes * pause_seconds(log_bytes, 1) <= PASS_SECONDS_MAX + 1
    assert pause_seconds(1, 2**20) == 1.0
