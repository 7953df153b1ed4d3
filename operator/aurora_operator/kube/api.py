"""What the operator asks of a Kubernetes API server, as a protocol of plain data.

Objects are dictionaries as they travel; kinds are named once, with the rights that the operator
needs for them (the chart's ClusterRole is compared with that table). Every refusal is one of the
errors below, each saying what it means for the caller: try again, look again, or tell a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from aurora_operator.api import labels

Manifest = dict[str, Any]


class KubeError(Exception):
    """Base of everything an API server's answer may mean."""


class Unavailable(KubeError):
    """No usable answer in time: it is not known whether a write was done. Look again."""


class NotFound(KubeError):
    """The object is not there."""


class AlreadyExists(KubeError):
    """An object of that name is there."""


class Conflict(KubeError):
    """The object changed since it was read (or is another one of that name). Look again."""


class Refused(KubeError):
    """The API server understood and will not: invalid or forbidden. A person has to act."""


@dataclass(frozen=True)
class KindFacts:
    """Where a kind lives, and what the operator does with it."""

    kind: str
    api_version: str
    plural: str
    verbs: tuple[str, ...]
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]


_MANAGED = ("get", "list", "create", "patch", "delete")


class Kind(Enum):
    """Every kind that the operator touches."""

    CLUSTER = KindFacts(
        labels.KIND, labels.API_VERSION, labels.PLURAL, ("get", "list", "watch", "patch")
    )
    POD = KindFacts("Pod", "v1", "pods", (*_MANAGED, "watch"))
    CLAIM = KindFacts("PersistentVolumeClaim", "v1", "persistentvolumeclaims", _MANAGED)
    SERVICE = KindFacts("Service", "v1", "services", _MANAGED)
    CONFIG_MAP = KindFacts("ConfigMap", "v1", "configmaps", _MANAGED)
    SECRET = KindFacts("Secret", "v1", "secrets", (*_MANAGED, "update"))
    ACCOUNT = KindFacts("ServiceAccount", "v1", "serviceaccounts", _MANAGED)
    SLICE = KindFacts(
        "EndpointSlice", "discovery.k8s.io/v1", "endpointslices", (*_MANAGED, "update")
    )
    BUDGET = KindFacts("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets", _MANAGED)
    ROLE = KindFacts("Role", "rbac.authorization.k8s.io/v1", "roles", _MANAGED)
    BINDING = KindFacts("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings", _MANAGED)
    NODE = KindFacts("Node", "v1", "nodes", ("list", "watch"), namespaced=False)
    STORAGE_CLASS = KindFacts(
        "StorageClass", "storage.k8s.io/v1", "storageclasses", ("list",), namespaced=False
    )
    EVENT = KindFacts("Event", "v1", "events", ("create",))
    LEASE = KindFacts("Lease", "coordination.k8s.io/v1", "leases", ("get", "create", "update"))


EXTRA_RIGHTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (labels.GROUP, f"{labels.PLURAL}/status", ("update",)),
    # Owner references that block deletion ask for this where that admission plugin is on.
    (labels.GROUP, f"{labels.PLURAL}/finalizers", ("update",)),
    # Held because the Role of instances grants it: nobody may grant what he does not hold.
    ("", "pods/status", ("patch",)),
)
"""Group, resource and verbs beyond the kinds themselves."""


def kind_of(manifest: Manifest) -> Kind:
    """The kind of a manifest that a builder made."""
    return next(kind for kind in Kind if kind.value.kind == manifest["kind"])


class KubeApi(Protocol):
    """The calls. Each has a time limit of its own and raises a ``KubeError``."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """One object."""

    async def list(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> Sequence[Manifest]:
        """All objects of a kind, as of now (not from a cache)."""

    async def create(self, kind: Kind, namespace: str | None, manifest: Manifest) -> Manifest:
        """Make an object."""

    async def try_create(self, kind: Kind, namespace: str | None, manifest: Manifest) -> None:
        """Ask whether an object would be made, and make nothing."""

    async def replace(self, kind: Kind, namespace: str | None, manifest: Manifest) -> Manifest:
        """Replace an object by what was read and changed; the resourceVersion must still hold."""

    async def replace_status(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        """Replace an object's status; the resourceVersion must still hold."""

    async def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Manifest
    ) -> Manifest:
        """Change some fields (a JSON merge patch)."""

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        """Ask for deletion; nothing happens when it is gone, or another one has its name."""
