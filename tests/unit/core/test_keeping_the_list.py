"""What a copy does with a member list that somebody asks it to keep, and with one it is not on."""

from __future__ import annotations

import pytest

from aurora_operator.core.copy import (
    Adoption,
    CopyState,
    CopyView,
    Promise,
    decide_adoption,
    decide_members,
)
from aurora_operator.core.members import MemberList
from aurora_operator.core.verdicts import Refuse
from support.copies import IDENTITIES, STRANGER, at, full, history, members, promise, without_say

WRITER = promise(7)
FIVE = members(7, 1, IDENTITIES[:5])
COPY = full(1, promised=WRITER, listed=members(5, 3))


@pytest.mark.parametrize(
    ("copy", "writer", "asked", "kept"),
    [
        pytest.param(COPY, WRITER, FIVE, True, id="a-newer-list"),
        pytest.param(COPY, WRITER, members(5, 3), True, id="the-same-list-again"),
        pytest.param(COPY, promise(6), FIVE, False, id="H1-of-a-superseded-writer"),
        pytest.param(COPY, promise(7, "other"), FIVE, False, id="H1-of-another-attempt"),
        pytest.param(COPY, promise(8), FIVE, False, id="of-a-writer-without-its-promise"),
        pytest.param(COPY, WRITER, members(5, 2), False, id="H1-an-older-list"),
        pytest.param(
            COPY,
            WRITER,
            members(5, 3, (STRANGER, *IDENTITIES[1:])),
            False,
            id="another-list-of-its-version",
        ),
        pytest.param(
            COPY, WRITER, members(7, 1, (IDENTITIES[0], *IDENTITIES[2:])), False, id="not-on-it"
        ),
        pytest.param(without_say(CopyState.FILLING, 1), WRITER, FIVE, False, id="not-full"),
    ],
)
def test_rule_8_whose_list_is_kept(
    copy: CopyView, writer: Promise, asked: MemberList, kept: bool
) -> None:
    verdict = decide_members(copy, writer, asked)
    assert verdict == asked if kept else isinstance(verdict, Refuse)


@pytest.mark.parametrize(
    ("own_list", "asked_list", "follows"),
    [
        pytest.param(members(), members(7, 1, IDENTITIES[1:]), False, id="taken-out-meanwhile"),
        pytest.param(members(), members(), True, id="a-member"),
        pytest.param(
            members(5, 1, IDENTITIES[1:]),
            members(5, 1, IDENTITIES[1:]),
            True,
            id="on-its-way-in-and-never-listed",
        ),
    ],
)
def test_rule_8_a_removed_copy_never_follows_again(
    own_list: MemberList, asked_list: MemberList, follows: bool
) -> None:
    own = full(0, promised=WRITER, scl=50, listed=own_list)
    asked = Adoption(WRITER, history((1, 0), (7, 60)), at(70), asked_list)
    verdict = decide_adoption(own, asked)
    assert isinstance(verdict, tuple) is follows
    if isinstance(verdict, Refuse):
        assert "for ever" in verdict.sentence
