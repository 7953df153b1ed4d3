"""Tell Events. An Event's name is made from what it says, so telling it twice makes one Event."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from aurora_operator.api import labels
from aurora_operator.core.cluster.events import EventKind, Note
from aurora_operator.kube.api import AlreadyExists, Kind, KubeApi, KubeError
from aurora_operator.reconcile.sight import Memory, Sight

Manifest = dict[str, Any]

_MESSAGE_LENGTH_MAX: Final = 1024
_COMPONENT: Final = "aurora-operator"
_LOG = structlog.get_logger(__name__)


def build_event(cluster: Manifest, note: Note, now: datetime) -> Manifest:
    """The Event that tells ``note`` about an AuroraCluster."""
    metadata = cluster["metadata"]
    text = f"{metadata['uid']}\n{note.identity}"
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": labels.API_VERSION,
            "kind": labels.KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": "Warning" if note.warning else "Normal",
        "reason": note.reason,
        "message": note.message[:_MESSAGE_LENGTH_MAX],
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


class EventTeller:
    """Tells the Events of one cluster. An Event that cannot be told is logged, nothing more."""

    def __init__(
        self,
        kube: KubeApi,
        memory: Memory,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._memory = memory
        self._now = now

    async def tell(self, sight: Sight, note: Note) -> None:
        """Tell ``note``, once."""
        await self.tell_about(sight.manifest, note)

    def forget_solved(self, sight: Sight, notes: Iterable[Note]) -> None:
        """What is no problem any more is news again when it comes back."""
        lasting = {
            build_event(sight.manifest, note, self._now())["metadata"]["name"]
            for note in notes
            if note.kind is EventKind.PROBLEM
        }
        self._memory.told -= self._memory.told_problems - lasting
        self._memory.told_problems &= lasting

    async def tell_about(self, cluster: Manifest, note: Note) -> None:
        """The same, where a cycle came no further than to the AuroraCluster itself."""
        event = build_event(cluster, note, self._now())
        name = event["metadata"]["name"]
        if name in self._memory.told:
            return
        try:
            await self._kube.create(Kind.EVENT, event["metadata"]["namespace"], event)
            _LOG.info("event", reason=note.reason, told=note.message)
        except AlreadyExists:
            _LOG.debug("event told before", reason=note.reason)
        except KubeError as error:
            _LOG.warning("event not told", reason=note.reason, told=note.message, error=str(error))
            return
        self._memory.told.add(name)
        if note.kind is EventKind.PROBLEM:
            self._memory.told_problems.add(name)
