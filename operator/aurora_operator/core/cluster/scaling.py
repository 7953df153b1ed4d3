"""How many instances there are, and which: the lowest free number comes, the highest one goes.

``spec.replicas`` does not count the writer, so there is always one more instance than that. A pod
that is being deleted keeps its number until it is gone: it comes back under its own name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from aurora_operator.core.cluster.observation import PodView


class Scaling(NamedTuple):
    """Ordinals to create, and to remove, in this order."""

    create: tuple[int, ...] = ()
    remove: tuple[int, ...] = ()


def scale_instances(
    pods: Mapping[int, PodView], replicas: int, protected: Collection[str], writer_open: bool
) -> Scaling:
    """What brings the number of instances to one more than ``replicas``.

    ``protected`` are the names of the writer and of a candidate: never removed. While no writer is
    open nothing is removed at all, since whichever goes might be the best to take over.
    """
    wanted = replicas + 1
    if len(pods) < wanted:
        free = [number for number in range(1, wanted + len(pods) + 1) if number not in pods]
        return Scaling(create=tuple(free[: wanted - len(pods)]))
    alive = [number for number, pod in pods.items() if not pod.terminating]
    surplus = len(alive) - wanted
    if surplus <= 0 or not writer_open:
        return Scaling()
    removable = [
        number for number in sorted(alive, reverse=True) if pods[number].name not in protected
    ]
    return Scaling(remove=tuple(removable[:surplus]))
