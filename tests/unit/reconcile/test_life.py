"""The life of a cluster, told in steps: creation, failover, scaling, loss, deletion."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from aurora_operator.api import labels
from aurora_operator.api.messages import InstanceRole
from aurora_operator.kube.api import Kind, Manifest
from support.fake_kube import FakeKube
from support.operator_world import World, available, gone


@pytest.fixture
async def world() -> World:
    made = World(FakeKube())
    await made.prepare()
    return made


@dataclass
class Clock:
    """A monotonic clock that goes when it is told to."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def kube_of(world: World) -> FakeKube:
    assert isinstance(world.kube, FakeKube)
    return world.kube


def names(world: World, kind: Kind) -> set[str]:
    return {found["metadata"]["name"] for found in kube_of(world).all(kind)}


def events(world: World) -> list[str]:
    return [event["message"] for event in kube_of(world).all(Kind.EVENT)]


async def test_a_cluster_is_created_in_the_safe_order(world: World) -> None:
    await world.apply(replicas=2, databaseName="shop")
    cluster = await world.settle(world.loop(), available)
    assert cluster is not None
    status = cluster["status"]
    assert status["status"] == "available"
    assert status["writer"] == "shop-instance-1"
    assert (status["replicasReady"], status["copiesReady"]) == ("2/2", "6/6")
    assert status["volume"]["complete"] is True
    assert world.formats == 1
    assert names(world, Kind.SERVICE) == {"shop", "shop-ro", "shop-instances", "shop-storage"}
    assert "DB cluster created" in events(world)


async def test_a_deleted_writer_pod_is_replaced_by_the_reflex(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    await world.kube.delete(Kind.POD, world.namespace, "shop-instance-1")
    await loop.react()
    assert world.openings[-1] == "shop-instance-2"
    await world.settle(loop, available)
    told = events(world)
    assert "Started cross AZ failover to DB instance: shop-instance-2" in told
    assert "Completed failover to DB instance: shop-instance-2" in told
    assert names(world, Kind.POD) >= {"shop-instance-1", "shop-instance-2"}


async def annotate(world: World, value: str) -> None:
    metadata = {"annotations": {labels.SWITCHOVER: value}}
    await world.kube.patch(Kind.CLUSTER, world.namespace, "shop", {"metadata": metadata})


def not_asked(world: World, cluster: Manifest | None) -> bool:
    """The annotation is gone, and everything is there."""
    assert cluster is not None
    asked = labels.SWITCHOVER in (cluster["metadata"].get("annotations") or {})
    return not asked and available(world, cluster)


async def test_a_switchover_by_annotation_is_carried_out_once(world: World) -> None:
    await world.apply(replicas=2)
    loop = world.loop()
    await world.settle(loop, available)
    await annotate(world, "any")
    cluster = await world.settle(loop, not_asked)
    assert cluster is not None
    assert cluster["status"]["writer"] == "shop-instance-2"
    assert world.hand_overs == ["shop-instance-1 to shop-instance-2"]
    told = events(world)
    assert "Started cross AZ failover to DB instance: shop-instance-2" in told
    assert "Completed failover to DB instance: shop-instance-2" in told
    assert not any("Cannot switch over" in message for message in told)


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_an_operator_that_starts_anew_repeats_no_switchover(world: World, steps: int) -> None:
    await world.apply(replicas=2)
    loop = world.loop()
    await world.settle(loop, available)
    await annotate(world, "any")
    for _ in range(steps):
        await loop.step()
    await world.settle(world.loop(), not_asked)
    assert world.hand_overs == ["shop-instance-1 to shop-instance-2"]
    assert not any("Cannot switch over" in message for message in events(world))


async def test_a_switchover_that_is_withdrawn_is_told_and_not_repeated(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    world.server_of("shop-instance-1").cannot_hand_over = "withdrawn: the target is slow"
    await annotate(world, "shop-instance-2")
    cluster = await world.settle(loop, not_asked)
    assert cluster is not None
    assert cluster["status"]["writer"] == "shop-instance-1"
    assert world.hand_overs == ["shop-instance-1 to shop-instance-2"]
    assert any("withdrawn: the target is slow" in message for message in events(world))


async def test_a_switchover_to_an_unknown_instance_is_answered(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    await annotate(world, "shop-instance-9")
    await world.settle(loop, not_asked)
    assert world.hand_overs == []
    assert any("no such instance" in message for message in events(world))


async def test_an_ended_server_without_replica_restarts_in_place(world: World) -> None:
    await world.apply(replicas=0)
    loop = world.loop()
    await world.settle(loop, available)
    server = world.server_of("shop-instance-1")
    server.role, server.restartable = InstanceRole.STOPPED, True
    await world.settle(loop, available)
    assert server.role is InstanceRole.WRITER
    assert world.openings == ["shop-instance-1"]


async def test_a_writer_that_shut_its_door_is_followed_by_another(world: World) -> None:
    await world.apply(replicas=1)
    clock = Clock()
    loop = world.loop(now_seconds=clock)
    await world.settle(loop, available)
    world.server_of("shop-instance-1").shut = True
    await loop.step()
    assert world.openings == ["shop-instance-1"], "a moment's grace"
    clock.seconds += 3.0
    await world.settle(loop, lambda w, _: w.writer() == "shop-instance-2")


async def test_every_instance_lost_and_the_volume_opens_again(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    for name in ("shop-instance-1", "shop-instance-2"):
        await world.kube.delete(Kind.POD, world.namespace, name, grace_seconds=0)
    await world.settle(loop, available)
    assert world.formats == 1
    assert len(world.openings) == 2


async def test_scaling_takes_the_highest_that_is_not_the_writer(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    await world.apply(replicas=4)
    await world.settle(loop, available)
    await world.apply(replicas=1)
    await world.settle(loop, lambda w, c: available(w, c) and len(w.servers_alive()) == 2)
    assert set(world.servers_alive()) == {"shop-instance-1", "shop-instance-2"}


async def test_deletion_with_delete_leaves_nothing(world: World) -> None:
    await world.apply(replicas=1, storage={"retainPolicy": "Delete"})
    loop = world.loop()
    await world.settle(loop, available)
    await world.kube.delete(Kind.CLUSTER, world.namespace, "shop")
    await world.settle(loop, gone)
    left = {kind for kind in Kind if kube_of(world).all(kind)}
    assert left == {Kind.NODE, Kind.STORAGE_CLASS, Kind.EVENT}


async def test_deletion_with_retain_and_a_new_cluster_of_the_name(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    before = await world.settle(loop, available)
    await world.kube.delete(Kind.CLUSTER, world.namespace, "shop")
    await world.settle(loop, gone)
    assert len(names(world, Kind.CLAIM)) == 6
    await world.apply(replicas=1)
    after = await world.settle(world.loop(), available)
    assert before is not None
    assert after is not None
    assert after["status"]["volume"] == before["status"]["volume"]
    assert world.formats == 1


async def test_deletion_protection_keeps_the_cluster_serving(world: World) -> None:
    await world.apply(replicas=1, deletionProtection=True)
    loop = world.loop()
    await world.settle(loop, available)
    await world.kube.delete(Kind.CLUSTER, world.namespace, "shop")
    await world.settle(loop, _says("DeletionAllowed", "DeletionProtected"))
    assert world.writer() == "shop-instance-1"
    await world.apply(deletionProtection=False)
    await world.settle(loop, gone)


async def test_rule_13_lost_status_and_one_claim_lead_to_no_second_initdb(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    before = await world.settle(loop, available)
    assert before is not None
    cluster = await world.kube.get(Kind.CLUSTER, world.namespace, "shop")
    await world.kube.replace_status(Kind.CLUSTER, world.namespace, {**cluster, "status": {}})
    await world.kube.delete(Kind.POD, world.namespace, "shop-storage-3", grace_seconds=0)
    await world.kube.delete(Kind.CLAIM, world.namespace, "data-shop-storage-3")
    await world.tick()
    after = await world.settle(world.loop(), _says("VolumeConsistent", "CopyLost"))
    for _ in range(5):
        await loop.step()
        await world.tick()
    assert after is not None
    assert after["status"]["volume"] == before["status"]["volume"]
    assert world.formats == 1


async def test_rule_13_six_claims_gone_are_not_replaced_by_an_empty_volume(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    for slot in range(6):
        await world.kube.delete(Kind.POD, world.namespace, f"shop-storage-{slot}", grace_seconds=0)
        await world.kube.delete(Kind.CLAIM, world.namespace, f"data-shop-storage-{slot}")
    await world.settle(world.loop(), _says("VolumeConsistent", "VolumeLost"))
    assert world.formats == 1
    assert not names(world, Kind.CLAIM)


async def test_claims_of_two_volumes_are_told_apart_and_nothing_is_touched(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    await world.kube.delete(Kind.CLUSTER, world.namespace, "shop")
    await world.settle(loop, gone)
    await world.kube.patch(
        Kind.CLAIM,
        world.namespace,
        "data-shop-storage-2",
        {"metadata": {"annotations": {labels.VOLUME_ID: "vol-other"}}},
    )
    await world.apply(replicas=1)
    cluster = await world.settle(world.loop(), _says("VolumeConsistent", "VolumeMismatch"))
    assert cluster is not None
    assert "slot 2: vol-other" in _condition(cluster, "VolumeConsistent")["message"]
    assert not names(world, Kind.POD)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"masterUserPassword": {"name": "absent"}}, "MasterPasswordMissing"),
        ({"storage": {"storageClassName": "absent"}}, "NoStorageClass"),
        ({"parameterOverrides": {"FSYNC": "off"}}, "ParameterRefused"),
    ],
    ids=["password-secret-missing", "no-storage-class", "refused-parameter-in-capitals"],
)
async def test_bad_input_is_a_condition_and_an_event_and_builds_nothing(
    world: World, spec: dict[str, object], reason: str
) -> None:
    await world.apply(**spec)
    cluster = await world.settle(world.loop(), _says("SpecAccepted", reason))
    assert cluster is not None
    assert any(event["reason"] == reason for event in kube_of(world).all(Kind.EVENT))
    assert not names(world, Kind.POD)
    assert not names(world, Kind.CLAIM)
    assert "volume" not in cluster["status"]


async def test_a_service_of_somebody_else_is_left_alone(world: World) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop", "namespace": world.namespace},
        "spec": {"ports": [{"port": 80}]},
    }
    await world.kube.create(Kind.SERVICE, world.namespace, foreign)
    await world.apply()
    cluster = await world.settle(world.loop(), _says("SpecAccepted", "ServiceNameTaken"))
    kept = await world.kube.get(Kind.SERVICE, world.namespace, "shop")
    assert kept["spec"] == foreign["spec"]
    assert cluster is not None
    assert "endpoint" not in cluster["status"]
    assert not names(world, Kind.POD)


async def test_a_service_that_becomes_somebody_elses_keeps_nothing_else_waiting(
    world: World,
) -> None:
    await world.apply(replicas=1)
    await world.settle(world.loop(), available)
    for service in ("shop", "shop-ro"):
        await world.kube.delete(Kind.SERVICE, world.namespace, service)
    taken = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": {}}
    await world.kube.create(Kind.SERVICE, world.namespace, taken)
    cluster = await world.settle(world.loop(), _says("Reconciled", "ActionRefused"))
    assert cluster is not None
    assert _condition(cluster, "Ready")["status"] == "False"
    assert "endpoint" not in cluster["status"]
    assert cluster["status"]["readerEndpoint"] == "shop-ro.test.svc"
    assert "shop-ro" in names(world, Kind.SERVICE), "the others are repaired"


def _condition(cluster: Manifest, kind: str) -> Manifest:
    conditions: list[Manifest] = cluster["status"]["conditions"]
    return next(entry for entry in conditions if entry["type"] == kind)


def _says(kind: str, reason: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    def check(_: World, cluster: Manifest | None) -> bool:
        conditions = ((cluster or {}).get("status") or {}).get("conditions") or ()
        return any(entry["type"] == kind and entry["reason"] == reason for entry in conditions)

    return check


async def test_a_cluster_that_cannot_be_read_says_so_and_is_left_alone(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    before = {kind: names(world, kind) for kind in Kind if kind is not Kind.EVENT}
    await world.apply(storage={"retainPolicy": "Perhaps"})
    running = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(10):
            cluster: Manifest | None = None
            while not _says("SpecAccepted", "Unreadable")(world, cluster):
                await asyncio.sleep(0)
                cluster = await world.kube.get(Kind.CLUSTER, world.namespace, "shop")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert {kind: names(world, kind) for kind in before} == before
    assert any("Perhaps" in message or "Retain" in message for message in events(world))


async def test_a_cluster_that_cannot_be_read_can_be_deleted_and_keeps_its_volume(
    world: World,
) -> None:
    await world.apply(replicas=1, storage={"retainPolicy": "Delete"})
    loop = world.loop()
    await world.settle(loop, available)
    await world.apply(replicas="many")
    await world.kube.delete(Kind.CLUSTER, world.namespace, "shop")
    await world.settle(loop, gone)
    assert len(names(world, Kind.CLAIM)) == 6
    assert not names(world, Kind.POD)


async def test_a_fault_in_looking_is_a_condition_and_an_event(world: World) -> None:
    await world.apply(replicas=1)
    loop = world.loop()
    await world.settle(loop, available)
    await world.kube.patch(
        Kind.CLAIM,
        world.namespace,
        "data-shop-storage-2",
        {"spec": {"resources": {"requests": {"storage": "nonsense"}}}},
    )
    for _ in range(2):
        with pytest.raises(ValueError, match="nonsense"):
            await loop.run()
    cluster = await world.kube.get(Kind.CLUSTER, world.namespace, "shop")
    for kind in ("Reconciled", "Ready"):
        assert _condition(cluster, kind)["status"] == "False"
        assert "nonsense" in _condition(cluster, kind)["message"]
    assert sum("nonsense" in message for message in events(world)) == 1


async def test_a_fraction_of_a_unit_blinds_nobody(world: World) -> None:
    """The API server stores 1.1Gi as 1181116006400m; clusters made before may ask for that."""
    await world.apply(replicas=1, storage={"size": "1.1Gi"})
    loop = world.loop()
    await world.settle(loop, available)
    claim = await world.kube.get(Kind.CLAIM, world.namespace, "data-shop-storage-2")
    assert claim["spec"]["resources"]["requests"]["storage"] == "1181116007"
    asked = {"spec": {"resources": {"requests": {"storage": "1181116006400m"}}}}
    await world.kube.patch(Kind.CLAIM, world.namespace, "data-shop-storage-2", asked)
    await world.settle(loop, available)


async def test_a_new_image_replaces_every_pod_one_by_one_and_the_writer_last(world: World) -> None:
    await world.apply(replicas=1)
    await world.settle(world.loop(), available)
    before = {pod["metadata"]["uid"] for pod in kube_of(world).all(Kind.POD)}
    writer = world.writer()
    loop = world.loop(image="engine:next")
    gone_in_order: list[str] = []

    def note_and_check(_: World, cluster: Manifest | None) -> bool:
        there = {pod["metadata"]["uid"] for pod in world.pods.values()}
        gone_in_order.extend(sorted(before - there - set(gone_in_order)))
        assert len(world.pods) >= 7, "two at once"
        known = cluster is not None and cluster["status"].get("writer") == world.writer()
        return known and not before & there and available(world, cluster)

    cluster = await world.settle(loop, note_and_check, steps=120)
    assert cluster is not None
    assert len(gone_in_order) == 8
    assert cluster["status"]["writer"] != writer
    images = {pod["spec"]["containers"][0]["image"] for pod in kube_of(world).all(Kind.POD)}
    assert images == {"engine:next"}
    assert world.formats == 1


async def test_a_form_that_would_be_refused_costs_no_pod_that_serves(world: World) -> None:
    await world.apply(replicas=1)
    await world.settle(world.loop(), available)
    before = {pod["metadata"]["uid"] for pod in kube_of(world).all(Kind.POD)}
    kube_of(world).refusal = "denied by policy: engine:next is not signed"
    loop = world.loop(image="engine:next")
    cluster = await world.settle(loop, _says("Reconciled", "ActionRefused"))
    assert cluster is not None
    assert "not signed" in _condition(cluster, "Reconciled")["message"]
    assert {pod["metadata"]["uid"] for pod in kube_of(world).all(Kind.POD)} == before
    kube_of(world).refusal = "exceeded quota: pods"
    await world.settle(
        loop, lambda w, _: bool(before - {p["metadata"]["uid"] for p in w.pods.values()})
    )
