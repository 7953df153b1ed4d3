"""What one cycle holds in hands: the snapshot, and the objects and connections behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aurora_operator.api.cluster import AuroraCluster
from aurora_operator.core.cluster.observation import ClusterObservation
from aurora_operator.reconcile.agents import AgentAddress, Agents
from aurora_operator.reconcile.certificates import Authority
from aurora_operator.resources.context import ClusterContext

Manifest = dict[str, Any]


@dataclass
class Sight:
    """One observation with what is needed to act on it."""

    observation: ClusterObservation
    context: ClusterContext
    cluster: AuroraCluster
    manifest: Manifest
    """The AuroraCluster as last read or written: its resourceVersion guards the status."""
    agents: Agents | None
    addresses: Mapping[str, AgentAddress]
    slices: Mapping[str, Manifest]
    """The EndpointSlices, read before any agent was asked."""
    user_password: str | None = None


@dataclass
class Memory:
    """What a loop keeps between cycles: only how long things have lasted, and connections.

    Losing it costs a few seconds of patience, never a wrong decision.
    """

    now_seconds: Callable[[], float]
    silent_since: dict[str, float] = field(default_factory=dict)
    shut_since: dict[str, float] = field(default_factory=dict)
    unready_since: dict[str, float] = field(default_factory=dict)
    writerless_since: dict[str, float] = field(default_factory=dict)
    disabled_since: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    told_problems: set[str] = field(default_factory=set)
    """Of these, the ones that tell of a problem that lasts."""
    last_ask: tuple[str, ...] = ()
    """The last ask to open and its answer: asked again it is no news for the log."""
    openings_asked: int = 0
    connected_at_seconds: float = 0.0
    authority: Authority | None = None
    agents: Agents | None = None

    def silent_seconds(self, key: str, *, silent: bool) -> float:
        """For how long a pod's agent has been silent; 0 as soon as it answers."""
        return self._lasting(self.silent_since, key, lasts=silent)

    def shut_seconds(self, key: str, *, shut: bool) -> float:
        """For how long a pod's writer has kept its door shut."""
        return self._lasting(self.shut_since, key, lasts=shut)

    def unready_seconds(self, node: str, *, unready: bool) -> float:
        """For how long a node has not been ready."""
        return self._lasting(self.unready_since, node, lasts=unready)

    def writerless_seconds(self, *, writerless: bool) -> float:
        """For how long no writer has been open."""
        return self._lasting(self.writerless_since, "writer", lasts=writerless)

    def disabled_seconds(self, slot: int, *, disabled: bool) -> float:
        """For how long the copy of a slot has not answered, whichever pod it was."""
        return self._lasting(self.disabled_since, str(slot), lasts=disabled)

    def _lasting(self, since: dict[str, float], key: str, *, lasts: bool) -> float:
        if not lasts:
            since.pop(key, None)
            return 0.0
        return self.now_seconds() - since.setdefault(key, self.now_seconds())
