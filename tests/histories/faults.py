"""Which faults strike, when, and for how long: a pure function of a seed.

A schedule is a row of rounds; a round is one fault or a pair that overlaps. Between rounds the
ground heals and waits until the cluster is whole, so that every round strikes a healthy cluster
and no more is broken at once than one round breaks. What a fault means on a ground, that ground
knows (`loopback`, `local_cluster`).
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What breaks. The groups below say what each one hits."""

    KILL_SERVER = "kill-server"
    """SIGKILL of postgres; its pod lives."""
    FREEZE_SERVER = "freeze-server"
    """SIGSTOP of the postmaster alone: sessions go on, nobody new comes in."""
    KILL_POD = "kill-pod"
    """All processes of the pod at once; its container starts again."""
    FREEZE_POD = "freeze-pod"
    DELETE_POD = "delete-pod"
    """As `kubectl delete` does: with a warning."""
    FORCE_DELETE_POD = "force-delete-pod"
    KILL_NODE = "kill-node"
    FREEZE_NODE = "freeze-node"
    CUT_NODE = "cut-node"
    CUT_NODE_OUT = "cut-node-out"
    """What the node sends is lost; it hears everything."""
    CUT_NODE_IN = "cut-node-in"
    """The node hears nothing; what it sends arrives."""
    CUT_FROM_STORAGE = "cut-from-storage"
    """The node reaches clients and the control plane, but no other node."""
    KILL_ZONE = "kill-zone"
    FREEZE_ZONE = "freeze-zone"
    CUT_ZONE = "cut-zone"
    KILL_COPIES = "kill-copies"
    FREEZE_COPIES = "freeze-copies"
    WIPE_COPIES = "wipe-copies"
    """Pod and volume gone, for ever."""
    FILL_DISKS = "fill-disks"
    STOP_OPERATOR = "stop-operator"
    STOP_API = "stop-api"


class Role(StrEnum):
    """Which instance a fault hits: whoever has the role when it strikes."""

    WRITER = "writer"
    REPLICA = "replica"


OF_INSTANCE = frozenset(
    {
        *(Kind.KILL_SERVER, Kind.FREEZE_SERVER, Kind.KILL_POD, Kind.FREEZE_POD),
        *(Kind.DELETE_POD, Kind.FORCE_DELETE_POD, Kind.KILL_NODE, Kind.FREEZE_NODE),
        *(Kind.CUT_NODE, Kind.CUT_NODE_OUT, Kind.CUT_NODE_IN, Kind.CUT_FROM_STORAGE),
    }
)
"""These hit an instance, or the node it is on."""
OF_ZONE = frozenset({Kind.KILL_ZONE, Kind.FREEZE_ZONE, Kind.CUT_ZONE})
"""These hit the zone of an instance, or any other."""
OF_COPIES = frozenset({Kind.KILL_COPIES, Kind.FREEZE_COPIES, Kind.WIPE_COPIES, Kind.FILL_DISKS})
"""These hit storage pods."""

COPIES_HIT_MAX = {Kind.KILL_COPIES: 6, Kind.FREEZE_COPIES: 4, Kind.WIPE_COPIES: 2}
"""More wiped at once could be more than the volume promises to survive."""
COPIES_FILLED_MAX = 3
WRITER_SHARE = 0.75
PAIR_SHARE = 0.5
PAIR_GAP_SECONDS_MAX = 1.5
HOLD_SECONDS = (1.0, 8.0)
SLOTS = 6


@dataclass(frozen=True)
class Fault:
    """One thing that breaks for a while."""

    kind: Kind
    begin_seconds: float
    """After the begin of its round."""
    hold_seconds: float
    """Until it is undone; what cannot be undone has happened by then."""
    role: Role | None = None
    slots: tuple[int, ...] = ()

    def __str__(self) -> str:
        whom = f"({self.role})" if self.role else f"({','.join(map(str, self.slots))})"
        return f"{self.kind}{whom if whom != '()' else ''}~{self.hold_seconds:.1f}s"


@dataclass(frozen=True)
class Round:
    """What breaks together."""

    faults: tuple[Fault, ...]

    @property
    def seconds(self) -> float:
        return max(fault.begin_seconds + fault.hold_seconds for fault in self.faults)

    def __str__(self) -> str:
        return "+".join(map(str, self.faults))


def draw(
    seed: int,
    kinds: Collection[Kind],
    *,
    rounds: int,
    hold_seconds: tuple[float, float] = HOLD_SECONDS,
) -> tuple[Round, ...]:
    """The schedule of a seed, on a ground that can do these kinds."""
    chance = random.Random(f"schedule {seed}")
    able = sorted(kinds)
    schedule = []
    for _ in range(rounds):
        first = _draw_fault(chance, able, 0.0, hold_seconds)
        faults = [first]
        others = [kind for kind in able if _goes_with(first.kind, kind)]
        if others and chance.random() < PAIR_SHARE:
            begin = chance.uniform(0.0, min(PAIR_GAP_SECONDS_MAX, first.hold_seconds))
            faults.append(_draw_fault(chance, others, begin, hold_seconds))
        schedule.append(Round(tuple(faults)))
    return tuple(schedule)


def _goes_with(first: Kind, second: Kind) -> bool:
    """Whether the two may strike together: two sets of copies could be more than is survived."""
    return first is not second and not {first, second} <= OF_COPIES | OF_ZONE


def _draw_fault(
    chance: random.Random, kinds: list[Kind], begin_seconds: float, hold: tuple[float, float]
) -> Fault:
    kind = chance.choice(kinds)
    role: Role | None = None
    slots: tuple[int, ...] = ()
    if kind in OF_COPIES:
        most = COPIES_HIT_MAX.get(kind, COPIES_FILLED_MAX)
        slots = tuple(sorted(chance.sample(range(SLOTS), chance.randint(1, most))))
    elif kind in OF_INSTANCE | OF_ZONE:
        role = Role.WRITER if chance.random() < WRITER_SHARE else Role.REPLICA
    return Fault(kind, round(begin_seconds, 2), round(chance.uniform(*hold), 2), role, slots)
