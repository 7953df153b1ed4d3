"""Quorums: which policies are refused, and where the durable position lies."""

from __future__ import annotations

import pytest

from aurora_operator.core.quorum import AURORA_QUORUM, QuorumPolicy, volume_durable_lsn
from support.copies import at


@pytest.mark.parametrize(
    ("copies", "write", "read", "reason"),
    [
        pytest.param(6, 3, 3, "W \\+ R > V", id="write-and-read-need-not-meet"),
        pytest.param(6, 3, 4, "2W > V", id="two-writers-need-not-meet"),
        pytest.param(6, 4, 2, "W \\+ R > V", id="two-readers-miss-a-write"),
        pytest.param(3, 4, 1, "at least one copy", id="more-than-there-are"),
        pytest.param(3, 3, 0, "at least one copy", id="nobody-reads"),
    ],
)
def test_refuses_policies_that_lose_data(copies: int, write: int, read: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        QuorumPolicy(copies, write, read)


@pytest.mark.parametrize(
    ("scls", "durable"),
    [
        pytest.param([], None, id="nobody"),
        pytest.param([9, 9, 9], None, id="three-are-no-quorum"),
        pytest.param([1, 2, 3, 4], 1, id="four-the-lowest"),
        pytest.param([10, 20, 30, 40, 50, 60], 30, id="six-the-fourth"),
        pytest.param([100, 100, 100, 7, 0, 0], 7, id="three-ahead"),
    ],
)
def test_rule_1_durable_is_what_four_hold(scls: list[int], durable: int | None) -> None:
    found = volume_durable_lsn([at(scl) for scl in scls], AURORA_QUORUM)
    assert found == (None if durable is None else at(durable))
