"""Rule 14: what a copy may forget."""

from __future__ import annotations

import pytest

from aurora_operator.agent.storage.log_removal import removable_end
from aurora_operator.core.lsn import SEGMENT_BYTES, Lsn

FAR = Lsn(100 * SEGMENT_BYTES)
REDO = Lsn(50 * SEGMENT_BYTES + 5)


@pytest.mark.parametrize(
    ("redo", "members", "expected"),
    [
        (REDO, [FAR] * 5, Lsn(50 * SEGMENT_BYTES)),
        (FAR, [FAR] * 5, Lsn(84 * SEGMENT_BYTES)),
        (FAR, [FAR] * 4 + [Lsn(7 * SEGMENT_BYTES + 1)], Lsn(7 * SEGMENT_BYTES)),
        (None, [FAR] * 5, None),
        (REDO, [FAR] * 4 + [None], None),
    ],
    ids=["page-store", "margin", "slow-member", "redo-unknown", "member-never-heard"],
)
def test_removable_end(redo: Lsn | None, members: list[Lsn | None], expected: Lsn | None) -> None:
    assert removable_end(FAR, redo, members) == expected
