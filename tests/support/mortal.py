"""An operator that dies, or loses an answer, at its n-th write.

A write is every call that changes something: at the API server, or at an agent. ``Hazard`` counts
them and strikes once; ``MortalKube`` and ``MortalAgents`` pass every call through it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from aurora_operator.api.messages import (
    FillAsk,
    FormatAsk,
    HandOverAsk,
    InstanceAnswer,
    InstanceStatus,
    OpenAsk,
    RestartAsk,
    StorageAnswer,
    StorageStatus,
)
from aurora_operator.kube.api import Kind, KubeApi, Manifest, Unavailable
from aurora_operator.reconcile.agents import AgentAddress, Agents

Result = TypeVar("Result")


class Killed(BaseException):
    """The operator's process is gone. No code of the operator may catch it."""


class Strike(Enum):
    """What happens at write n."""

    KILLED_BEFORE = "killed-before"
    KILLED_AFTER = "killed-after"
    UNANSWERED = "unanswered"
    """It was done, and the operator, which lives on, does not know."""


@dataclass
class Hazard:
    """Counts writes and strikes at one of them."""

    strike: Strike
    at: int
    """The number of the write, from 1; 0 never strikes."""
    writes: int = 0
    told: list[str] = field(default_factory=list)

    @property
    def struck(self) -> bool:
        """Whether write n has come."""
        return 0 < self.at <= self.writes

    async def write(self, what: str, call: Callable[[], Awaitable[Result]]) -> Result:
        """Pass a write through."""
        self.writes += 1
        self.told.append(what)
        now = self.writes == self.at
        if now and self.strike is Strike.KILLED_BEFORE:
            raise Killed(what)
        result = await call()
        if now and self.strike is Strike.KILLED_AFTER:
            raise Killed(what)
        if now:
            raise Unavailable(f"{what}: the answer was lost")
        return result


@dataclass
class MortalKube:
    """``KubeApi`` under a hazard."""

    kube: KubeApi
    hazard: Hazard

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        return await self.kube.get(kind, namespace, name)

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        return await self.kube.list(kind, namespace, selector)

    async def create(self, kind: Kind, namespace: str | None, manifest: Manifest) -> Manifest:
        what = f"create {kind.name} {manifest['metadata']['name']}"
        return await self.hazard.write(what, lambda: self.kube.create(kind, namespace, manifest))

    async def try_create(self, kind: Kind, namespace: str | None, manifest: Manifest) -> None:
        await self.kube.try_create(kind, namespace, manifest)

    async def replace(self, kind: Kind, namespace: str | None, manifest: Manifest) -> Manifest:
        what = f"replace {kind.name} {manifest['metadata']['name']}"
        return await self.hazard.write(what, lambda: self.kube.replace(kind, namespace, manifest))

    async def replace_status(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        what = f"replace status of {kind.name} {manifest['metadata']['name']}"
        return await self.hazard.write(
            what, lambda: self.kube.replace_status(kind, namespace, manifest)
        )

    async def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Manifest
    ) -> Manifest:
        what = f"patch {kind.name} {name}"
        return await self.hazard.write(what, lambda: self.kube.patch(kind, namespace, name, patch))

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        await self.hazard.write(
            f"delete {kind.name} {name}",
            lambda: self.kube.delete(kind, namespace, name, uid=uid, grace_seconds=grace_seconds),
        )


@dataclass
class MortalAgents:
    """``Agents`` under the same hazard."""

    agents: Agents
    hazard: Hazard

    async def close(self) -> None:
        await self.agents.close()

    async def fetch_storage_status(
        self, agent: AgentAddress, timeout_seconds: float = 2.0
    ) -> StorageStatus:
        return await self.agents.fetch_storage_status(agent, timeout_seconds)

    async def fetch_instance_status(
        self, agent: AgentAddress, timeout_seconds: float = 2.0
    ) -> InstanceStatus:
        return await self.agents.fetch_instance_status(agent, timeout_seconds)

    async def format(self, agent: AgentAddress, ask: FormatAsk) -> StorageAnswer:
        return await self.hazard.write(
            f"format {agent.pod}", lambda: self.agents.format(agent, ask)
        )

    async def fill(self, agent: AgentAddress, ask: FillAsk) -> StorageAnswer:
        return await self.hazard.write(f"fill {agent.pod}", lambda: self.agents.fill(agent, ask))

    async def open(self, agent: AgentAddress, ask: OpenAsk) -> InstanceAnswer:
        return await self.hazard.write(f"open {agent.pod}", lambda: self.agents.open(agent, ask))

    async def hand_over(self, agent: AgentAddress, ask: HandOverAsk) -> InstanceAnswer:
        return await self.hazard.write(
            f"hand over {agent.pod}", lambda: self.agents.hand_over(agent, ask)
        )

    async def restart(self, agent: AgentAddress, ask: RestartAsk) -> InstanceAnswer:
        return await self.hazard.write(
            f"restart {agent.pod}", lambda: self.agents.restart(agent, ask)
        )
