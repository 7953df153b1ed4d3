"""A switchover that a person asks for, by an annotation on the AuroraCluster.

Carried out once, whatever happens to the operator meanwhile: accepting it writes the term of the
writer that is to hand over into the annotation, by compare-and-swap. Once a higher term is open,
the request is over, and an operator that starts anew sees that. Whatever cannot be done is said
and the annotation taken away; nothing waits for better times in secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aurora_operator.core.cluster.failover import WriterOpen, rank_candidates
from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    InstanceView,
    SwitchoverRequest,
)
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import InstanceName

ANY: Final = "any"
"""What the annotation says when the best replica is to take over."""


@dataclass(frozen=True)
class Accept:
    """It can be done: to this instance, away from the writer of this term."""

    to: InstanceName
    term: Term


@dataclass(frozen=True)
class HandOver:
    """The writer is to be asked."""

    writer: InstanceName
    to: InstanceName
    request: str


@dataclass(frozen=True)
class Over:
    """Another term is open: the request is done with."""


@dataclass(frozen=True)
class Refused:
    """It cannot be done."""

    to: str
    reason: str


SwitchoverStep = Accept | HandOver | Over | Refused


def next_switchover_step(seen: ClusterObservation, opening: object) -> SwitchoverStep | None:
    """What to do about the annotation; ``None``: nothing, or not now."""
    asked = seen.switchover
    if asked is None or not isinstance(opening, WriterOpen):
        return None
    writer = opening.view
    if asked.term is not None and (writer.term or 0) > asked.term:
        return Over()
    if asked.term is not None and asked.request == writer.hand_over_request:
        return Refused(asked.to, writer.hand_over_sentence)
    target = _find_target(seen, asked, writer)
    if isinstance(target, Refused):
        return target
    if asked.term is None:
        return Accept(target, writer.term or Term(0))
    return HandOver(writer.name, target, asked.request)


def _find_target(
    seen: ClusterObservation, asked: SwitchoverRequest, writer: InstanceView
) -> InstanceName | Refused:
    healthy = [view.name for view in rank_candidates(seen) if view.healthy]
    if asked.to == ANY:
        return healthy[0] if healthy else Refused(ANY, "there is no healthy replica")
    if asked.to == writer.name:
        return Refused(asked.to, "it is the writer already")
    pod = seen.instance_pod(asked.to)
    if pod is None:
        names = ", ".join(sorted(pod.name for pod in seen.instance_pods.values()))
        return Refused(asked.to, f"there is no such instance; there are {names} and {ANY}")
    if asked.to not in healthy:
        view = seen.instances.get(InstanceName(asked.to))
        told = "its agent does not answer" if view is None else view.sentence or str(view.role)
        return Refused(asked.to, f"it is not a healthy replica ({told})")
    return InstanceName(asked.to)
