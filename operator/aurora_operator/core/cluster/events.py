"""Events as a table: each says its reason, whether it warns, and its words.

The words are those of Amazon RDS where it has such an event, so that people and their alert rules
recognise them. ``Note`` is one event to be told; the same note told twice (an operator that was
killed in between) becomes one Event, because its name is made from its content.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class _Kind(NamedTuple):
    reason: str
    warning: bool
    wording: str


class EventKind(Enum):
    """Every event that the operator tells about a cluster."""

    CLUSTER_CREATED = _Kind("DBClusterCreated", False, "DB cluster created")
    CLUSTER_DELETED = _Kind("DBClusterDeleted", False, "DB cluster deleted")
    CLUSTER_DELETING = _Kind("DBClusterDeleting", False, "Deleting DB cluster; its volume is {0}")
    DELETION_PROTECTED = _Kind(
        "DeletionProtected",
        True,
        "Cannot delete protected DB cluster: set spec.deletionProtection to false and it is "
        "deleted at once. Until then it goes on serving",
    )
    VOLUME_RECORDED = _Kind("VolumeRecorded", False, "Volume {0} recorded; storage is being made")
    VOLUME_FOUND = _Kind(
        "VolumeFound", False, "Volume {0} found on existing claims; it will be opened, not created"
    )
    VOLUME_COMPLETE = _Kind("VolumeComplete", False, "Volume complete: six full copies")
    INSTANCE_CREATED = _Kind("DBInstanceCreated", False, "DB instance created: {0}")
    INSTANCE_DELETED = _Kind("DBInstanceDeleted", False, "DB instance deleted: {0}")
    INSTANCE_RESTARTED = _Kind("DBInstanceRestarted", False, "DB instance restarted: {0}")
    INSTANCE_REPLACED = _Kind("DBInstanceReplaced", True, "Replacing DB instance {0}: {1}")
    STORAGE_POD_REPLACED = _Kind("StoragePodReplaced", True, "Replacing storage pod {0}: {1}")
    COPY_REPLACED = _Kind(
        "StorageCopyReplaced",
        True,
        "Replacing the copy in slot {0}: {1}. Its claim is made anew; writes and reads go on",
    )
    COPY_REPAIR_STARTED = _Kind(
        "StorageRepairStarted",
        False,
        "Started repair of the copy in slot {0}: it is filled from the other copies",
    )
    COPY_REPAIR_COMPLETED = _Kind(
        "StorageRepairCompleted", False, "Completed repair of the copy in slot {0}: {1} is a member"
    )
    COPIES_DECLARED_LOST = _Kind(
        "StorageCopiesLost",
        True,
        "Three copies ({0}) are recorded as lost: {1}. The volume is opened with the other three; "
        "nothing that was acknowledged is lost, and the lost copies are made anew",
    )
    WRITER_ENDED_FOR_REPAIR = _Kind(
        "StorageWriterEnded",
        True,
        "Ending the writer {0}: three copies are gone, so it can commit nothing. The volume is "
        "opened again with the other three",
    )
    FAILOVER_STARTED_SAME_ZONE = _Kind(
        "FailoverStarted", False, "Started same AZ failover to DB instance: {0}"
    )
    FAILOVER_STARTED_CROSS_ZONE = _Kind(
        "FailoverStarted", False, "Started cross AZ failover to DB instance: {0}"
    )
    FAILOVER_COMPLETED = _Kind("FailoverCompleted", False, "Completed failover to DB instance: {0}")
    SWITCHOVER_REFUSED = _Kind(
        "SwitchoverRefused",
        True,
        "Cannot switch over to {0}: {1}. The writer serves as before",
    )
    PREVIOUS_PRIMARY = _Kind(
        "PreviousPrimaryPromoted", False, "Promoting previous primary again: {0}"
    )
    NO_INSTANCE = _Kind(
        "FailoverWaiting",
        True,
        "No DB instance can take over yet: {0}. The volume and everything acknowledged are safe",
    )
    AUTHORITY_REPLACED = _Kind(
        "AuthorityReplaced",
        True,
        "Secret {0} was gone: the cluster has a new certificate authority. Every certificate is "
        "made anew; clients that verify it need the new ca.crt from Secret {1}",
    )
    STORAGE_SCALING = _Kind("StorageScaling", False, "Growing each copy's claim to {0} bytes")
    PROBLEM = _Kind("", True, "{0}")
    """Its reason is the problem's."""


@dataclass(frozen=True)
class Note:
    """One event, ready to be told."""

    kind: EventKind
    arguments: tuple[str, ...] = ()
    key: str = ""
    """Tells apart two events of the same words: a term, a uid, a generation."""
    reason_override: str | None = None

    @property
    def identity(self) -> str:
        """What makes two notes the same: a lasting problem's words may vary, its key does not."""
        words = "" if self.kind is EventKind.PROBLEM else self.message
        return "\n".join((self.reason, words, self.key))

    @property
    def reason(self) -> str:
        """The Event's machine-readable reason."""
        return self.reason_override or self.kind.value.reason

    @property
    def warning(self) -> bool:
        """Whether the Event's type is Warning."""
        return self.kind.value.warning

    @property
    def message(self) -> str:
        """The Event's words."""
        return self.kind.value.wording.format(*self.arguments)
