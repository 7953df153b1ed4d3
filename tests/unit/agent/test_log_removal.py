"""Rule 14: what a copy may forget."""

from __future__ import annotations

import pytest

from aurora_operator.agent.storage.log_removal import removable_end
from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn

FAR = Lsn(100 * SEGMENT_BYTES)
REDO = Lsn(50 * SEGMENT_BYTES + 5)


@pytest.mark.parametrize(
    ("redo", "members", "nearly_full", "expected"),
    [
        (REDO, [FAR] * 5, False, Lsn(50 * SEGMENT_BYTES)),
        (FAR, [FAR] * 5, False, Lsn(84 * SEGMENT_BYTES)),
        (FAR, [FAR] * 4 + [Lsn(7 * SEGMENT_BYTES + 1)], False, Lsn(7 * SEGMENT_BYTES)),
        (None, [FAR] * 5, False, None),
        (REDO, [FAR] * 4 + [None], False, None),
        (REDO, [FAR] * 4 + [None], True, Lsn(50 * SEGMENT_BYTES)),
        (FAR, [FAR] * 4 + [REDO], True, Lsn(84 * SEGMENT_BYTES)),
        (None, [FAR] * 5, True, None),
    ],
    ids=[
        "page-store",
        "margin",
        "slow-member",
        "redo-unknown",
        "member-never-heard",
        "full-and-never-heard",
        "full-and-slow",
        "full-and-redo-unknown",
    ],
)
def test_rule_14_log_is_kept_for_absent_members_while_there_is_room(
    redo: Lsn | None, members: list[Lsn | None], nearly_full: bool, expected: Lsn | None
) -> None:
    assert removable_end(FAR, redo, members, nearly_full=nearly_full) == expected
