"""What a plan is made of: one frozen record for each thing that the operator can do.

Each is idempotent in the hands of ``reconcile/act.py``: done twice it leaves what it left once, so
a plan may be cut after any step and the next cycle goes on from what it then sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from aurora_operator.core.cluster.observation import VolumeFacts
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Identity, InstanceName, Slot


@dataclass(frozen=True)
class AddFinalizer:
    """Make deletion wait for us."""


@dataclass(frozen=True)
class RemoveFinalizer:
    """Let the AuroraCluster go."""


@dataclass(frozen=True)
class RecordNewVolume:
    """Draw a volume ID and six identities and record them by compare-and-swap (rule 13)."""


@dataclass(frozen=True)
class RecordVolume:
    """Write this record into the status by compare-and-swap."""

    volume: VolumeFacts


@dataclass(frozen=True)
class EnsureSupport:
    """Services, slices, configuration, certificates, accounts, budgets: make them as they ought be.

    ``volume`` is the record that the agents' configuration carries.
    """

    volume: VolumeFacts


@dataclass(frozen=True)
class CreateClaim:
    """Make one copy's claim, in its zone."""

    slot: Slot
    zone: str | None
    volume: VolumeFacts


@dataclass(frozen=True)
class AnnotateClaim:
    """Repeat the record on a claim, so that it survives the loss of the status."""

    slot: Slot
    volume: VolumeFacts


@dataclass(frozen=True)
class ExpandClaim:
    """Ask for a larger claim."""

    slot: Slot
    size_bytes: int


@dataclass(frozen=True)
class CreateStoragePod:
    """Make the pod of one slot."""

    slot: Slot
    zone: str | None


@dataclass(frozen=True)
class DeleteClaim:
    """Delete the claim of a copy that is gone for good: a new one is made in its place."""

    slot: Slot


@dataclass(frozen=True)
class FormatVolume:
    """Tell slot 0 to run initdb: once in a cluster's life (rule 13)."""

    volume: VolumeFacts


@dataclass(frozen=True)
class FillCopies:
    """Tell blank copies of a volume that is being born to take theirs from slot 0."""

    slots: tuple[Slot, ...]
    volume: VolumeFacts


@dataclass(frozen=True)
class CreateInstance:
    """Make one instance's pod."""

    ordinal: int


@dataclass(frozen=True)
class DeletePod:
    """Delete one pod, this very one: a younger pod of the same name is left alone."""

    name: str
    uid: str
    force: bool = False
    """Without waiting for its kubelet, which is not there to confirm."""
    try_successor: bool = False
    """It serves: ask first whether the API server would take the pod that is to follow."""


@dataclass(frozen=True)
class LabelRole:
    """Show an instance's role on its pod."""

    name: str
    role: str


@dataclass(frozen=True)
class AskOpen:
    """Ask an instance to open the volume under a new term. Asking is always safe."""

    instance: InstanceName
    reason: str
    lost: tuple[Identity, ...] = ()
    """The three copies that were recorded as lost, if they were (rule 10)."""


@dataclass(frozen=True)
class AskHandOver:
    """Ask the writer to hand over; the same request is carried out once."""

    writer: InstanceName
    to: InstanceName
    request: str
    reason: str


@dataclass(frozen=True)
class AcceptSwitchover:
    """Note in the annotation whom the switchover leads to, and which term it ends."""

    to: InstanceName
    term: Term


@dataclass(frozen=True)
class EndSwitchover:
    """Take the annotation away: it was carried out, or cannot be."""


@dataclass(frozen=True)
class AskRestart:
    """Ask the ended writer to start again on its own disk (rule 11)."""

    instance: InstanceName
    reason: str


@dataclass(frozen=True)
class FillEndpoints:
    """While no writer is open: readers to the ready replicas, nothing that is gone anywhere."""


@dataclass(frozen=True)
class DeleteObjects:
    """Delete Services, Secrets, accounts and the like of a cluster that goes."""


@dataclass(frozen=True)
class DeleteClaims:
    """Delete the volume: the claims of these slots, which hold it."""

    slots: tuple[Slot, ...]


Action = (
    AddFinalizer
    | RemoveFinalizer
    | RecordNewVolume
    | RecordVolume
    | EnsureSupport
    | CreateClaim
    | AnnotateClaim
    | ExpandClaim
    | CreateStoragePod
    | DeleteClaim
    | FormatVolume
    | FillCopies
    | CreateInstance
    | DeletePod
    | LabelRole
    | AskOpen
    | AskHandOver
    | AcceptSwitchover
    | EndSwitchover
    | AskRestart
    | FillEndpoints
    | DeleteObjects
    | DeleteClaims
)
