"""Who opens the volume, when no writer does: for creation, failover and coming back alike.

The volume protocol decides whether an opening succeeds (four promises, rule 2); this module only
decides whom to ask. Asking is always safe: terms make it harmless to ask twice or to ask two, and
the pre-vote protects a writer that is well. So every doubt here ends in asking.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    InstanceView,
    PodView,
    Role,
)
from aurora_operator.core.detection import Standing, rank
from aurora_operator.core.names import InstanceName

WRITER_SILENCE_SECONDS: Final = 3.0
"""After this long without an answer from the writer's agent, a replica is asked to open."""

WRITER_SHUT_SECONDS: Final = 3.0
"""And after a writer has kept its door shut for this long."""

ASKS_BEFORE_NEXT: Final = 25
"""Asks to one candidate before the next best has its turn: one that never manages blocks nobody."""


@dataclass(frozen=True)
class WriterOpen:
    """A writer serves: nothing to do."""

    writer: InstanceName
    view: InstanceView


@dataclass(frozen=True)
class WriterInDoubt:
    """The recorded writer's pod lives and its agent missed an answer: it has a moment's grace."""

    reason: str


@dataclass(frozen=True)
class OpenAt:
    """Ask this instance to open the volume."""

    instance: InstanceName
    reason: str


@dataclass(frozen=True)
class HandOverAt:
    """The writer's pod is being deleted and its agent answers: ask it to hand over."""

    writer: InstanceName
    to: InstanceName
    request: str
    reason: str


@dataclass(frozen=True)
class RestartAt:
    """Ask the ended writer to start again on its own disk (rule 11)."""

    instance: InstanceName
    reason: str


@dataclass(frozen=True)
class Replace:
    """Remove an instance that can neither open nor restart, so that a fresh one takes its place."""

    instance: InstanceName
    reason: str


@dataclass(frozen=True)
class Wait:
    """Nobody to ask, or somebody is at it."""

    reason: str


Opening = WriterOpen | WriterInDoubt | OpenAt | HandOverAt | RestartAt | Replace | Wait


def open_writer(seen: ClusterObservation) -> InstanceView | None:
    """The writer that serves: of those who say so and whose pod lives, the one of highest term.

    One that was cut off from the copies keeps its role and shuts its door (rule 12): it serves
    nobody. After a moment it is no open writer, and the pre-vote finds out whether another may be.
    One that hands over is none either, until it withdraws.
    """
    writer = _highest(view for name, view in _writers(seen) if _lives(seen.instance_pod(name)))
    if writer is None or writer.handing_over_to is not None:
        return None
    shut = seen.shut_seconds.get(writer.name, 0.0) >= WRITER_SHUT_SECONDS
    return None if shut else writer


def _writers(seen: ClusterObservation) -> list[tuple[InstanceName, InstanceView]]:
    return [(name, view) for name, view in seen.instances.items() if view.role is Role.WRITER]


def _highest(writers: Iterable[InstanceView]) -> InstanceView | None:
    return max(writers, key=lambda view: (view.term or 0, view.name), default=None)


def _lives(pod: PodView | None) -> bool:
    return (
        pod is not None
        and not pod.terminating
        and not pod.ended
        and pod.server_running is not False
    )


def rank_candidates(seen: ClusterObservation) -> list[InstanceView]:
    """Those who could open, in the order in which they would stand themselves (``rank``)."""
    able = {
        name: view
        for name, view in seen.instances.items()
        if view.can_open
        and view.role not in {Role.STOPPED, Role.WRITER}
        and _lives_on(seen, seen.instance_pod(name))
    }
    standings = [Standing(v.name, v.healthy, v.applied_lsn) for v in able.values()]
    return [able[standing.name] for standing in rank(standings)]


def _lives_on(seen: ClusterObservation, pod: PodView | None) -> bool:
    # A replica's own ServerRunning condition may be left over from when it was the writer, so
    # only the pod itself counts here; its agent has just answered.
    return pod is not None and not pod.terminating and not pod.ended and not seen.node_lost(pod)


def decide_opening(seen: ClusterObservation) -> Opening:
    """What to do about the writer. Consult docs/design/operator.md for the table of cases."""
    writer = open_writer(seen)
    if writer is not None:
        return WriterOpen(writer.name, writer)
    for name, view in sorted(seen.instances.items()):
        pod = seen.instance_pod(name)
        if view.role is Role.OPENING and pod is not None and not pod.terminating:
            return Wait(f"{name} is opening the volume")
    helping = _helping_writer(seen)
    if helping is not None:
        return helping
    doubt = _doubtful_writer(seen)
    if doubt is not None:
        return doubt
    return _choose(seen, _why_no_writer(seen))


def _helping_writer(seen: ClusterObservation) -> HandOverAt | Wait | None:
    """A switchover: the writer hands over already, or its pod ends and it can be asked to.

    It is asked once for each pod; what it could not do then goes on as a failover.
    """
    writer = _highest(view for _, view in _writers(seen))
    pod = None if writer is None else seen.instance_pod(writer.name)
    if writer is None or pod is None or pod.ended:
        return None
    if writer.handing_over_to is not None:
        return Wait(f"{writer.name} hands over to {writer.handing_over_to}")
    request = f"deletion of {pod.uid}"
    healthy = [view for view in rank_candidates(seen) if view.healthy]
    if not pod.terminating or not healthy or writer.hand_over_request == request:
        return None
    why = f"the writer's pod {writer.name} is being deleted"
    return HandOverAt(writer.name, healthy[0].name, request, why)


def _doubtful_writer(seen: ClusterObservation) -> WriterInDoubt | None:
    """The recorded writer's pod seems to live but its agent did not answer: give it a moment."""
    name = seen.remembered.writer
    pod = seen.instance_pod(name)
    if name is None or pod is None or name in seen.instances:
        return None
    # A pod that was made anew under the writer's name never had a server that could be in doubt.
    if not _lives(pod) or not pod.server_running or seen.node_lost(pod):
        return None
    if seen.silent_seconds.get(name, 0.0) >= WRITER_SILENCE_SECONDS:
        return None
    return WriterInDoubt(f"the agent of the writer {name} has not answered yet")


def _why_no_writer(seen: ClusterObservation) -> str:
    name = seen.remembered.writer
    if name is None:
        return "the volume is not open"
    pod = seen.instance_pod(name)
    if pod is None:
        return f"the writer's pod {name} is gone"
    if pod.terminating:
        return f"the writer's pod {name} is being deleted"
    if pod.ended:
        return f"the writer's pod {name} ended"
    if seen.node_lost(pod):
        return f"the node of the writer {name} is not ready"
    view = seen.instances.get(name)
    if view is None and pod.server_running is not False:
        return f"the agent of the writer {name} is silent"
    if view is not None and view.role is Role.WRITER:
        return f"the writer {name} shut its door: it is cut off from the copies"
    return f"the server of the writer {name} ended"


def _choose(seen: ClusterObservation, why: str) -> Opening:
    candidates = rank_candidates(seen)
    healthy = [view for view in candidates if view.healthy]
    stopped = [
        view
        for name, view in sorted(seen.instances.items())
        if view.role is Role.STOPPED and _lives_on(seen, seen.instance_pod(name))
    ]
    restartable = next((view for view in stopped if view.restartable), None)
    if not healthy and restartable is not None:
        return RestartAt(restartable.name, f"{why}, and no replica can take over")
    if candidates:
        turn = (seen.openings_asked // ASKS_BEFORE_NEXT) % len(candidates)
        return OpenAt(candidates[turn].name, why)
    hopeful = [
        pod
        for pod in seen.instance_pods.values()
        if not pod.terminating and not pod.ended and all(pod.name != view.name for view in stopped)
    ]
    if stopped and not hopeful:
        return Replace(stopped[0].name, f"{why}, and it cannot restart on its own disk")
    return Wait(f"{why}, and no instance is ready to open the volume yet")
