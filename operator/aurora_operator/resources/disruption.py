"""How many pods may be evicted at once.

Bare pods have no controller to count for, so the budgets name a minimum. Of the storage pods one
may go at a time, and a second when its node cannot be drained otherwise (core.cluster.draining).
Of the instances all but one: evicting the writer is a switchover to a replica that is well, and
replicas hold nothing that could be lost. A pod that is not ready serves nothing and may always go,
or a broken one would keep its node from being drained for ever.
"""

from __future__ import annotations

from aurora_operator.api import labels
from aurora_operator.resources.context import ClusterContext, Manifest


def build_disruption_budgets(cluster: ClusterContext) -> list[Manifest]:
    """One budget for each kind of pod."""
    minimums = (
        (f"{cluster.name}-storage", labels.COMPONENT_STORAGE, cluster.storage_pods_to_keep),
        (f"{cluster.name}-instance", labels.COMPONENT_INSTANCE, min(1, cluster.spec.replicas)),
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
