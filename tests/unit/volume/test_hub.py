"""The hub's state: members' positions in, the VDL out when it moved."""

from __future__ import annotations

import pytest

from aurora_operator.core.copy import Position
from aurora_operator.core.following import WriterFacts
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Identity
from aurora_operator.core.opening import Opened
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.verdicts import Wait
from aurora_operator.volume.hub import Hub
from support.copies import IDENTITIES, STRANGER, at, history, members, promise, vdl


def position(name: Identity, scl: int, *, promised: int = 7, log: int = 7) -> Position:
    return Position(name, Term(promised), Term(log), at(scl))


@pytest.fixture
def hub() -> Hub:
    writer = WriterFacts(promise(7), history((1, 0), (7, 60)), at(70), members())
    return Hub(writer, AURORA_QUORUM)


def test_rule_7_the_vdl_moves_when_the_fourth_copy_does(hub: Hub) -> None:
    moved = [hub.hear(position(IDENTITIES[slot], 80 + slot)) for slot in range(5)]
    assert moved == [False, False, False, True, True]
    assert hub.vdl == vdl(7, 81)
    assert not hub.hear(position(IDENTITIES[4], 90)), "not the fourth"
    assert hub.counting == 5


def test_rule_7_the_hub_counts_members_only(hub: Hub) -> None:
    """Mutant 19 (H20)."""
    for slot in range(3):
        hub.hear(position(IDENTITIES[slot], 90))
    assert not hub.hear(position(STRANGER, 90))
    assert STRANGER not in hub.positions
    assert hub.vdl is None


def test_rule_6_the_door_stays_shut_until_four_hold_what_must_be_held(hub: Hub) -> None:
    """I4."""
    for slot in range(3):
        hub.hear(position(IDENTITIES[slot], 90))
    hub.hear(position(IDENTITIES[3], 90, log=1))
    assert isinstance(hub.may_open(at(70)), Wait)
    hub.hear(position(IDENTITIES[3], 75))
    assert isinstance(hub.may_open(at(80)), Wait)
    opened = hub.may_open(at(70))
    assert isinstance(opened, Opened)
    assert opened.vdl == at(75)


def test_rule_7_the_vdl_does_not_go_back_when_a_copy_leaves(hub: Hub) -> None:
    for slot in range(4):
        hub.hear(position(IDENTITIES[slot], 90))
    assert not hub.hear(position(IDENTITIES[3], 90, promised=8))
    assert hub.vdl == vdl(7, 90)
    assert hub.counting == 3
