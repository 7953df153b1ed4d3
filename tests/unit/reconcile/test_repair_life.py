"""Lost copies in the life of a cluster: claims made anew, the record that follows, three left."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_operator.kube.api import Kind
from support.fake_kube import FakeKube
from support.operator_world import World, available

Manifest = dict[str, Any]


@pytest.fixture
async def world() -> World:
    made = World(FakeKube())
    await made.prepare()
    return made


async def lose(world: World, *slots: int) -> None:
    """Claim and pod of these slots are deleted."""
    for slot in slots:
        await world.kube.delete(Kind.POD, world.namespace, f"shop-storage-{slot}", grace_seconds=0)
        await world.kube.delete(Kind.CLAIM, world.namespace, f"data-shop-storage-{slot}")
    await world.tick()


def volume_of(cluster: Manifest | None) -> Manifest:
    found: Manifest = (cluster or {}).get("status", {}).get("volume") or {}
    return found


def repaired(*slots: int) -> Any:
    """Six copies serve, and these slots have other identities than at birth."""

    def check(world: World, cluster: Manifest | None) -> bool:
        status = (cluster or {}).get("status", {})
        identities = volume_of(cluster).get("identities", ())
        return (
            status.get("copiesReady") == "6/6"
            and status.get("status") == "available"
            and all("anew" in identities[slot] for slot in slots)
        )

    return check


async def test_rule_9_a_lost_claim_is_made_anew_and_the_record_follows(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    before = await world.settle(loop, available)
    await lose(world, 3)
    after = await world.settle(loop, repaired(3))
    assert world.formats == 1
    was, now = volume_of(before)["identities"], volume_of(after)["identities"]
    assert [slot for slot in range(6) if was[slot] != now[slot]] == [3]
    for _ in range(5):
        await loop.step()
        await world.tick()
    claim = await world.kube.get(Kind.CLAIM, world.namespace, "data-shop-storage-0")
    assert claim["metadata"]["annotations"]["aurora-operator.io/identities"] == ",".join(now)
    config = await world.kube.get(Kind.CONFIG_MAP, world.namespace, "shop-agent")
    assert now[3] in config["data"]["agent.json"]
    assert was[3] not in config["data"]["agent.json"]


async def test_rule_8_a_lost_status_comes_back_with_the_members_of_now(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    await lose(world, 3)
    before = await world.settle(loop, repaired(3))
    for _ in range(5):
        await loop.step()
        await world.tick()
    cluster = await world.kube.get(Kind.CLUSTER, world.namespace, "shop")
    await world.kube.replace_status(Kind.CLUSTER, world.namespace, {**cluster, "status": {}})
    after = await world.settle(world.loop(), repaired(3))
    assert volume_of(after) == volume_of(before)


async def test_rule_10_three_claims_gone_open_after_the_record(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    before = await world.settle(loop, available)
    await lose(world, 1, 2, 4)
    after = await world.settle(loop, repaired(1, 2, 4))
    assert world.formats == 1
    assert "lost" not in volume_of(after), "all three are replaced: the record has done its work"
    assert volume_of(after)["volumeID"] == volume_of(before)["volumeID"]
    assert len(world.openings) == 2


async def test_rule_10_four_claims_gone_open_nothing(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    await lose(world, 1, 2, 4, 5)

    def refused(_world: World, cluster: Manifest | None) -> bool:
        conditions = (cluster or {}).get("status", {}).get("conditions", ())
        return any("fewer than three copies are left" in c["message"] for c in conditions)

    await world.settle(loop, refused)
    claims = await world.kube.list(Kind.CLAIM, world.namespace)
    assert len(claims) == 2
    assert world.formats == 1
