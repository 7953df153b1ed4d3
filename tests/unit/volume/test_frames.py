"""Frames: whole or not a frame, whatever bit is harmed."""

from __future__ import annotations

import pytest

from aurora_operator.core.lsn import Term
from aurora_operator.volume import frames
from support.copies import at

PAYLOAD = b"log bytes of a commit"
SEED = frames.seed_of(b"s2_disk", at(0))
CONTENT = frames.encode(SEED, Term(7), at(100), at(60), PAYLOAD) + PAYLOAD


def test_a_frame_says_what_it_holds() -> None:
    frame = frames.decode(SEED, CONTENT, 0)
    assert frame is not None
    assert (frame.term, frame.lsn, frame.length_bytes) == (7, at(100), len(PAYLOAD))
    assert (frame.durable_end, frame.end) == (at(60), at(100 + len(PAYLOAD)))
    assert frame.offset_after == len(CONTENT)


def test_golden_frame() -> None:
    """The format on disk: a change of it needs a new version."""
    header = frames.encode(SEED, Term(7), at(100), at(60), b"x")
    assert header.hex() == (
        "414c6f67"  # magic
        "00000001"  # version
        "00000001"  # length
        "0000000000000007"  # term
        "0000000001000064"  # position
        "000000000100003c"  # durable end
        "25ed2fce"  # checksum
    )


@pytest.mark.parametrize("byte", range(len(CONTENT)))
def test_every_flipped_bit_is_noticed(byte: int) -> None:
    for bit in range(8):
        harmed = bytearray(CONTENT)
        harmed[byte] ^= 1 << bit
        assert frames.decode(SEED, bytes(harmed), 0) is None, f"byte {byte}, bit {bit}"


@pytest.mark.parametrize("length", range(0, len(CONTENT), 7))
def test_a_torn_frame_is_none(length: int) -> None:
    assert frames.decode(SEED, CONTENT[:length], 0) is None


def test_zeros_are_no_frame() -> None:
    assert frames.decode(SEED, bytes(4096), 0) is None


def test_later_frames_are_found_behind_a_broken_one() -> None:
    broken = CONTENT[:-1] + b"!"
    found = list(frames.find_after(SEED, broken + CONTENT, 0))
    assert [frame.offset for frame in found] == [len(broken)]


@pytest.mark.parametrize(
    "other",
    [frames.seed_of(b"s3_disk", at(0)), frames.seed_of(b"s2_disk", at(256))],
    ids=["of-another-copy", "of-another-file"],
)
def test_what_was_a_frame_elsewhere_is_none_here(other: int) -> None:
    assert frames.decode(other, CONTENT, 0) is None
    assert not list(frames.find_after(other, b"!" + CONTENT, 0))
