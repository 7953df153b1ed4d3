"""A stretch of a cluster's life with an operator that is struck once, and the state that it leaves.

The measure is plain: whatever the strike, another operator (or the same one, going on) must end in
the state that an undisturbed one ends in: the same objects with the same content, but for what is
drawn at random, one formatting, one volume.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aurora_operator.api import labels
from aurora_operator.kube.api import Kind, KubeError, Manifest
from aurora_operator.reconcile.agents import AgentUnreachable
from support.mortal import Hazard, Killed, MortalAgents, MortalKube, Strike
from support.operator_world import World, available, gone

STEPS = 80
COMPARED = (
    Kind.POD,
    Kind.CLAIM,
    Kind.SERVICE,
    Kind.CONFIG_MAP,
    Kind.SECRET,
    Kind.ACCOUNT,
    Kind.SLICE,
    Kind.BUDGET,
    Kind.ROLE,
    Kind.BINDING,
    Kind.CLUSTER,
)
_RANDOM = re.compile(r"vol-[a-z0-9]{16}|s\d_[a-z0-9]{8}")
_VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")


@dataclass(frozen=True)
class Stretch:
    """A part of a life: how it begins, and when it is over."""

    name: str
    begin: Callable[[World], Awaitable[None]]
    over: Callable[[World, Manifest | None], bool]


async def live(world: World, stretch: Stretch, hazard: Hazard) -> None:
    """Live through a stretch under a hazard, with a new operator after each death.

    It is over when its end is reached and a whole cycle had nothing to write.
    """
    await stretch.begin(world)
    await world.tick()
    loop = None
    for _ in range(STEPS):
        if loop is None:
            loop = world.loop(
                kube=MortalKube(world.kube, hazard),
                agents=lambda agents: MortalAgents(agents, hazard),
            )
        written = hazard.writes
        try:
            await loop.step()
        except Killed:
            loop = None
        except (KubeError, AgentUnreachable):
            pass  # The loop logs it and looks again; that is the step after this one.
        await world.tick()
        clusters = await world.kube.list(Kind.CLUSTER, world.namespace)
        at_rest = loop is not None and hazard.writes == written
        if at_rest and stretch.over(world, clusters[0] if clusters else None):
            assert hazard.at == 0 or hazard.struck, f"no write {hazard.at}: {hazard.told}"
            return
    raise AssertionError(
        f"{stretch.name}, {hazard.strike.value} at write {hazard.at} "
        f"({hazard.told[hazard.at - 1] if hazard.struck else 'never came'}): not over in {STEPS} "
        f"steps; last writes {hazard.told[-5:]}"
    )


async def end_state(world: World) -> dict[str, str]:
    """What is there, without what is random or a matter of time."""
    state = {"formats": str(world.formats), "hand-overs": str(len(world.hand_overs))}
    for kind in COMPARED:
        for found in await world.kube.list(kind, world.namespace):
            state[f"{kind.name} {found['metadata']['name']}"] = _plain(kind, found)
    return state


def _plain(kind: Kind, found: Manifest) -> str:
    metadata = {key: value for key, value in found["metadata"].items() if key not in _VOLATILE}
    metadata.pop("ownerReferences", None)
    annotations = dict(metadata.get("annotations") or {})
    for volatile in (labels.RENEW_AFTER, labels.TEMPLATE_HASH):
        annotations.pop(volatile, None)
    metadata["annotations"] = annotations
    content: dict[str, object] = {"metadata": metadata}
    if kind is Kind.SECRET:
        content["keys"] = sorted(found.get("data") or {})
    elif kind is Kind.CONFIG_MAP:
        content["data"] = found.get("data")
    elif kind is Kind.CLUSTER:
        content["status"] = _plain_status(found.get("status") or {})
    elif kind is Kind.POD:
        content["images"] = [entry["image"] for entry in found["spec"]["containers"]]
    return _RANDOM.sub("RANDOM", repr(content))


def _plain_status(status: Manifest) -> object:
    kept = ("status", "replicasReady", "copiesReady", "volume", "endpoint", "readerEndpoint")
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
    return {**{key: status.get(key) for key in kept}, "conditions": conditions}


async def _create(world: World) -> None:
    await world.apply(replicas=1, storage={"retainPolicy": "Delete"})


async def _lose_writer(world: World) -> None:
    writer = world.writer()
    assert writer is not None
    await world.kube.delete(Kind.POD, world.namespace, writer, grace_seconds=0)


async def _switch_over(world: World) -> None:
    metadata = {"annotations": {labels.SWITCHOVER: "any"}}
    await world.kube.patch(Kind.CLUSTER, world.namespace, "shop", {"metadata": metadata})


def _switched_over(world: World, cluster: Manifest | None) -> bool:
    """The request is gone, and all is well."""
    asked = (cluster or {}).get("metadata", {}).get("annotations") or {}
    return labels.SWITCHOVER not in asked and _all_well(world, cluster)


async def _scale_and_grow(world: World) -> None:
    await world.apply(replicas=2, storage={"retainPolicy": "Delete", "size": "20Gi"})


async def _delete(world: World) -> None:
    await world.kube.delete(Kind.CLUSTER, world.namespace, "shop")


def _all_well(world: World, cluster: Manifest | None) -> bool:
    """Available, and what the status says has been written for what is there now."""
    if not available(world, cluster) or cluster is None:
        return False
    return bool(
        cluster["status"].get("observedGeneration") == cluster["metadata"]["generation"]
        and cluster["status"]["status"] == "available"
        and world.writer() == cluster["status"]["writer"]
    )


CREATION = Stretch("creation", _create, _all_well)
FAILOVER = Stretch("failover", _lose_writer, _all_well)
SWITCHOVER = Stretch("switchover", _switch_over, _switched_over)
GROWTH = Stretch("growth", _scale_and_grow, _all_well)
DELETION = Stretch("deletion", _delete, gone)
LIFE = (CREATION, FAILOVER, SWITCHOVER, GROWTH, DELETION)


async def count_writes(world: World, stretch: Stretch) -> tuple[int, dict[str, str]]:
    """How many writes an undisturbed operator makes in a stretch, and the state that it leaves."""
    hazard = Hazard(Strike.KILLED_AFTER, 0)
    await live(world, stretch, hazard)
    return hazard.writes, await end_state(world)
