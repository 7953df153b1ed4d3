"""What is wrong with the input or the surroundings, each with what it means and what to do.

Bad input that the CRD's schema cannot see (a Secret that does not exist, a class that cannot grow)
ends here: as a condition and an Event, never as silence and never as half a cluster.
"""

from __future__ import annotations

from typing import Final

from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.observation import ClusterObservation, VolumeFacts
from aurora_operator.core.cluster.parameters import refused_parameters
from aurora_operator.core.cluster.phases import WRITE_QUORUM, Problem, writes_wait
from aurora_operator.core.names import SLOT_COUNT, Slot
from aurora_operator.core.pressure import Pressure

_PRESSURE_REASONS: Final = {
    Pressure.LEFT_BEHIND: "CopyLeftBehind",
    Pressure.NO_ROOM: "StorageFull",
    Pressure.SLOW: "CopySlow",
    Pressure.LOW_SPACE: "StoragePressure",
}
"""The Event's and the condition's word for each state."""


def input_problems(seen: ClusterObservation) -> list[Problem]:
    """Problems of the spec and of what it refers to."""
    problems = []
    refused = refused_parameters(seen.spec.parameter_overrides)
    if refused:
        told = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        problems.append(
            Problem(
                "SpecAccepted",
                "ParameterRefused",
                f"parameterOverrides sets what may not be overridden ({told}). These are ignored, "
                "and a new cluster is not created: remove them",
                blocks_creation=True,
            )
        )
    if seen.password_problem is not None:
        problems.append(
            Problem(
                "SpecAccepted", "MasterPasswordMissing", seen.password_problem, blocks_creation=True
            )
        )
    if seen.foreign_services:
        names = ", ".join(seen.foreign_services)
        problems.append(
            Problem(
                "SpecAccepted",
                "ServiceNameTaken",
                f"a Service {names} exists and does not belong to this AuroraCluster: it is left "
                "alone, and nothing is created. Rename or delete it, or give the cluster another "
                "name",
                blocks_creation=True,
            )
        )
    if seen.storage_class_problem is not None and len(seen.claims) < SLOT_COUNT:
        problems.append(
            Problem(
                "SpecAccepted", "NoStorageClass", seen.storage_class_problem, blocks_creation=True
            )
        )
    problems += _growth_problems(seen)
    problems += _version_problems(seen)
    if seen.deleting and seen.spec.deletion_protection:
        problems.append(
            Problem(
                "DeletionAllowed",
                "DeletionProtected",
                "deletion was asked for and spec.deletionProtection is true: the cluster goes on "
                "serving. Set it to false, and the cluster is deleted at once",
            )
        )
    return problems


def _growth_problems(seen: ClusterObservation) -> list[Problem]:
    wanted = seen.spec.storage_bytes
    small = [slot for slot, claim in seen.claims.items() if claim.requested_bytes < wanted]
    if not small or seen.storage_class is None or seen.storage_class.expandable:
        return []
    return [
        Problem(
            "SpecAccepted",
            "StorageNotExpandable",
            f"storage.size asks for more than the claims have, and the storage class "
            f"{seen.storage_class.name} does not allow expansion. The volume goes on with its old "
            "size. Set storage.size back, or use a class with allowVolumeExpansion",
        )
    ]


def _version_problems(seen: ClusterObservation) -> list[Problem]:
    wanted = seen.spec.engine_version
    other = {
        view.server_version
        for view in seen.instances.values()
        if view.server_version and "." in wanted and view.server_version.split()[0] != wanted
    }
    if not other:
        return []
    return [
        Problem(
            "SpecAccepted",
            "EngineVersionUnavailable",
            f"engineVersion is {wanted}, and the operator's engine image holds "
            f"{', '.join(sorted(other))}, which runs. Set engineVersion to it, or to the major",
        )
    ]


def pressure_problems(seen: ClusterObservation) -> list[Problem]:
    """Copies that cannot keep up, and commits that wait for them."""
    problems = []
    writer = open_writer(seen)
    if writer is not None and writer.copies_streaming < WRITE_QUORUM:
        problems.append(
            Problem("StorageHealthy", "WritesWait", writes_wait(writer), key="WritesWait")
        )
    for state, reason in _PRESSURE_REASONS.items():
        strained = {
            slot: copy.pressure_sentence
            for slot, copy in sorted(seen.copies.items())
            if copy.pressure is state
        }
        if strained:
            told = "; ".join(f"slot {slot} is {sentence}" for slot, sentence in strained.items())
            key = f"{reason} {', '.join(str(slot) for slot in strained)}"
            problems.append(Problem("StorageHealthy", reason, told, key=key))
    return problems


def pod_problems(seen: ClusterObservation, volume: VolumeFacts | None) -> list[Problem]:
    """Pods that cannot run, and copies whose disk is gone."""
    problems = []
    pods = [*seen.storage_pods.values(), *seen.instance_pods.values()]
    stuck = [pod for pod in pods if pod.waiting and not pod.terminating]
    if stuck:
        told = "; ".join(f"{pod.name}: {pod.waiting}" for pod in stuck[:3])
        more = f" (and {len(stuck) - 3} more)" if len(stuck) > 3 else ""
        problems.append(
            Problem(
                "PodsHealthy",
                "PodsWaiting",
                f"pods do not start: {told}{more}",
                key="PodsWaiting",
            )
        )
    if volume is not None and volume.complete:
        lost = [slot for slot in range(SLOT_COUNT) if Slot(slot) not in seen.claims]
        if lost:
            slots = ", ".join(str(slot) for slot in lost)
            problems.append(
                Problem(
                    "VolumeConsistent",
                    "CopyLost",
                    f"the claim of slot {slots} is gone and its copy with it; the volume goes on "
                    f"with {SLOT_COUNT - len(lost)} copies. While four others are full the claim "
                    "is made anew and filled from them: keep the other claims",
                )
            )
    foreign = [
        slot
        for slot, copy in sorted(seen.copies.items())
        if volume is not None and copy.volume_id is not None and copy.volume_id != volume.volume_id
    ]
    if foreign and volume is not None:
        slots = ", ".join(str(slot) for slot in foreign)
        problems.append(
            Problem(
                "VolumeConsistent",
                "VolumeMismatch",
                f"the copy in slot {slots} belongs to another volume than {volume.volume_id}: it "
                "does not take part. Put the right claim in its place",
            )
        )
    return problems
