"""The open writer replaces lost copies, and a blank disk is filled (rules 8 and 9).

``Replacer`` is the writer's half, as ``agent.instance.replacing`` does it: it looks at all pods,
takes the step that ``core.replacement`` decides from the answers to this very look, and forgets
everything with its process. ``Refill`` is the pod's half: it learns from full members, takes what
gates serve, learns again, and only then is full.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aurora_operator.core.copy import CopyView, Promise
from aurora_operator.core.history import common_prefix_end
from aurora_operator.core.lsn import Lsn
from aurora_operator.core.members import MemberList
from aurora_operator.core.names import Identity, Slot
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.replacement import (
    FillCopy,
    Membership,
    PutIn,
    StoreList,
    TakeIn,
    TakeOut,
    judge_refill,
    next_step,
)
from support.simulation.ledger import offset, position

if TYPE_CHECKING:
    from support.simulation.instance import Instance
    from support.simulation.storage_pod import StoragePod

_ANSWERS_SECONDS = 0.8
_LOOK_SECONDS = 1.0


class Replacer:
    """What one writer knows of its member list beyond what the copies tell."""

    def __init__(self, writer: Instance, members: MemberList) -> None:
        self._writer = writer
        self.host = writer.host
        self._in_force = members.identities
        self._flushed: Lsn | None = None
        self._asked_at: float | None = None
        self._looks = 0
        self._seen: dict[Slot, CopyView | None] = {}

    def on_view(self, look: int, view: CopyView) -> None:
        """A pod's answer to a look; those to earlier ones came too late."""
        if look == self._looks:
            self._seen[view.slot] = view

    def act(self) -> None:
        """Look, and a moment later take the next step."""
        world, writer = self._writer.world, self._writer
        if self._asked_at is None or not self._seen or world.now - self._asked_at > _LOOK_SECONDS:
            self._asked_at = world.now
            self._looks += 1
            self._seen = {pod.slot: None for pod in world.pods}
            for pod in world.pods:
                world.network.send(writer.host, pod.host, pod.on_look, self, self._looks)
        elif self._seen and self._has_waited(world.now - self._asked_at):
            seen, self._seen = self._seen, {}
            self._step(seen)

    def _has_waited(self, seconds: float) -> bool:
        return seconds > _ANSWERS_SECONDS or None not in self._seen.values()

    def _step(self, seen: dict[Slot, CopyView | None]) -> None:
        writer, world = self._writer, self._writer.world
        facts, hub, server = writer.facts, writer.hub, writer.server
        assert facts is not None
        assert hub is not None
        assert server is not None
        known = Membership(
            promise=facts.promise,
            members=facts.members,
            in_force=self._in_force,
            copies=seen,
            flushed=self._flushed,
        )
        step = next_step(known, AURORA_QUORUM)
        match step:
            case TakeOut(identity):
                left = tuple(i for i in self._in_force if i != identity)
                hub.count_only(facts.members.restricted_to(left))
                server.wait_for(left)
                self._in_force, self._flushed = left, None
            case StoreList(members):
                writer.facts = replace(facts, members=members)
                world.listed(members)
            case FillCopy(slot, identity):
                pod = world.pods[slot]
                new = identity or world.new_identity(slot)
                world.network.send(writer.host, pod.host, pod.on_refill, facts.promise, new)
            case TakeIn(_, identity):
                self._flushed = position(len(server.log))
                writer.facts = replace(facts, guest=identity)
            case PutIn():
                self._in_force, self._flushed = facts.members.identities, None
                server.wait_for(self._in_force)
                hub.count_only(facts.members.restricted_to(self._in_force))
            case _:
                return
        world.note(writer.host, type(step).__name__, step.sentence)


class Refill:
    """A blank disk on its way to being a full copy."""

    def __init__(self, pod: StoragePod, writer: Promise, identity: Identity) -> None:
        self._pod = pod
        self.writer = writer
        self.identity = identity
        self._base_at = pod.world.now + pod.world.chance.random()

    def act(self) -> None:
        """Take what some gate serves; in the end, learn once more and be full."""
        pod, world = self._pod, self._pod.world
        source = world.pods[int(world.chance.random() * 6)]
        if source.serves and world.network.both_ways(pod.host, source.host):
            served = source.serve()
            have = len(pod.log)
            same = source.log[:have] == pod.log
            pod.log = source.log[:served] if served > have and same else pod.log
        if world.now > self._base_at and world.chance.random() < 0.3:
            self._complete()

    def learn(self) -> CopyView | None:
        """What the peers teach, if they say that this disk may be filled."""
        pod, world = self._pod, self._pod.world
        peers = [
            peer.view()
            for peer in world.pods
            if peer is not pod and peer.up and world.network.both_ways(pod.host, peer.host)
        ]
        own = pod.view()
        taught = judge_refill(own, self.identity, self.writer, peers, AURORA_QUORUM)
        return taught if isinstance(taught, CopyView) else None

    def _complete(self) -> None:
        pod, world = self._pod, self._pod.world
        taught = self.learn()
        if taught is None or taught.record is None or not pod.log:
            return
        history, end = taught.record.history, position(len(pod.log))
        if common_prefix_end(world.history_of(pod.log), end, history) < end:
            pod.log = []  # the volume went on otherwise: the fill begins anew
            return
        lists = [peer.record.members for peer in world.pods if peer.serves]
        members = max((*lists, taught.record.members), key=lambda listed: listed.version)
        pod.refilled(
            replace(
                taught.record,
                identity=self.identity,
                slot=pod.slot,
                promise=self.writer,
                members=members,
            )
        )
        world.note(pod.host, "is filled with", offset(end))
        world.refills += 1
