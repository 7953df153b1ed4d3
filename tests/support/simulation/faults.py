"""What breaks, and how often: each seed has a weather of its own.

Some seeds know only crashes, some only cuts, some everything at once: a run in which every fault
is likely hardly ever gets to the interesting states, and neither does one in which none is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aurora_operator.core.copy import CopyState
from support.simulation.attempt import Role
from support.simulation.instance import Instance
from support.simulation.network import OPERATOR

if TYPE_CHECKING:
    from support.simulation.world import World

WIPED_MAX = 2
"""With three disks lost nothing opens any more; how that ends is rule 10's."""


class Faults:
    """The faults of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        chance = world.chance
        kinds: tuple[tuple[Callable[[], None], float], ...] = (
            (self.crash_copy, 3),
            (self.stop_copy, 2),
            (self.kill_server, 2),
            (self.kill_instance, 1.5),
            (self.reboot_instance, 1),
            (self.freeze, 1.5),
            (self.thaw, 2.5),
            (self.cut_one_way, 1.5),
            (self.cut_two_ways, 1.5),
            (self.cut_group, 2),
            (self.heal, 5),
            (self.break_stream, 2),
            (self.wipe_copy, 1),
        )
        self._drawn: list[Callable[[], None]] = []
        for kind, weight in kinds:
            remedy = kind in (self.heal, self.thaw)
            often = weight * (1 if remedy else chance.choice((0, 0.3, 1, 1, 2)))
            self._drawn += [kind] * int(often * 10)

    def strike(self) -> None:
        """One of them happens."""
        drawn = self._drawn
        drawn[int(self._world.chance.random() * len(drawn))]()

    def end(self) -> None:
        """All faults end: hosts thaw, ways are open, what is down starts."""
        world = self._world
        world.note(OPERATOR, "all faults end")
        world.network.heal()
        world.network.frozen = [False] * len(world.network.frozen)
        world.network.lost_share = world.network.doubled_share = 0.0

    def crash_copy(self) -> None:
        pod = self._a_pod()
        if self._world.pods[pod].up:
            self._world.pods[pod].crash()
            self._world.pods[pod].start()

    def stop_copy(self) -> None:
        pod = self._world.pods[self._a_pod()]
        if pod.up:
            pod.crash()

    def kill_server(self) -> None:
        """SIGKILL of PostgreSQL: the agent notices and looks at the mark."""
        instance = self._world.instances[self._an_instance()]
        if instance.server is not None:
            self._world.note(instance.host, "its server is killed")
            instance.begin_life()

    def kill_instance(self) -> None:
        """The container starts again on the same directory."""
        instance = self._world.instances[self._an_instance()]
        self._world.note(instance.host, "its container is killed")
        instance.begin_life()

    def reboot_instance(self) -> None:
        """The node restarts: of what was not synced, who knows what is left."""
        instance = self._world.instances[self._an_instance()]
        kept = int(self._world.chance.random() * (len(instance.log) + 1))
        self._world.note(instance.host, "its node restarts; its cache keeps", kept)
        if instance.server is not None:
            instance.server.end()
        instance.log = instance.log[:kept]
        if "cache survives reboot" not in self._world.flaws:
            instance.boots += 1
        instance.begin_life()

    def freeze(self) -> None:
        host = int(self._world.chance.random() * 9)
        self._world.note(host, "is frozen")
        self._world.network.frozen[host] = True

    def thaw(self) -> None:
        frozen = [host for host, is_so in enumerate(self._world.network.frozen) if is_so]
        if frozen:
            host = self._world.chance.choice(frozen)
            self._world.note(host, "thaws")
            self._world.network.frozen[host] = False

    def cut_one_way(self) -> None:
        source, target = self._world.chance.sample(range(9), 2)
        self._world.note(source, "is no longer heard by", target)
        self._world.network.cut_one_way(source, target)

    def cut_two_ways(self) -> None:
        one, other = self._world.chance.sample(range(9), 2)
        self._world.note(one, "no longer talks with", other)
        self._world.network.cut_one_way(one, other)
        self._world.network.cut_one_way(other, one)

    def cut_group(self) -> None:
        """A zone, a host, or one half from the other."""
        chance = self._world.chance
        zone = int(chance.random() * 3)
        some = chance.choice(
            (
                {2 * zone, 2 * zone + 1, 6 + zone},
                {6 + zone},
                set(chance.sample(range(10), 4)),
                set(chance.sample(range(6), 2)),
            )
        )
        self._world.note(OPERATOR, "hosts are cut off:", some)
        self._world.network.cut_apart(some)

    def hide_copies_from(self, host: int) -> None:
        """A host does not reach one or two copies, until the network heals."""
        network = self._world.network
        hidden = self._world.chance.sample(range(6), 1 + int(self._world.chance.random() * 2))
        self._world.note(host, "does not reach", hidden)
        for copy in hidden:
            network.cut_one_way(host, copy)
            network.cut_one_way(copy, host)

    def end_instance(self, instance: Instance) -> None:
        """One instance's container ends now."""
        self._world.note(instance.host, "ends before anybody comes in")
        instance.begin_life()

    def heal(self) -> None:
        self._world.note(OPERATOR, "the network heals")
        self._world.network.heal()

    def break_stream(self) -> None:
        """A connection ends; the copy, the server, or both learn of it."""
        pod = self._world.pods[self._a_pod()]
        pod.lose_connection(server_learns=self._world.chance.random() < 0.5)

    def wipe_copy(self) -> None:
        pod = self._world.pods[self._a_pod()]
        if self._world.lost < WIPED_MAX and pod.state is CopyState.FULL:
            pod.wipe()

    def _a_pod(self) -> int:
        return int(self._world.chance.random() * 6)

    def _an_instance(self) -> int:
        """Mostly one that matters."""
        world = self._world
        busy = [n for n, one in enumerate(world.instances) if one.role is not Role.REPLICA]
        if busy and world.chance.random() < 0.8:
            return busy[int(world.chance.random() * len(busy))]
        return int(world.chance.random() * 3)
