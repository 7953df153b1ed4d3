"""How many pods may be evicted at once.

Bare pods have no controller to count for, so the budgets name a minimum. Of the storage pods one
may go at a time: the other five keep writes going even if one more fails. Of the instances one may
go at a time as well; evicting the writer is a failover. A pod that is not ready serves nothing and
may always go, or a broken one would keep its node from being drained for ever.
"""

from __future__ import annotations

from aurora_operator.api import labels
from aurora_operator.core.names import SLOT_COUNT
from aurora_operator.resources.context import ClusterContext, Manifest


def build_disruption_budgets(cluster: ClusterContext) -> list[Manifest]:
    """One budget for each kind of pod."""
    minimums = (
        (f"{cluster.name}-storage", labels.COMPONENT_STORAGE, SLOT_COUNT - 1),
        (f"{cluster.name}-instance", labels.COMPONENT_INSTANCE, cluster.spec.replicas),
    )
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": cluster.metadata(name, component),
            "spec": {
                "minAvailable": minimum,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {
                    "matchLabels": {
                        labels.CLUSTER: cluster.name,
                        labels.APP_COMPONENT: component,
                    }
                },
            },
        }
        for name, component, minimum in minimums
    ]
