"""Copies that are gone for good: what the operator makes anew, records, and leaves alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_operator.core.cluster.actions import (
    AskOpen,
    CreateClaim,
    CreateStoragePod,
    DeleteClaim,
    DeletePod,
    RecordVolume,
)
from aurora_operator.core.cluster.events import EventKind
from aurora_operator.core.cluster.observation import (
    ClusterObservation,
    CopyGrade,
    InstanceView,
    Remembered,
    Role,
    SpecFacts,
)
from aurora_operator.core.cluster.phases import ClusterPhase
from aurora_operator.core.cluster.plan import decide
from aurora_operator.core.cluster.repair import (
    Declare,
    EndWriter,
    ReplaceAt,
    ReplaceLater,
    ThreeLeft,
    judge_three_left,
    next_replacement,
)
from aurora_operator.core.cluster.volume_record import (
    Contradiction,
    Known,
    doubtful_slots,
    find_volume,
    follow_members,
    undisputed,
)
from aurora_operator.core.lsn import Term
from aurora_operator.core.members import MemberList, MemberVersion
from aurora_operator.core.names import Identity, Slot
from support.observations import (
    NODES,
    VOLUME,
    claim,
    claims,
    copy,
    healthy,
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


def without_disks(*slots: int) -> ClusterObservation:
    seen = healthy()
    gone = [Slot(slot) for slot in slots]
    return replace(
        seen,
        claims=without(seen.claims, *gone),
        storage_pods=without(seen.storage_pods, *gone),
        copies=without(seen.copies, *gone),
    )


def test_rule_9_a_lost_claim_is_made_anew_while_four_others_are_full() -> None:
    seen = without_disks(3, 4)
    assert kinds(seen).count(CreateClaim) == kinds(seen).count(CreateStoragePod) == 2
    assert conditions(seen)["VolumeConsistent"] == (False, "CopyLost")


def test_rule_10_with_three_left_no_blank_claim_takes_a_name_before_the_record() -> None:
    seen = without_disks(3, 4, 5)
    assert not {CreateClaim, CreateStoragePod} & set(kinds(seen))
    recorded = replace(VOLUME, lost=VOLUME.identities[3:])
    assert kinds(replace(seen, recorded=recorded)).count(CreateClaim) == 3


def test_rule_10_three_left_are_recorded_once_and_then_opened() -> None:
    seen = replace(
        without_disks(3, 4, 5),
        instance_pods={2: healthy().instance_pods[2]},
        instances=instances(instance(2)),
    )
    records = [a.volume for a in decide(seen).actions if isinstance(a, RecordVolume)]
    assert [volume.lost for volume in records] == [VOLUME.identities[3:]]
    assert EventKind.COPIES_DECLARED_LOST in events(seen)
    asks = [a for a in decide(replace(seen, recorded=records[0])).actions if isinstance(a, AskOpen)]
    assert [ask.lost for ask in asks] == [VOLUME.identities[3:]]


def test_rule_9_a_copy_that_cannot_run_is_made_anew_on_another_node() -> None:
    seen = disabled()
    actions = decide(seen).actions
    pod = seen.storage_pods[Slot(0)]
    assert DeletePod(pod.name, pod.uid, force=True) in actions
    assert DeleteClaim(Slot(0)) in actions
    assert actions.index(DeletePod(pod.name, pod.uid, force=True)) < actions.index(
        DeleteClaim(Slot(0))
    ), "a claim that goes while its pod is there is hands off for the next cycle"
    assert EventKind.COPY_REPLACED in events(seen)


def test_rule_8_the_record_follows_the_list_that_the_volume_tells() -> None:
    listed = MemberList(MemberVersion(Term(2), 2), (Identity("s0_new"), *VOLUME.identities[1:]))
    seen = healthy(copies={Slot(n): copy(n, members=listed) for n in range(6)})
    records = [a.volume for a in decide(seen).actions if isinstance(a, RecordVolume)]
    assert [(v.identities, v.version) for v in records] == [(listed.identities, listed.version)]
    assert EventKind.COPY_REPAIR_COMPLETED in events(seen)


def writer(slots: frozenset[Slot] = frozenset(map(Slot, range(1, 6)))) -> InstanceView:
    return instance(1, Role.WRITER, copies_streaming=len(slots), slots_streaming=slots)


def disabled(**changes: object) -> ClusterObservation:
    """The node of slot 0 is gone, for longer than the spec allows."""
    seen = healthy()
    node = seen.storage_pods[Slot(0)].node
    facts = {
        "nodes": tuple(n for n in NODES if n.name != node),
        "copies": without(seen.copies, Slot(0)),
        "disabled_seconds": {Slot(0): 601.0},
        "instances": instances(writer(), instance(2)),
    }
    return replace(seen, **(facts | changes))  # type: ignore[arg-type]


PENDING = pod("shop-storage-0", phase="Pending", waiting="cannot be scheduled: no node fits")
NO_ZONE_A = tuple(n for n in NODES if n.zone != "zone-a")


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        pytest.param(healthy(), None, id="all-well"),
        pytest.param(disabled(), ReplaceAt, id="node-gone"),
        pytest.param(disabled(disabled_seconds={Slot(0): 599.0}), None, id="not-yet"),
        pytest.param(
            disabled(
                nodes=tuple(replace(n, ready=n.name != NODES[0].name) for n in NODES),
            ),
            ReplaceAt,
            id="node-not-ready",
        ),
        pytest.param(
            disabled(
                nodes=NODES,
                storage_pods={**healthy().storage_pods, Slot(0): replace(PENDING, node=None)},
            ),
            ReplaceAt,
            id="cannot-be-scheduled",
        ),
        pytest.param(disabled(nodes=NODES), None, id="silent-on-a-ready-node"),
        pytest.param(disabled(instances=instances(instance(2))), ReplaceLater, id="no-writer"),
        pytest.param(
            disabled(copies=without(healthy().copies, Slot(0), Slot(3))),
            ReplaceAt,
            id="another-is-silent-too",
        ),
        pytest.param(
            disabled(copies=without(healthy().copies, Slot(0), Slot(3), Slot(4))),
            ReplaceLater,
            id="three-others",
        ),
        pytest.param(
            disabled(
                copies={
                    **without(healthy().copies, Slot(0)),
                    Slot(3): copy(3, CopyGrade.FILLING),
                }
            ),
            None,
            id="another-is-filled-first",
        ),
        pytest.param(
            disabled(copies={**healthy().copies, Slot(3): copy(3, CopyGrade.FILLING)}),
            None,
            id="it-answers-after-all",
        ),
        pytest.param(
            disabled(instances=instances(writer(frozenset(map(Slot, range(6)))), instance(2))),
            None,
            id="the-writer-still-has-it",
        ),
        pytest.param(
            disabled(instances=instances(writer(frozenset(map(Slot, (1, 2, 3)))), instance(2))),
            ReplaceLater,
            id="three-others-stream",
        ),
        pytest.param(disabled(nodes=NO_ZONE_A), ReplaceLater, id="zone-without-a-node"),
        pytest.param(
            disabled(nodes=NO_ZONE_A, spec=SpecFacts(allow_zone_move=True)),
            ReplaceAt,
            id="zone-without-a-node-and-it-may-move",
        ),
    ],
)
def test_rule_9_next_replacement(seen: ClusterObservation, verdict: type[object] | None) -> None:
    found = next_replacement(seen, VOLUME)
    assert (found is None) if verdict is None else isinstance(found, verdict), found


def three_left(**changes: object) -> ClusterObservation:
    """Slots 3 to 5 have no claims, and the pod of the writer is gone."""
    facts = {
        "instance_pods": {2: healthy().instance_pods[2]},
        "instances": instances(instance(2)),
    }
    return replace(without_disks(3, 4, 5), **(facts | changes))  # type: ignore[arg-type]


BLANK = {Slot(n): copy(n) if n < 3 else copy(n, CopyGrade.BLANK) for n in range(6)}
FAILED = {Slot(n): copy(n) if n < 3 else copy(n, CopyGrade.FAILED) for n in range(6)}
WORD = VOLUME.identities[3:]
OLD_WRITER = {1: healthy().instance_pods[1]}


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        pytest.param(healthy(), None, id="all-well"),
        pytest.param(without_disks(3, 4), None, id="four-left"),
        pytest.param(three_left(), Declare, id="claims-gone"),
        pytest.param(three_left(claims=claims(), copies=BLANK), Declare, id="answer-blank"),
        pytest.param(three_left(claims=claims()), None, id="three-pods-are-silent"),
        pytest.param(
            three_left(claims=claims(), lost_by_word=WORD), Declare, id="silent-and-a-word"
        ),
        pytest.param(three_left(claims=claims(), lost_by_word=WORD[:2]), None, id="a-word-for-two"),
        pytest.param(
            three_left(claims=claims(), lost_by_word=VOLUME.identities[:3]),
            None,
            id="a-word-for-others",
        ),
        pytest.param(three_left(claims=claims(), copies=FAILED), None, id="failed-may-hold-data"),
        pytest.param(
            three_left(claims=claims(), copies=FAILED, lost_by_word=WORD),
            Declare,
            id="failed-and-a-word",
        ),
        pytest.param(
            three_left(
                instance_pods={**OLD_WRITER, 2: pod(name(2))}, remembered=Remembered(writer=name(1))
            ),
            ThreeLeft,
            id="the-writers-pod-is-silent",
        ),
        pytest.param(
            three_left(
                instance_pods={**OLD_WRITER, 2: pod(name(2))},
                remembered=Remembered(writer=name(1)),
                lost_by_word=WORD,
            ),
            Declare,
            id="the-writers-pod-is-silent-and-a-word",
        ),
        pytest.param(
            three_left(
                instance_pods=OLD_WRITER,
                instances=instances(instance(1)),
                remembered=Remembered(writer=name(1)),
            ),
            Declare,
            id="the-writers-pod-is-a-replica-by-now",
        ),
        pytest.param(
            three_left(
                instance_pods=OLD_WRITER,
                instances=instances(writer(frozenset(map(Slot, range(3))))),
            ),
            EndWriter,
            id="the-writer-is-open",
        ),
        pytest.param(
            three_left(instance_pods=OLD_WRITER, instances=instances(writer())),
            None,
            id="the-writer-has-more-than-three",
        ),
        pytest.param(
            replace(
                without_disks(2, 3, 4, 5),
                instances=instances(instance(2)),
                instance_pods={2: healthy().instance_pods[2]},
            ),
            ThreeLeft,
            id="four-lost",
        ),
    ],
)
def test_rule_10_judge_three_left(seen: ClusterObservation, verdict: type[object] | None) -> None:
    found = judge_three_left(seen, VOLUME)
    assert (found is None) if verdict is None else isinstance(found, verdict), found


def test_rule_10_it_is_recorded_once() -> None:
    assert judge_three_left(three_left(), replace(VOLUME, lost=WORD)) is None


def test_rule_10_four_lost_is_said() -> None:
    seen = replace(without_disks(2, 3, 4, 5), instances=instances(instance(2)), instance_pods={})
    assert conditions(seen)["VolumeConsistent"][0] is False
    assert decide(seen).phase is ClusterPhase.STORAGE_FAILURE
    assert not {CreateClaim, RecordVolume} & set(kinds(seen))


NEW = Identity("s0_new")
LISTED = MemberList(MemberVersion(Term(2), 2), (NEW, *VOLUME.identities[1:]))
FIVE = MemberList(MemberVersion(Term(2), 1), VOLUME.identities[1:], tuple(map(Slot, range(1, 6))))
NOW = replace(VOLUME, identities=LISTED.identities, version=LISTED.version)


def telling(listed: MemberList, count: int = 6, **changes: object) -> ClusterObservation:
    copies = {Slot(n): copy(n, members=listed if n < count else None) for n in range(6)}
    return healthy(copies=copies, **changes)


def test_rule_8_a_list_on_two_copies_may_never_have_come_into_effect() -> None:
    assert follow_members(telling(LISTED, 2), VOLUME) == VOLUME
    assert follow_members(telling(LISTED, 3), VOLUME) == NOW


def test_rule_8_an_empty_slot_shows_whom_it_had() -> None:
    found = follow_members(telling(FIVE), VOLUME)
    assert found.identities == VOLUME.identities
    assert found.version == FIVE.version


def test_rule_8_an_older_list_changes_nothing() -> None:
    assert follow_members(telling(FIVE), NOW) == NOW


def test_rule_8_another_volumes_list_changes_nothing() -> None:
    seen = telling(LISTED)
    copies = {slot: replace(view, volume_id=None) for slot, view in seen.copies.items()}
    assert follow_members(replace(seen, copies=copies), VOLUME) == VOLUME


def test_rule_10_the_record_of_the_loss_goes_with_the_last_of_the_three() -> None:
    lost = replace(VOLUME, lost=VOLUME.identities[:1], lost_reason="its disk is gone")
    assert follow_members(telling(FIVE), lost).lost == lost.lost
    assert follow_members(telling(LISTED), lost).lost == ()


def test_records_of_several_versions_agree_on_the_highest() -> None:
    old = {Slot(4): claim(4)}
    seen = unborn(recorded=NOW, configured=VOLUME, claims={**claims(NOW), **old})
    assert find_volume(seen) == Known(NOW)
    assert not doubtful_slots(seen, NOW), "an older claim is annotated, not doubted"
    assert undisputed(replace(seen, configured=VOLUME)) == NOW


def test_two_lists_of_one_version_contradict() -> None:
    other = replace(NOW, identities=(Identity("s0_else"), *NOW.identities[1:]))
    seen = unborn(recorded=NOW, claims={**claims(NOW), Slot(4): claim(4, other)})
    assert isinstance(find_volume(seen), Contradiction)
