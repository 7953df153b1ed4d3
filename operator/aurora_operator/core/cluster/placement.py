"""Which zone each slot belongs to: two slots a zone, and never moved once its claim exists.

With three zones a lost zone takes two copies, and four stay (the write quorum). Fewer zones are
allowed and said plainly; with more, three are used, because a fourth would not help a quorum of
four in six and would cost latency.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.cluster.observation import ClaimView, NodeView
from aurora_operator.core.names import SLOT_COUNT, Slot

ZONE_COUNT: Final = 3


def place_slots(
    nodes: Iterable[NodeView], claims: Mapping[Slot, ClaimView]
) -> dict[Slot, str | None]:
    """The zone of every slot; ``None`` where no node names a zone.

    A slot whose claim exists keeps its zone. The others go, in slot order, to the zone that has
    the fewest slots; among equals to the one with more nodes, then by name.
    """
    placed = {slot: claim.zone for slot, claim in claims.items()}
    nodes_by_zone = Counter(node.zone for node in nodes if node.schedulable and node.zone)
    chosen = _chosen_zones(nodes_by_zone, placed.values())
    for number in range(SLOT_COUNT):
        slot = Slot(number)
        if slot in placed:
            continue
        if not chosen:
            placed[slot] = None
            continue
        load = Counter(zone for zone in placed.values() if zone)
        placed[slot] = min(chosen, key=lambda zone: (load[zone], chosen.index(zone)))
    return {Slot(number): placed[Slot(number)] for number in range(SLOT_COUNT)}


@dataclass(frozen=True)
class NewPlace:
    """Where a copy would be made anew."""

    zone: str | None
    moves: bool
    """That is another zone than the one it belongs to."""


def place_anew(nodes: Iterable[NodeView], claims: Mapping[Slot, ClaimView], slot: Slot) -> NewPlace:
    """The zone of a copy whose claim is gone, or is to go: its own, if a node there can run it."""
    able = [node for node in nodes if node.schedulable and node.ready]
    others = {other: claim for other, claim in claims.items() if other != slot}
    zone = place_slots(able, others)[slot]
    claim = claims.get(slot)
    if claim is not None:
        own = claim.zone
        return NewPlace(own, False) if any(n.zone == own for n in able) else NewPlace(zone, True)
    load = Counter(other.zone for other in others.values() if other.zone)
    lightest = min(load.values(), default=0)
    return NewPlace(zone, zone is not None and load[zone] > lightest)


def _chosen_zones(nodes_by_zone: Mapping[str, int], used: Iterable[str | None]) -> list[str]:
    """Three zones: those in use first, then the ones with most nodes, then by name."""
    in_use = {zone for zone in used if zone}
    ranked = sorted(
        nodes_by_zone, key=lambda zone: (zone not in in_use, -nodes_by_zone[zone], zone)
    )
    return sorted(ranked[:ZONE_COUNT], key=lambda zone: (-nodes_by_zone[zone], zone))


def describe_spread(zones: Iterable[str | None]) -> tuple[bool, str, str]:
    """Whether the six copies survive the loss of a zone; reason and sentence for the condition."""
    load = Counter(zones)
    named = {zone: count for zone, count in load.items() if zone}
    if not named:
        return (
            False,
            "NoZones",
            "no node carries a zone label: the six copies are on whatever nodes there are, and "
            "the loss of several nodes at once can stop the volume",
        )
    worst = max(load.values())
    if len(named) >= ZONE_COUNT and worst <= SLOT_COUNT // ZONE_COUNT:
        return (True, "ThreeZones", f"two copies in each of {', '.join(sorted(named))}")
    spread = ", ".join(f"{count} in {zone or 'no zone'}" for zone, count in sorted(named.items()))
    return (
        False,
        "FewerThanThreeZones",
        f"copies: {spread}. The loss of a zone with more than two copies stops writes until it is "
        "back, and the loss of its disks would lose data: add nodes in three zones",
    )
