"""Carry out a plan, action by action, in its order.

Every action is idempotent, so a plan that was cut anywhere is simply planned again. What is not
known (no answer, a conflict) ends the cycle: the next one looks first. What the API server refuses
is told to people, and the actions after it that do not depend on it go on.
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from aurora_operator.api import labels
from aurora_operator.api.messages import (
    BirthRecord,
    FillAsk,
    FormatAsk,
    HandOverAsk,
    OpenAsk,
    RestartAsk,
)
from aurora_operator.core.cluster import actions
from aurora_operator.core.cluster.events import EventKind, Note
from aurora_operator.core.cluster.observation import VolumeFacts
from aurora_operator.core.cluster.placement import place_slots
from aurora_operator.core.cluster.plan import Plan
from aurora_operator.core.cluster.quantity import whole_quantity
from aurora_operator.core.names import SLOT_COUNT, Identity, InstanceName, Slot, VolumeId
from aurora_operator.kube.api import AlreadyExists, Kind, KubeApi, KubeError, Refused, Unavailable
from aurora_operator.reconcile import views
from aurora_operator.reconcile.agents import Agents, AgentUnreachable
from aurora_operator.reconcile.endpoints import wanted_slices
from aurora_operator.reconcile.events import EventTeller
from aurora_operator.reconcile.sight import Memory, Sight
from aurora_operator.reconcile.support import Foreign, SupportKeeper
from aurora_operator.resources.pods import build_instance_pod, build_storage_pod
from aurora_operator.resources.storage import build_claim, claim_annotations
from aurora_operator.telemetry.operator_metrics import OPENINGS_ASKED

Manifest = dict[str, Any]

_DELETED_KINDS = (
    Kind.SLICE,
    Kind.SERVICE,
    Kind.BUDGET,
    Kind.BINDING,
    Kind.ROLE,
    Kind.ACCOUNT,
    Kind.SECRET,
    Kind.CONFIG_MAP,
)
_LOG = structlog.get_logger(__name__)


@dataclass
class Outcome:
    """What became of a plan."""

    refusals: list[str] = field(default_factory=list)
    """What the API server refused, in its own words."""
    foreign: set[tuple[Kind, str]] = field(default_factory=set)
    """Objects of somebody else that are in the way."""
    interrupted: str | None = None
    """Why the plan was cut short: look again soon."""


def draw_volume() -> VolumeFacts:
    """A new volume's record."""
    letters = string.ascii_lowercase + string.digits

    def draw(count: int) -> str:
        return "".join(secrets.choice(letters) for _ in range(count))

    return VolumeFacts(
        VolumeId(f"vol-{draw(16)}"),
        tuple(Identity(f"s{slot}_{draw(8)}") for slot in range(SLOT_COUNT)),
    )


class Actor:
    """Acts for one cluster."""

    def __init__(
        self,
        kube: KubeApi,
        memory: Memory,
        teller: EventTeller,
        support: SupportKeeper,
        draw: Callable[[], VolumeFacts] = draw_volume,
    ) -> None:
        self._kube = kube
        self._memory = memory
        self._teller = teller
        self._support = support
        self._draw = draw

    async def apply(self, plan: Plan, sight: Sight) -> Outcome:
        """Carry out the plan, then tell its events."""
        outcome = Outcome()
        for action in plan.actions:
            try:
                await self.do(action, sight)
            except (Refused, Foreign) as error:
                _LOG.warning("action refused", action=type(action).__name__, error=str(error))
                outcome.refusals.append(str(error))
                if isinstance(error, Foreign):
                    outcome.foreign.update(error.objects)
                if isinstance(action, actions.RecordVolume | actions.RecordNewVolume):
                    break
            except (KubeError, AgentUnreachable) as error:
                outcome.interrupted = f"{type(action).__name__}: {error}"
                break
        if outcome.interrupted is None:
            for note in plan.notes:
                await self._teller.tell(sight, note)
        return outcome

    async def do(self, action: actions.Action, sight: Sight) -> None:  # noqa: C901 - one match
        """Carry out one action."""
        seen, context = sight.observation, sight.context
        namespace = seen.namespace
        match action:
            case actions.AddFinalizer():
                await self._set_finalizer(sight, present=True)
            case actions.RemoveFinalizer():
                await self._teller.tell(sight, Note(EventKind.CLUSTER_DELETED))
                await self._set_finalizer(sight, present=False)
            case actions.RecordNewVolume():
                volume = self._draw()
                await self._record(sight, volume)
                note = Note(EventKind.VOLUME_RECORDED, (volume.volume_id,))
                await self._teller.tell(sight, note)
            case actions.RecordVolume(volume):
                await self._record(sight, volume)
            case actions.EnsureSupport(volume):
                await self._support.ensure(sight, volume)
            case actions.CreateClaim(slot, zone, volume):
                await self._create(
                    Kind.CLAIM, build_claim(context, slot, zone, volume), context.name
                )
            case actions.AnnotateClaim(slot, volume):
                notes = claim_annotations(slot, volume)
                patch: Manifest = {"metadata": {"annotations": notes}}
                name = labels.claim_name(seen.name, slot)
                await self._kube.patch(Kind.CLAIM, namespace, name, patch)
            case actions.ExpandClaim(slot):
                size = whole_quantity(context.spec.storage.size)
                patch = {"spec": {"resources": {"requests": {"storage": size}}}}
                name = labels.claim_name(seen.name, slot)
                await self._kube.patch(Kind.CLAIM, namespace, name, patch)
                note = Note(EventKind.STORAGE_SCALING, (str(action.size_bytes),), key=size)
                await self._teller.tell(sight, note)
            case actions.CreateStoragePod(slot, zone):
                await self._create(Kind.POD, build_storage_pod(context, slot, zone), context.name)
            case actions.CreateInstance(ordinal):
                await self._create_instance(sight, ordinal)
            case actions.DeletePod(name, uid, force, try_successor):
                if try_successor:
                    await self._try_successor(sight, name)
                await self._kube.delete(
                    Kind.POD, namespace, name, uid=uid, grace_seconds=0 if force else None
                )
            case actions.DeleteClaim(slot):
                await self._kube.delete(Kind.CLAIM, namespace, labels.claim_name(seen.name, slot))
            case actions.LabelRole(name, role):
                patch = {"metadata": {"labels": {labels.ROLE: role}}}
                await self._kube.patch(Kind.POD, namespace, name, patch)
            case actions.AcceptSwitchover(to, term):
                version = sight.manifest["metadata"]["resourceVersion"]
                value = views.accepted_switchover(to, term, version)
                await self._set_switchover(sight, value)
            case actions.EndSwitchover():
                await self._set_switchover(sight, None)
            case actions.FillEndpoints():
                for manifest in wanted_slices(sight):
                    await self._kube.replace(Kind.SLICE, namespace, manifest)
            case actions.DeleteObjects():
                await self._delete_objects(sight)
            case actions.DeleteClaims(slots):
                for slot in slots:
                    name = labels.claim_name(seen.name, slot)
                    await self._kube.delete(Kind.CLAIM, namespace, name)
            case _:
                await self._ask(action, sight)

    async def _ask(self, action: actions.Action, sight: Sight) -> None:
        """The actions that are asks to agents."""
        agents = sight.agents
        if agents is None:
            raise Unavailable("no agent can be asked before the cluster's authority is read")
        match action:
            case actions.FormatVolume(volume):
                pod = labels.storage_pod_name(sight.observation.name, 0)
                answer = await agents.format(sight.addresses[pod], FormatAsk(birth=_birth(volume)))
                _LOG.info("asked to format", pod=pod, granted=answer.granted, told=answer.sentence)
            case actions.FillCopies(slots, volume):
                await asyncio.gather(*(self._fill(agents, sight, slot, volume) for slot in slots))
            case actions.AskOpen(instance, reason, lost):
                await self.ask_open(agents, sight, instance, reason, lost)
            case actions.AskHandOver():
                await self._ask_hand_over(agents, sight, action)
            case actions.AskRestart(instance, reason):
                restart = await agents.restart(sight.addresses[instance], RestartAsk(reason=reason))
                _LOG.info(
                    "asked to restart",
                    instance=instance,
                    reason=reason,
                    accepted=restart.accepted,
                    told=restart.sentence,
                )
            case _:
                raise TypeError(f"{action!r} is not an action that can be carried out")

    async def ask_open(
        self,
        agents: Agents,
        sight: Sight,
        instance: InstanceName,
        reason: str,
        lost: tuple[Identity, ...] = (),
    ) -> None:
        """Ask an instance to open the volume under a new term."""
        self._memory.openings_asked += 1
        OPENINGS_ASKED.inc()
        answer = await agents.open(sight.addresses[instance], OpenAsk(reason=reason, lost=lost))
        ask = (instance, reason, answer.sentence)
        tell = _LOG.debug if ask == self._memory.last_ask else _LOG.info
        self._memory.last_ask = ask
        tell(
            "asked to open",
            instance=instance,
            reason=reason,
            accepted=answer.accepted,
            told=answer.sentence,
        )

    async def _ask_hand_over(
        self, agents: Agents, sight: Sight, asked: actions.AskHandOver
    ) -> None:
        ask = HandOverAsk(
            request=asked.request,
            to=asked.to,
            host=sight.addresses[asked.to].host,
            reason=asked.reason,
        )
        answer = await agents.hand_over(sight.addresses[asked.writer], ask)
        _LOG.info(
            "asked to hand over",
            instance=asked.writer,
            to=asked.to,
            request=asked.request,
            reason=asked.reason,
            accepted=answer.accepted,
            told=answer.sentence,
        )

    async def _fill(self, agents: Agents, sight: Sight, slot: Slot, volume: VolumeFacts) -> None:
        pod = labels.storage_pod_name(sight.observation.name, slot)
        if volume.system_identifier is None or pod not in sight.addresses:
            return
        ask = FillAsk(
            birth=_birth(volume),
            system_identifier=volume.system_identifier,
            source_pod=labels.storage_pod_name(sight.observation.name, 0),
        )
        try:
            answer = await agents.fill(sight.addresses[pod], ask)
        except AgentUnreachable as error:
            # The others need not wait for one; it is asked again in the next cycle.
            _LOG.info("fill not answered", pod=pod, error=str(error))
            return
        _LOG.info("asked to fill", pod=pod, granted=answer.granted, told=answer.sentence)

    async def _set_finalizer(self, sight: Sight, *, present: bool) -> None:
        metadata = sight.manifest["metadata"]
        others = [entry for entry in metadata.get("finalizers") or () if entry != labels.FINALIZER]
        wanted = [*others, labels.FINALIZER] if present else others
        patch = {"metadata": {"finalizers": wanted, "resourceVersion": metadata["resourceVersion"]}}
        sight.manifest = await self._kube.patch(
            Kind.CLUSTER, sight.observation.namespace, sight.observation.name, patch
        )

    async def _set_switchover(self, sight: Sight, value: str | None) -> None:
        """Write the annotation; fails when anything about the cluster changed meanwhile."""
        metadata = {
            "annotations": {labels.SWITCHOVER: value},
            "resourceVersion": sight.manifest["metadata"]["resourceVersion"],
        }
        sight.manifest = await self._kube.patch(
            Kind.CLUSTER,
            sight.observation.namespace,
            sight.observation.name,
            {"metadata": metadata},
        )

    async def _record(self, sight: Sight, volume: VolumeFacts) -> None:
        """Write the volume's record; fails when anything about the cluster changed meanwhile."""
        record = views.volume_record(volume).model_dump(
            by_alias=True, mode="json", exclude_none=True
        )
        status = {**(sight.manifest.get("status") or {}), "volume": record}
        sight.manifest = await self._kube.replace_status(
            Kind.CLUSTER, sight.observation.namespace, {**sight.manifest, "status": status}
        )

    async def _create(self, kind: Kind, manifest: Manifest, cluster: str) -> Manifest:
        """Make an object; one of ours that is there already is as good."""
        metadata = manifest["metadata"]
        try:
            return await self._kube.create(kind, metadata["namespace"], manifest)
        except AlreadyExists:
            found = await self._kube.get(kind, metadata["namespace"], metadata["name"])
            if views.labels_of(found).get(labels.CLUSTER) != cluster:
                raise Foreign((kind, metadata["name"])) from None
            return found

    async def _create_instance(self, sight: Sight, ordinal: int) -> None:
        pod = build_instance_pod(sight.context, ordinal)
        name = pod["metadata"]["name"]
        await self._support.ensure_instance_certificate(sight, name)
        made = await self._create(Kind.POD, pod, sight.context.name)
        note = Note(EventKind.INSTANCE_CREATED, (name,), key=made["metadata"]["uid"])
        await self._teller.tell(sight, note)

    async def _try_successor(self, sight: Sight, name: str) -> None:
        """Raise ``Refused`` when the pod that is to follow would not be admitted."""
        try:
            await self._kube.try_create(
                Kind.POD, sight.context.namespace, successor_of(sight, name)
            )
        except AlreadyExists:
            return  # Whatever could refuse it was asked; the name is free once the pod is gone.
        except Refused as error:
            if "exceeded quota" not in str(error):
                raise
            # The pod that goes gives its own share of the quota back.

    async def _delete_objects(self, sight: Sight) -> None:
        namespace = sight.observation.namespace
        selector = labels.cluster_selector(sight.observation.name)
        for kind in _DELETED_KINDS:
            for found in await self._kube.list(kind, namespace, selector):
                await self._kube.delete(
                    kind, namespace, found["metadata"]["name"], uid=found["metadata"]["uid"]
                )


def successor_of(sight: Sight, name: str) -> Manifest:
    """The pod of this name, as it would be built today."""
    seen = sight.observation
    for ordinal, pod in seen.instance_pods.items():
        if pod.name == name:
            return build_instance_pod(sight.context, ordinal)
    slot = next(slot for slot, pod in seen.storage_pods.items() if pod.name == name)
    return build_storage_pod(sight.context, slot, place_slots(seen.nodes, seen.claims)[slot])


def _birth(volume: VolumeFacts) -> BirthRecord:
    return BirthRecord(volume_id=volume.volume_id, identities=volume.identities)
