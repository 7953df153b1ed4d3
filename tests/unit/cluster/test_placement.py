"""Slots over zones: two a zone where there are three, never moved, and said plainly otherwise."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_operator.core.cluster.observation import NodeView
from aurora_operator.core.cluster.placement import describe_spread, place_slots
from aurora_operator.core.names import Slot
from support.observations import NODES, claim, claims

nodes_of_zones = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.booleans()), max_size=12
).map(
    lambda drawn: [
        NodeView(f"node-{number}", zone, schedulable=schedulable)
        for number, (zone, schedulable) in enumerate(drawn)
    ]
)


@given(nodes_of_zones)
def test_slots_are_even_over_at_most_three_zones(nodes: list[NodeView]) -> None:
    zones = {node.zone for node in nodes if node.zone and node.schedulable}
    load = Counter(place_slots(nodes, {}).values())
    assert sum(load.values()) == 6
    if not zones:
        assert load == {None: 6}
        return
    assert set(load) <= zones
    assert len(load) == min(3, len(zones))
    assert max(load.values()) - min(load.values()) <= 1 or len(load) == 1


@given(nodes_of_zones, st.sets(st.integers(0, 5)))
def test_a_slot_with_a_claim_never_moves(nodes: list[NodeView], kept: set[int]) -> None:
    existing = {Slot(slot): claim(slot) for slot in kept}
    placed = place_slots(nodes, existing)
    assert all(placed[slot] == existing[slot].zone for slot in existing)


@given(nodes_of_zones)
def test_placing_again_after_each_claim_gives_the_same(nodes: list[NodeView]) -> None:
    whole = place_slots(nodes, {})
    existing = {}
    for slot, zone in whole.items():
        assert place_slots(nodes, existing) == whole
        existing[slot] = claim(slot, zone=zone)


SPREADS = {
    "three-zones": (["a", "a", "b", "b", "c", "c"], True, "ThreeZones"),
    "two-zones": (["a", "a", "a", "b", "b", "b"], False, "FewerThanThreeZones"),
    "one-zone": (["a"] * 6, False, "FewerThanThreeZones"),
    "no-zones": ([None] * 6, False, "NoZones"),
    "three-but-uneven": (["a", "a", "a", "b", "b", "c"], False, "FewerThanThreeZones"),
}


@pytest.mark.parametrize("case", SPREADS)
def test_the_spread_is_told(case: str) -> None:
    zones, well, reason = SPREADS[case]
    assert describe_spread(zones)[:2] == (well, reason)


def test_a_lost_zones_slots_stay_where_their_claims_are() -> None:
    left = [node for node in NODES if node.zone != "zone-b"]
    assert place_slots(left, claims())[Slot(2)] == "zone-b"
