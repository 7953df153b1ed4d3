"""The operator on a real API server, with no more than its own rights, under restricted pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest

from aurora_operator.kube.api import Kind
from aurora_operator.kube.client import KubeClient
from support.api_server import raw
from support.interruptions import LIFE, count_writes, end_state, live
from support.mortal import Hazard, Strike
from support.operator_world import available, gone
from support.real_world import RealWorld, real_world

CONCURRENT_WORLDS: Final = 4


@pytest.fixture
async def world(admin: KubeClient) -> AsyncIterator[RealWorld]:
    """A world for one test."""
    async with real_world(admin) as made:
        yield made


async def test_a_life_with_no_more_than_the_declared_rights(
    admin: KubeClient, operator: KubeClient, world: RealWorld
) -> None:
    await world.apply(replicas=2, databaseName="shop", storage={"retainPolicy": "Delete"})
    loop = world.loop(kube=operator)
    cluster = await world.settle(loop, available)
    assert cluster is not None
    assert cluster["status"]["replicasReady"] == "2/2"
    await admin.delete(Kind.CLUSTER, world.namespace, "shop")
    await world.settle(loop, gone)
    for kind in (Kind.POD, Kind.CLAIM, Kind.SERVICE, Kind.SECRET, Kind.ROLE, Kind.BUDGET):
        assert not await admin.list(kind, world.namespace), kind
    told = await raw(admin, "GET", f"/api/v1/namespaces/{world.namespace}/events")
    messages = {event["message"] for event in told["items"]}
    assert {"DB cluster created", "DB cluster deleted"} <= messages


async def test_kubectl_scale_scales(
    admin: KubeClient, operator: KubeClient, world: RealWorld
) -> None:
    await world.apply(replicas=1)
    loop = world.loop(kube=operator)
    await world.settle(loop, available)
    facts = Kind.CLUSTER.value
    path = f"/apis/{facts.api_version}/namespaces/{world.namespace}/{facts.plural}/shop/scale"
    scale = await raw(admin, "GET", path)
    assert scale["status"] == {
        "replicas": 1,
        "selector": "aurora-operator.io/cluster=shop,app.kubernetes.io/component=instance",
    }
    await raw(admin, "PUT", path, {**scale, "spec": {"replicas": 3}})
    await world.settle(loop, lambda w, c: available(w, c) and len(w.servers_alive()) == 4)


@pytest.mark.timeout(900)
async def test_the_client_dies_before_every_write(admin: KubeClient) -> None:
    """Creation, failover, growth and deletion; the operator dies before write n, for every n.

    World n lives all four stretches and the operator dies before the n-th write of each. (Dying
    after write n leaves the world as dying before write n+1 does: so both are covered.)
    """
    async with real_world(admin) as reference:
        counted = [(stretch, *await count_writes(reference, stretch)) for stretch in LIFE]
    turns = asyncio.Semaphore(CONCURRENT_WORLDS)

    async def live_struck(at: int) -> None:
        async with turns, real_world(admin) as world:
            for number, (stretch, writes, wanted) in enumerate(counted):
                if all(at > each for _, each, _ in counted[number:]):
                    return
                hazard = Hazard(Strike.KILLED_BEFORE, at if at <= writes else 0)
                await live(world, stretch, hazard)
                left = _elsewhere(await end_state(world), world.namespace, reference.namespace)
                where = (
                    f"{stretch.name}: before write {at} of {writes}: {hazard.told[at - 1 :][:1]}"
                )
                assert left == wanted, where

    most = max(writes for _, writes, _ in counted)
    async with asyncio.TaskGroup() as group:
        for at in range(1, most + 1):
            group.create_task(live_struck(at))


def _elsewhere(state: dict[str, str], namespace: str, other: str) -> dict[str, str]:
    """The state as it would be in another namespace."""
    return {key: value.replace(namespace, other) for key, value in state.items()}
