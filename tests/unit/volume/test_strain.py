"""What the disk did a moment ago is told for a moment."""

from __future__ import annotations

from aurora_operator.volume.strain import Strain


def test_a_refusal_is_told_while_it_is_repeated() -> None:
    now = 0.0
    strain = Strain(lambda: now)
    assert strain.refusal is None
    strain.note_refusal("no space")
    now = 4.9
    assert strain.refusal == "no space"
    now = 5.0
    assert strain.refusal is None


def test_long_fsyncs_are_told_and_short_ones_are_not() -> None:
    now = 0.0
    strain = Strain(lambda: now)
    for seconds in (0.3, 0.4, 0.3, 0.5):
        strain.note_sync(seconds)
        assert strain.long_sync_seconds == 0.0, "a few may be chance"
    strain.note_sync(0.6)
    assert strain.long_sync_seconds == 0.3
    strain.note_sync(0.001)
    assert strain.long_sync_seconds == 0.0
    for _ in range(5):
        strain.note_sync(0.5)
    assert strain.long_sync_seconds == 0.5
    now = 5.0
    assert strain.long_sync_seconds == 0.0
