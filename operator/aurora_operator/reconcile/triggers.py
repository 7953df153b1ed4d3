"""Which events of the watch say that a writer may be gone: these wake a loop for its reflex."""

from __future__ import annotations

from typing import Any

from aurora_operator.api import labels
from aurora_operator.reconcile import views


def is_urgent(event_type: str | None, pod: dict[str, Any]) -> bool:
    """Whether an instance's pod is gone, ends, ended, or lost its server.

    Whose pod it was is not asked: a replica's costs one glance, a writer's must not wait.
    """
    if labels.ORDINAL not in views.labels_of(pod):
        return False
    view = views.pod_view(pod)
    gone = event_type == "DELETED" or view.terminating or view.ended
    return gone or view.server_running is False
