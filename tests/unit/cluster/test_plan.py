"""``decide``: what a plan holds, and in which order, for the states of a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.cluster.actions import (
    AnnotateClaim,
    AskOpen,
    CreateClaim,
    CreateInstance,
    CreateStoragePod,
    DeleteClaims,
    DeleteObjects,
    DeletePod,
    EnsureSupport,
    ExpandClaim,
    FillEndpoints,
    FormatVolume,
    LabelRole,
    RecordNewVolume,
    RecordVolume,
    RemoveFinalizer,
)
from aurora_operator.core.cluster.events import EventKind
from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    Remembered,
    Role,
    SpecFacts,
    StorageClassView,
)
from aurora_operator.core.cluster.phases import ClusterPhase
from aurora_operator.core.cluster.plan import OPENING_SECONDS, decide
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import Slot, VolumeId
from support.observations import (
    NEW_VOLUME,
    NODES,
    VOLUME,
    claim,
    claims,
    healthy,
    in_birth,
    instance,
    instances,
    name,
    pod,
    unborn,
    without,
)


def kinds(seen: ClusterObservation) -> list[type]:
    return [type(action) for action in decide(seen).actions]


def conditions(seen: ClusterObservation) -> dict[str, tuple[bool, str]]:
    return {one.type: (one.status, one.reason) for one in decide(seen).conditions}


def events(seen: ClusterObservation) -> set[EventKind]:
    return {note.kind for note in decide(seen).notes}


def test_a_healthy_cluster_needs_nothing() -> None:
    plan = decide(healthy(replicas=2))
    assert plan.actions == (EnsureSupport(VOLUME),)
    assert plan.phase is ClusterPhase.AVAILABLE
    assert plan.sentence == "all is well"
    assert all(condition.status for condition in plan.conditions)


def test_a_new_cluster_records_before_it_makes_anything() -> None:
    assert kinds(unborn()) == [RecordNewVolume]


def test_a_recorded_volume_gets_claims_and_pods_before_any_format() -> None:
    seen = unborn(recorded=NEW_VOLUME)
    found = kinds(seen)
    assert found.count(CreateClaim) == found.count(CreateStoragePod) == 6
    assert found[0] is EnsureSupport
    assert FormatVolume not in found


def test_no_instance_before_the_volume_is_complete() -> None:
    seen = in_birth()
    assert kinds(seen)[-1] is FormatVolume
    assert CreateInstance not in kinds(seen)


def test_a_complete_volume_gets_its_instances() -> None:
    seen = healthy(replicas=2, instance_pods={}, instances={}, remembered=Remembered("creating"))
    made = [action for action in decide(seen).actions if isinstance(action, CreateInstance)]
    assert made == [CreateInstance(1), CreateInstance(2), CreateInstance(3)]
    assert decide(seen).phase is ClusterPhase.CREATING


def test_asking_to_open_comes_before_everything_else() -> None:
    seen = healthy(replicas=2, instances=instances(instance(2), instance(3)))
    seen = replace(seen, instance_pods={**seen.instance_pods, 1: pod(name(1), terminating=True)})
    plan = decide(seen)
    assert isinstance(plan.actions[0], AskOpen)
    assert plan.phase is ClusterPhase.FAILING_OVER
    assert plan.look_again_seconds == OPENING_SECONDS
    assert FillEndpoints in kinds(seen)
    assert EventKind.FAILOVER_STARTED_CROSS_ZONE in events(seen)


def test_failover_within_a_zone_says_so() -> None:
    seen = healthy(replicas=1, instances=instances(instance(2)))
    node = NODES[0].name
    pods = {1: pod(name(1), node, terminating=True), 2: pod(name(2), node)}
    assert EventKind.FAILOVER_STARTED_SAME_ZONE in events(replace(seen, instance_pods=pods))


def test_a_new_writer_completes_the_failover_once() -> None:
    answers = instances(instance(1), instance(2, Role.WRITER, term=Term(3)))
    seen = healthy(replicas=1, instances=answers)
    (note,) = [n for n in decide(seen).notes if n.kind is EventKind.FAILOVER_COMPLETED]
    assert note.message == "Completed failover to DB instance: shop-instance-2"
    settled = replace(seen, remembered=Remembered("available", name(2), Term(3)))
    assert EventKind.FAILOVER_COMPLETED not in events(settled)


def test_a_writer_in_doubt_is_neither_failed_over_nor_taken_from_the_endpoint() -> None:
    seen = healthy(replicas=1, instances=instances(instance(2)), silent_seconds={name(1): 0.1})
    plan = decide(seen)
    assert plan.phase is ClusterPhase.AVAILABLE
    assert not {AskOpen, FillEndpoints} & set(kinds(seen))


SCALING = {
    "up-takes-lowest-free": (healthy(1), 3, [3, 4], []),
    "down-takes-highest": (healthy(4), 1, [], [5, 4, 3]),
    "hole-is-filled": (
        replace(healthy(2), instance_pods=without(healthy(2).instance_pods, 2)),
        2,
        [2],
        [],
    ),
    "to-none": (healthy(2), 0, [], [3, 2]),
}


@pytest.mark.parametrize("case", SCALING)
def test_scaling(case: str) -> None:
    seen, replicas, created, removed = SCALING[case]
    plan = decide(replace(seen, spec=SpecFacts(replicas=replicas)))
    assert [a.ordinal for a in plan.actions if isinstance(a, CreateInstance)] == created
    assert [a.name for a in plan.actions if isinstance(a, DeletePod)] == [name(n) for n in removed]


def test_scaling_down_spares_a_writer_with_the_highest_number() -> None:
    answers = instances(instance(1), instance(2), instance(3, Role.WRITER))
    seen = healthy(2, instances=answers, spec=SpecFacts(replicas=0))
    removed = [a.name for a in decide(seen).actions if isinstance(a, DeletePod)]
    assert removed == [name(2), name(1)]


def test_nothing_is_scaled_down_while_no_writer_is_open() -> None:
    answers = instances(instance(2), instance(3))
    seen = healthy(2, instances=answers, spec=SpecFacts(replicas=0))
    seen = replace(seen, instance_pods={**seen.instance_pods, 1: pod(name(1), terminating=True)})
    assert DeletePod not in kinds(seen)


def test_a_terminating_instance_keeps_its_number() -> None:
    seen = healthy(1)
    pods = {**seen.instance_pods, 2: pod(name(2), terminating=True)}
    assert CreateInstance not in kinds(replace(seen, instance_pods=pods))


def test_an_instance_on_a_node_lost_for_a_minute_is_made_anew() -> None:
    seen = healthy(1)
    lost = seen.instance_pods[2].node
    nodes = tuple(
        replace(node, ready=False, unready_seconds=61.0) if node.name == lost else node
        for node in NODES
    )
    seen = replace(seen, nodes=nodes)
    assert DeletePod not in kinds(seen), "its agent answers: only the kubelet is lost"
    silent = replace(seen, instances=instances(instance(1, Role.WRITER)))
    assert DeletePod not in kinds(silent), "for a moment only"
    silent = replace(silent, silent_seconds={name(2): 3.0})
    assert DeletePod(name(2), f"uid-{name(2)}", force=True) in decide(silent).actions


def test_nothing_is_made_anew_while_no_node_at_all_is_ready() -> None:
    """Then the reporting of nodes has failed, and not six of them."""
    nodes = tuple(replace(node, ready=False, unready_seconds=600.0) for node in NODES)
    seen = healthy(1, nodes=nodes)
    assert DeletePod not in kinds(seen)
    quiet = {name(1): 60.0, name(2): 60.0}
    assert DeletePod not in kinds(replace(seen, instances={}, silent_seconds=quiet))


def test_claims_grow_when_the_class_allows_it() -> None:
    seen = healthy(spec=SpecFacts(replicas=1, storage_bytes=20 * 2**30))
    assert kinds(seen).count(ExpandClaim) == 6
    assert decide(seen).phase is ClusterPhase.MODIFYING


def test_claims_that_cannot_grow_are_a_condition() -> None:
    seen = healthy(
        spec=SpecFacts(replicas=1, storage_bytes=20 * 2**30),
        storage_class=StorageClassView("fixed", expandable=False),
    )
    assert ExpandClaim not in kinds(seen)
    assert conditions(seen)["SpecAccepted"] == (False, "StorageNotExpandable")
    assert decide(seen).phase is ClusterPhase.AVAILABLE


def test_a_lost_status_is_rebuilt_from_the_claims() -> None:
    seen = replace(healthy(), recorded=None, configured=None, remembered=Remembered())
    assert RecordVolume(VOLUME) in decide(seen).actions
    assert EventKind.VOLUME_FOUND in events(seen)


def test_claims_repeat_the_record() -> None:
    seen = healthy(claims=claims(NEW_VOLUME))
    assert kinds(seen).count(AnnotateClaim) == 6


def test_two_zones_are_allowed_and_said() -> None:
    nodes = tuple(node for node in NODES if node.zone != "zone-c")
    seen = unborn(nodes=nodes)
    assert kinds(seen) == [RecordNewVolume]
    assert conditions(seen)["ZonesSpread"] == (False, "FewerThanThreeZones")


def test_roles_are_shown_on_pods() -> None:
    seen = healthy(1)
    pods = {key: replace(one, role_label=None) for key, one in seen.instance_pods.items()}
    labelled = [
        action
        for action in decide(replace(seen, instance_pods=pods)).actions
        if isinstance(action, LabelRole)
    ]
    assert labelled == [LabelRole(name(1), "writer"), LabelRole(name(2), "replica")]


def test_pods_are_replaced_storage_first_then_replicas_then_the_writer() -> None:
    seen = healthy(1, outdated_pods=frozenset({"shop-storage-4", name(1), name(2)}))
    assert [a.name for a in decide(seen).actions if isinstance(a, DeletePod)] == ["shop-storage-4"]
    seen = replace(seen, outdated_pods=frozenset({name(1), name(2)}))
    assert [a.name for a in decide(seen).actions if isinstance(a, DeletePod)] == [name(2)]
    seen = replace(seen, outdated_pods=frozenset({name(1)}))
    assert [a.name for a in decide(seen).actions if isinstance(a, DeletePod)] == [name(1)]


def test_nothing_is_replaced_while_a_copy_is_missing() -> None:
    seen = healthy(1, outdated_pods=frozenset({"shop-storage-4"}))
    assert DeletePod not in kinds(replace(seen, copies=without(seen.copies, Slot(0))))


def test_nothing_is_replaced_while_a_copy_does_not_follow() -> None:
    seen = healthy(1, outdated_pods=frozenset({"shop-storage-4"}))
    writer = instance(1, Role.WRITER, copies_streaming=5)
    assert DeletePod not in kinds(replace(seen, instances=instances(writer, instance(2))))
    behind = replace(seen.copies[Slot(2)], scl=Lsn(0x900000))
    assert DeletePod not in kinds(replace(seen, copies={**seen.copies, Slot(2): behind}))


@pytest.mark.parametrize("streaming", [3, 4, 5])
def test_writes_that_wait_are_not_available_though_every_copy_answers(streaming: int) -> None:
    writer = instance(1, Role.WRITER, copies_streaming=streaming)
    told = conditions(healthy(1, instances=instances(writer, instance(2))))
    expected = (False, "WritesWait") if streaming < 4 else (True, "WriterOpen")
    assert told["Available"] == expected
    assert told["CopiesComplete"] == (False, "CopiesMissing")
    assert told["Ready"] == (False, "NotReady")


def test_an_outdated_pod_that_does_not_run_is_replaced_whatever_else_is_missing() -> None:
    """Else a release that cannot start would stop the roll to the one that can, for ever."""
    seen = healthy(1)
    stuck = replace(seen.storage_pods[Slot(0)], waiting="CrashLoopBackOff")
    seen = replace(
        seen,
        storage_pods={**seen.storage_pods, Slot(0): stuck},
        copies=without(seen.copies, Slot(0)),
    )
    assert DeletePod not in kinds(seen), "its form is the wanted one: a new pod would not help"
    seen = replace(seen, outdated_pods=frozenset({stuck.name, "shop-storage-4", name(2)}))
    assert [a.name for a in decide(seen).actions if isinstance(a, DeletePod)] == [stuck.name]


@pytest.mark.parametrize("ordinal", [1, 2])
def test_an_outdated_instance_that_serves_nothing_never_blocks_its_own_replacement(
    ordinal: int,
) -> None:
    """A container that hangs in its creation shows no reason to wait for."""
    seen = healthy(1, outdated_pods=frozenset({name(ordinal)}))
    pods = {**seen.instance_pods, ordinal: replace(seen.instance_pods[ordinal], ready=False)}
    seen = replace(seen, instance_pods=pods)
    silent = replace(seen, instances=without(seen.instances, name(ordinal)))
    assert DeletePod(name(ordinal), f"uid-{name(ordinal)}") in decide(silent).actions
    lost = tuple(replace(node, ready=node.name != pods[ordinal].node) for node in NODES)
    assert DeletePod not in kinds(replace(silent, nodes=lost)), "it may serve behind a cut"


def test_a_healthy_pod_is_rolled_with_its_successor_tried_first() -> None:
    seen = healthy(1, outdated_pods=frozenset({"shop-storage-4"}))
    (action,) = [a for a in decide(seen).actions if isinstance(a, DeletePod)]
    assert action.try_successor


STRAYS = {
    "of-another-volume": {"volume_id": VolumeId("vol-2")},
    "of-nobody": {"volume_id": None, "identities": (), "owned_by_other": True},
    "with-another-list": {"identities": tuple(reversed(VOLUME.identities))},
}


@pytest.mark.parametrize("stray", STRAYS)
def test_a_stray_claim_stops_its_own_slot_and_nothing_else(stray: str) -> None:
    seen = healthy(1, instances=instances(instance(2)))
    seen = replace(
        seen,
        claims={**seen.claims, Slot(4): replace(seen.claims[Slot(4)], **STRAYS[stray])},
        storage_pods=without(seen.storage_pods, Slot(3), Slot(4)),
        copies=without(seen.copies, Slot(3), Slot(4)),
        instance_pods={**seen.instance_pods, 1: pod(name(1), phase="Failed")},
    )
    plan = decide(seen)
    assert isinstance(plan.actions[0], AskOpen)
    assert CreateStoragePod(Slot(3), "zone-b") in plan.actions
    assert {type(action) for action in plan.actions if getattr(action, "slot", 3) != 3} == set()
    assert DeletePod(name(1), f"uid-{name(1)}") in plan.actions
    assert not conditions(seen)["VolumeConsistent"][0]


def test_a_stray_claim_before_the_volume_was_complete_stops_everything() -> None:
    seen = in_birth(claims={**claims(NEW_VOLUME), Slot(4): claim(4, volume_id=VolumeId("vol-2"))})
    assert kinds(seen) == []


def test_no_pod_is_replaced_while_its_claim_goes() -> None:
    """The claim, and the copy in it, lasts exactly as long as the pod."""
    going = {slot: replace(one, terminating=True) for slot, one in claims().items()}
    outdated = frozenset(one.name for one in healthy().storage_pods.values())
    seen = healthy(1, claims=going, outdated_pods=outdated)
    assert DeletePod not in kinds(seen)
    assert conditions(seen)["VolumeConsistent"] == (False, "ClaimsTerminating")
    assert conditions(seen)["Available"] == (True, "WriterOpen")


DELETION = {
    "instances-first": (healthy(1, deleting=True), [DeletePod, DeletePod]),
    "then-storage": (healthy(deleting=True, instance_pods={}), [DeletePod] * 6),
    "then-objects": (
        healthy(deleting=True, instance_pods={}, storage_pods={}, other_objects=3),
        [DeleteObjects],
    ),
    "retained-claims-stay": (
        healthy(deleting=True, instance_pods={}, storage_pods={}),
        [RemoveFinalizer],
    ),
    "claims-go-when-asked": (
        healthy(
            deleting=True, instance_pods={}, storage_pods={}, spec=SpecFacts(delete_volume=True)
        ),
        [DeleteClaims],
    ),
    "the-finalizer-goes-last": (
        healthy(
            deleting=True,
            instance_pods={},
            storage_pods={},
            claims={},
            spec=SpecFacts(delete_volume=True),
        ),
        [RemoveFinalizer],
    ),
}


@pytest.mark.parametrize("case", DELETION)
def test_deletion_goes_in_order(case: str) -> None:
    seen, wanted = DELETION[case]
    assert kinds(seen) == wanted


def test_only_claims_of_the_own_volume_are_ever_deleted() -> None:
    strange = replace(claims()[Slot(2)], volume_id=None, owned_by_other=True)
    seen = healthy(
        deleting=True,
        instance_pods={},
        storage_pods={},
        claims={**claims(), Slot(2): strange},
        spec=SpecFacts(delete_volume=True),
    )
    (action,) = decide(seen).actions
    assert action == DeleteClaims(tuple(Slot(slot) for slot in (0, 1, 3, 4, 5)))


def test_claims_that_are_left_are_not_called_deleted() -> None:
    two = {**claims(), Slot(2): claim(2, volume_id=VolumeId("vol-2"))}
    seen = healthy(
        deleting=True,
        recorded=None,
        configured=None,
        instance_pods={},
        storage_pods={},
        claims=two,
        spec=SpecFacts(delete_volume=True),
    )
    plan = decide(seen)
    assert plan.actions == (RemoveFinalizer(),)
    assert "slots 0, 1, 2, 3, 4, 5 stay" in plan.sentence


def test_deletion_protection_keeps_everything() -> None:
    seen = healthy(deleting=True, spec=SpecFacts(replicas=1, deletion_protection=True))
    plan = decide(seen)
    assert plan.phase is ClusterPhase.AVAILABLE
    assert kinds(seen) == [EnsureSupport]
    assert EventKind.DELETION_PROTECTED in events(seen)
