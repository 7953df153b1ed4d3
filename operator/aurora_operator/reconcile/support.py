"""Keep what stands around the pods as it ought to be: made, repaired, renewed.

All objects of a kind are listed at once and compared with what is wanted, whenever the wishes
changed and every few seconds besides; only differing fields lead to a write. An object that is in
the way and is not ours is never touched.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from aurora_operator.api import labels
from aurora_operator.core.cluster.events import EventKind, Note
from aurora_operator.core.cluster.observation import VolumeFacts
from aurora_operator.core.names import SLOT_COUNT
from aurora_operator.kube.api import AlreadyExists, Conflict, Kind, KubeApi, kind_of
from aurora_operator.reconcile import views
from aurora_operator.reconcile.certificates import (
    Authority,
    KeyPair,
    make_authority,
    needs_renewal,
    organisation_name,
    renew_after,
)
from aurora_operator.reconcile.events import EventTeller
from aurora_operator.reconcile.sight import Memory, Sight
from aurora_operator.resources.context import ClusterContext
from aurora_operator.resources.diff import differing_fields
from aurora_operator.resources.secrets import (
    build_master_secret,
    build_secret,
    instance_names,
    secret_content,
    storage_names,
)
from aurora_operator.resources.support import CREATED_ONCE, build_support

Manifest = dict[str, Any]

_PASSWORD_LENGTH: Final = 32
_CHECK_SECONDS: Final = 15.0
"""Between two comparisons while nothing that these objects depend on has changed."""
_TLS_KEYS: Final = ("ca.crt", "tls.crt", "tls.key")
_SUPPORT_KINDS: Final = (
    Kind.CONFIG_MAP,
    Kind.ACCOUNT,
    Kind.ROLE,
    Kind.BINDING,
    Kind.SERVICE,
    Kind.SLICE,
    Kind.BUDGET,
    Kind.SECRET,
)
_LOG = structlog.get_logger(__name__)


class Foreign(Exception):
    """An object with a name that the cluster needs exists and belongs to somebody else."""

    def __init__(self, *objects: tuple[Kind, str]) -> None:
        told = ", ".join(f"{kind.value.kind} {name}" for kind, name in objects)
        super().__init__(
            f"{told} exists and does not belong to this AuroraCluster; it is left alone, and what "
            "the cluster needs under that name is missing. Rename or delete it, or give the "
            "cluster another name"
        )
        self.objects = objects


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SupportKeeper:
    """Makes and repairs the support objects of one cluster."""

    def __init__(
        self,
        kube: KubeApi,
        memory: Memory,
        teller: EventTeller,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._kube = kube
        self._memory = memory
        self._teller = teller
        self._now = now
        self._checked: tuple[object, float] | None = None

    async def ensure(self, sight: Sight, volume: VolumeFacts) -> None:
        """Compare and repair everything, unless that was just done for the same wishes."""
        pods = frozenset(pod.uid for pod in sight.observation.instance_pods.values())
        wishes = (sight.context, volume, pods, sight.user_password)
        begun = self._memory.now_seconds()
        if self._checked is not None:
            checked, checked_at = self._checked
            if checked == wishes and begun - checked_at < _CHECK_SECONDS:
                return
        await self._ensure(sight, volume)
        self._checked = (wishes, begun)

    async def _ensure(self, sight: Sight, volume: VolumeFacts) -> None:
        context = sight.context
        selector = labels.cluster_selector(context.name)
        listed = await asyncio.gather(
            *(self._kube.list(kind, context.namespace, selector) for kind in _SUPPORT_KINDS)
        )
        live = {
            (kind, found["metadata"]["name"]): found
            for kind, objects in zip(_SUPPORT_KINDS, listed, strict=True)
            for found in objects
        }
        authority = await self._ensure_authority(context, live)
        if volume.complete and (Kind.SECRET, labels.ca_secret_name(context.name)) not in live:
            names_told = (
                labels.ca_secret_name(context.name),
                labels.master_secret_name(context.name),
            )
            key = self._now().isoformat()
            await self._teller.tell(sight, Note(EventKind.AUTHORITY_REPLACED, names_told, key))
        wishes: list[Coroutine[Any, Any, None]] = []
        for slot in range(SLOT_COUNT):
            pod = labels.storage_pod_name(context.name, slot)
            names = storage_names(context, pod)
            wishes.append(self._ensure_certificate(context, authority, pod, "storage", names, live))
        wishes.append(self._ensure_master(sight, authority, live))
        for manifest in build_support(context, volume):
            wishes.append(self._ensure_object(context, manifest, live))
        for view in sight.observation.instance_pods.values():
            names = instance_names(context, view.name)
            wishes.append(
                self._ensure_certificate(context, authority, view.name, "instance", names, live)
            )
        wishes.append(self._remove_unused(sight, live))
        foreign = await _fulfil(wishes)
        if foreign:
            raise Foreign(*foreign)

    async def ensure_instance_certificate(self, sight: Sight, pod: str) -> None:
        """The certificate of an instance that is about to be made."""
        context = sight.context
        listed = await self._kube.list(
            Kind.SECRET, context.namespace, labels.cluster_selector(context.name)
        )
        live = {(Kind.SECRET, found["metadata"]["name"]): found for found in listed}
        authority = await self._ensure_authority(context, live)
        names = instance_names(context, pod)
        await self._ensure_certificate(context, authority, pod, "instance", names, live)

    async def _ensure_object(
        self, context: ClusterContext, wanted: Manifest, live: Mapping[tuple[Kind, str], Manifest]
    ) -> None:
        kind, name = kind_of(wanted), wanted["metadata"]["name"]
        found = live.get((kind, name))
        if found is None:
            await self._create(kind, context, wanted)
            return
        if wanted["kind"] in CREATED_ONCE:
            return
        fields = differing_fields(wanted, found)
        if not fields:
            return
        _LOG.info("repairing", kind=wanted["kind"], name=name, fields=fields)
        patch = {key: value for key, value in wanted.items() if key not in {"apiVersion", "kind"}}
        await self._kube.patch(kind, context.namespace, name, patch)

    async def _create(self, kind: Kind, context: ClusterContext, wanted: Manifest) -> None:
        try:
            await self._kube.create(kind, context.namespace, wanted)
        except AlreadyExists:
            name = wanted["metadata"]["name"]
            found = await self._kube.get(kind, context.namespace, name)
            if views.labels_of(found).get(labels.CLUSTER) != context.name:
                raise Foreign((kind, name)) from None
            # Made since the list was read: compared in the next cycle.

    async def _ensure_authority(
        self, context: ClusterContext, live: Mapping[tuple[Kind, str], Manifest]
    ) -> Authority:
        name = labels.ca_secret_name(context.name)
        found = live.get((Kind.SECRET, name))
        if found is None:
            made = make_authority(organisation_name(context.namespace, context.name), self._now())
            content = {"ca.crt": made.certificate_pem, "ca.key": made.key_pem}
            try:
                await self._kube.create(
                    Kind.SECRET, context.namespace, build_secret(context, name, content)
                )
            except AlreadyExists:
                raise Conflict(f"Secret {name} appeared meanwhile; looking again") from None
            return made
        content = secret_content(found)
        if "ca.crt" not in content or "ca.key" not in content:
            raise Foreign((Kind.SECRET, name))
        return Authority(content["ca.crt"], content["ca.key"])

    async def _ensure_certificate(
        self,
        context: ClusterContext,
        authority: Authority,
        pod: str,
        role: str,
        names: Sequence[str],
        live: Mapping[tuple[Kind, str], Manifest],
    ) -> None:
        name = labels.tls_secret_name(pod)
        found = live.get((Kind.SECRET, name))
        if found is not None:
            content = secret_content(found)
            if all(key in content for key in _TLS_KEYS):
                pair = KeyPair(content["tls.crt"], content["tls.key"])
                why = needs_renewal(pair, authority, names, self._now())
                if why is None:
                    return
                _LOG.info("renewing certificate", pod=pod, why=why)
        organisation = organisation_name(context.namespace, context.name)
        made = authority.issue(role=role, organisation=organisation, names=names, now=self._now())
        wanted = build_secret(
            context,
            name,
            {
                "ca.crt": authority.certificate_pem,
                "tls.crt": made.certificate_pem,
                "tls.key": made.key_pem,
            },
            {labels.RENEW_AFTER: renew_after(made.certificate_pem).isoformat()},
            "kubernetes.io/tls",
        )
        if found is None:
            await self._create(Kind.SECRET, context, wanted)
        else:
            patch = {
                "data": wanted["data"],
                "metadata": {"annotations": wanted["metadata"]["annotations"]},
            }
            await self._kube.patch(Kind.SECRET, context.namespace, name, patch)

    async def _ensure_master(
        self, sight: Sight, authority: Authority, live: Mapping[tuple[Kind, str], Manifest]
    ) -> None:
        context = sight.context
        found = live.get((Kind.SECRET, labels.master_secret_name(context.name)))
        kept = None if found is None else secret_content(found).get("password")
        if sight.user_password is not None:
            password = sight.user_password
        elif kept is not None:
            password = kept.decode()
        elif sight.observation.password_problem is not None:
            # The user means to give one and has not yet: making another would surprise him.
            return
        else:
            letters = string.ascii_letters + string.digits
            password = "".join(secrets.choice(letters) for _ in range(_PASSWORD_LENGTH))
        wanted = build_master_secret(context, password, authority.certificate_pem)
        await self._ensure_object(context, wanted, live)

    async def _remove_unused(self, sight: Sight, live: Mapping[tuple[Kind, str], Manifest]) -> None:
        """Certificates of instances that are gone."""
        context = sight.context
        used = {
            labels.tls_secret_name(pod.name) for pod in sight.observation.instance_pods.values()
        }
        prefix = f"{context.name}-instance-"
        for kind, name in live:
            if kind is Kind.SECRET and name.startswith(prefix) and name not in used:
                await self._kube.delete(kind, context.namespace, name)


async def _fulfil(wishes: Sequence[Coroutine[Any, Any, None]]) -> list[tuple[Kind, str]]:
    """One after the other; what is in the way of one wish does not keep the others waiting."""
    foreign: list[tuple[Kind, str]] = []
    try:
        for wish in wishes:
            try:
                await wish
            except Foreign as error:
                foreign += error.objects
    finally:
        for wish in wishes:
            wish.close()
    return foreign
