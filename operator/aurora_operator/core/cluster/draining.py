"""How many storage pods must stay while nodes are drained.

Five of six: one more may then fail and writes go on. But a disk that is bound to its node keeps
its pod from running anywhere else, so a node that holds two copies could never be drained: the
first waits for the node, and the budget keeps the second for the first's sake. In exactly that
case the second may go too; the other four take every write, and a person who drains a node has
said that its copies are to be away.
"""

from __future__ import annotations

from typing import Final

from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.observation import ClusterObservation
from aurora_operator.core.names import SLOT_COUNT

KEEP: Final = SLOT_COUNT - 1
KEEP_WHILE_DRAINED: Final = SLOT_COUNT - 2
"""The write quorum: never fewer by an eviction."""


def storage_pods_to_keep(seen: ClusterObservation) -> int:
    """What the budget of the storage pods demands now."""
    waiting = [slot for slot, pod in seen.storage_pods.items() if pod.node is None and pod.waiting]
    writer = open_writer(seen)
    if len(waiting) != 1 or writer is None or writer.copies_streaming < KEEP:
        return KEEP
    claim = seen.claims.get(waiting[0])
    drained = {
        node.name
        for node in seen.nodes
        if not node.schedulable and claim is not None and node.zone == claim.zone
    }
    held_back = any(pod.node in drained for pod in seen.storage_pods.values())
    return KEEP_WHILE_DRAINED if held_back else KEEP
