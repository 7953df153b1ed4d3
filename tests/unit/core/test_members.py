"""The member list: what is none, and which of several is the one."""

from __future__ import annotations

import pytest

from aurora_operator.core.members import highest
from aurora_operator.core.names import Identity
from support.copies import IDENTITIES, STRANGER, members


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(IDENTITIES[:3], id="three"),
        pytest.param((*IDENTITIES, STRANGER), id="seven"),
        pytest.param((*IDENTITIES[:5], IDENTITIES[0]), id="one-disk-twice"),
    ],
)
def test_refuses_what_is_no_list(names: tuple[Identity, ...]) -> None:
    with pytest.raises(ValueError, match=r"disk|list"):
        members(names=names)


def test_five_is_a_list_while_one_is_replaced() -> None:
    assert STRANGER not in members(names=IDENTITIES[:5])


def test_highest_goes_by_term_before_number() -> None:
    old, new = members(2, 9), members(3, 1, (STRANGER, *IDENTITIES[1:]))
    assert highest([old, new, old]) == new


def test_refuses_two_lists_of_one_version() -> None:
    with pytest.raises(ValueError, match="two member lists"):
        highest([members(3, 1), members(3, 1, (STRANGER, *IDENTITIES[1:]))])
