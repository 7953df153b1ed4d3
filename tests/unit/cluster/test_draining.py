"""How many storage pods a drain must leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_operator.core.cluster.draining import storage_pods_to_keep
from aurora_operator.core.cluster.observation import ClusterObservation, NodeView, Role
from aurora_operator.core.names import Slot
from support.observations import healthy, instance, instances, pod

ZONE_NODES = tuple(NodeView(f"node-{zone}", f"zone-{zone}") for zone in "abc")


def drained(
    *, gone: tuple[int, ...] = (0,), cordoned: str = "node-a", **changes: Any
) -> ClusterObservation:
    """Three nodes with two copies each, of which one node is being drained."""
    pods = {
        Slot(slot): pod(f"shop-storage-{slot}", ZONE_NODES[slot // 2].name) for slot in range(6)
    }
    for slot in gone:
        pods[Slot(slot)] = replace(
            pods[Slot(slot)], node=None, ready=False, waiting="cannot be scheduled: cordoned"
        )
    nodes = tuple(replace(node, schedulable=node.name != cordoned) for node in ZONE_NODES)
    writer = instance(1, Role.WRITER, copies_streaming=6 - len(gone))
    facts: dict[str, Any] = {"instances": instances(writer, instance(2))}
    return replace(healthy(), storage_pods=pods, nodes=nodes, **(facts | changes))


CASES = {
    "nothing-drained": (healthy(), 5),
    "cordoned-and-not-drained-yet": (drained(gone=()), 5),
    "the-first-waits-for-its-node": (drained(), 4),
    "both-wait-for-it": (drained(gone=(0, 1)), 5),
    "another-zones-node-is-cordoned": (drained(cordoned="node-b"), 5),
    "one-waits-and-no-node-is-cordoned": (drained(cordoned="none"), 5),
    "a-second-copy-does-not-follow": (
        drained(instances=instances(instance(1, Role.WRITER, copies_streaming=4))),
        5,
    ),
    "no-writer-is-open": (drained(instances={}), 5),
}


@pytest.mark.parametrize("case", CASES)
def test_storage_pods_to_keep(case: str) -> None:
    seen, kept = CASES[case]
    assert storage_pods_to_keep(seen) == kept
