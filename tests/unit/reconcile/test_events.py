"""Events: told once while a problem lasts, again when it comes back, and never a flood."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_operator.kube.api import Kind
from support.fake_kube import FakeKube
from support.operator_world import World, available


@pytest.fixture
async def world() -> World:
    made = World(FakeKube())
    await made.prepare()
    return made


async def stick(world: World, name: str, reason: str | None) -> None:
    """A pod's container waits for a reason, or runs again."""
    pod = await world.kube.get(Kind.POD, world.namespace, name)
    waiting: dict[str, Any] = (
        {"state": {"waiting": {"reason": reason}}} if reason else {"state": {}}
    )
    pod["status"]["containerStatuses"] = [waiting]
    await world.kube.replace_status(Kind.POD, world.namespace, pod)


def told(world: World) -> int:
    assert isinstance(world.kube, FakeKube)
    return sum(event["reason"] == "PodsWaiting" for event in world.kube.all(Kind.EVENT))


async def test_pods_that_take_turns_in_waiting_are_one_event(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    for turn in range(6):
        await stick(world, "shop-storage-0", "CrashLoopBackOff" if turn % 2 else None)
        await stick(world, "shop-storage-1", None if turn % 2 else "CrashLoopBackOff")
        await loop.step()
    assert told(world) == 1


async def test_a_problem_that_comes_back_is_told_again_once_its_event_has_expired(
    world: World,
) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    assert isinstance(world.kube, FakeKube)
    for _ in range(2):
        await stick(world, "shop-storage-0", "ErrImagePull")
        await loop.step()
        assert told(world) == 1
        await stick(world, "shop-storage-0", None)
        await loop.step()
        for key in [key for key in world.kube.objects if key[0] is Kind.EVENT]:
            del world.kube.objects[key]


async def test_a_lost_authority_is_not_replaced_in_silence(world: World) -> None:
    await world.apply(replicas=1)
    await world.settle(world.loop(), available)
    assert isinstance(world.kube, FakeKube)
    assert "AuthorityReplaced" not in {e["reason"] for e in world.kube.all(Kind.EVENT)}
    await world.kube.delete(Kind.SECRET, world.namespace, "shop-ca")
    await world.settle(world.loop(), available)
    assert "AuthorityReplaced" in {e["reason"] for e in world.kube.all(Kind.EVENT)}
