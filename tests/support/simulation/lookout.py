"""An instance looks at the writer with the copies' eyes, and decides when it is its turn.

As ``agent.instance.lookout`` does it: notes go out, sights come in, both grow stale; what follows
from them is decided in ``core.detection``. With this alone, and no operator, the volume opens
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aurora_operator.core.detection import (
    Sight,
    Standing,
    agree_writer_is_gone,
    backoff,
    decide_candidacy,
    decide_lone_restart,
    known_standings,
)
from aurora_operator.core.names import InstanceName
from aurora_operator.core.quorum import AURORA_QUORUM
from aurora_operator.core.verdicts import Proceed, Wait
from support.simulation.ledger import position

if TYPE_CHECKING:
    from support.simulation.instance import Instance

WATCH_SECONDS = 0.5
STALE_SECONDS = 1.25
_WISH_SECONDS = 1.0


class Lookout:
    """What one instance knows of the copies' views of the writer."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._world = instance.world
        self._seen: dict[int, tuple[Sight, float]] = {}
        self._watched_at = -1000.0
        self._agreed_at: float | None = None
        self._alone_at: float | None = None
        self._wished_at = -1000.0
        self.refusals = 0
        self._held_back = (0, 0.0)

    def on_sight(self, sight: Sight) -> None:
        """What a copy sees."""
        self._seen[sight.slot] = (sight, self._world.now)

    def tell(self) -> None:
        """Tell the copies that this instance is there; they answer with what they see."""
        world, instance = self._world, self._instance
        if world.now - self._watched_at < WATCH_SECONDS:
            return
        self._watched_at = world.now
        applied = position(len(instance.log))
        standing = Standing(InstanceName(instance.name), bool(instance.log), applied)
        for pod in world.pods:
            note = standing if instance.stands_by else None
            # Straight away: these are many, and nothing but patience depends on them.
            if world.network.both_ways(instance.host, pod.host):
                pod.on_watch(instance, note)

    def wishes_to_open(self) -> bool:
        """Whether this replica begins an attempt of its own accord."""
        sights = self._sights()
        now = self._world.now
        if isinstance(agree_writer_is_gone(sights, AURORA_QUORUM), Wait):
            self._agreed_at = None
            return False
        self._agreed_at = now if self._agreed_at is None else self._agreed_at
        if now - self._wished_at < _WISH_SECONDS:
            return False
        if self._held_back[0] != self.refusals:
            drawn = backoff(self.refusals, self._world.chance.random())
            self._held_back = (self.refusals, drawn)
        verdict = decide_candidacy(
            InstanceName(self._instance.name),
            sights,
            agreed_seconds=now - self._agreed_at,
            backoff_seconds=self._held_back[1],
            policy=AURORA_QUORUM,
        )
        if isinstance(verdict, Wait):
            return False
        self._wished_at = now
        return True

    def wishes_to_restart(self) -> bool:
        """Whether an ended writer restarts unasked (rule 11)."""
        sights = self._sights()
        name, now = InstanceName(self._instance.name), self._world.now
        others = [standing for standing in known_standings(sights) if standing.name != name]
        self._alone_at = None if others else self._alone_at or now
        verdict = decide_lone_restart(
            name,
            sights,
            alone_seconds=0.0 if self._alone_at is None else now - self._alone_at,
            policy=AURORA_QUORUM,
        )
        return isinstance(verdict, Proceed)

    def _sights(self) -> list[Sight]:
        since = self._world.now - STALE_SECONDS
        return [sight for sight, seen_at in self._seen.values() if seen_at > since]
