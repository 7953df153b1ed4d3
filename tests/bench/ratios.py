"""The arithmetic of a comparison on a machine that is never quiet.

A sample is one arm's short run, with a run of the control (plain PostgreSQL) just before and just
after. What the machine does to everybody at that time it does to the control too, so a sample is
worth its throughput over that of its controls. Where the two controls differ too much the machine
changed under the sample: it is dropped, and counted. Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

CONTROL_SPREAD_MAX: Final = 0.15
"""How much the two controls of a sample may differ, as a part of the larger one."""
_RESAMPLES: Final = 2000
_SEED: Final = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of an arm. ``turn`` is the same for the runs that stood beside each other."""

    arm: str
    turn: int
    tps: float
    control_before_tps: float
    control_after_tps: float

    @property
    def control_tps(self) -> float:
        """What the control did at that time."""
        return (self.control_before_tps + self.control_after_tps) / 2

    @property
    def steady(self) -> bool:
        """Whether the machine was the same before and after."""
        low, high = sorted((self.control_before_tps, self.control_after_tps))
        return high > 0 and (high - low) / high <= CONTROL_SPREAD_MAX

    @property
    def relative(self) -> float:
        """Throughput as a part of the control's."""
        return self.tps / self.control_tps


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median with its 95 % interval; ``dropped`` pairs had unsteady controls."""

    median: float
    low: float
    high: float
    n: int
    dropped: int

    def __str__(self) -> str:
        if not self.n:
            return f"none of {self.dropped} pairs was steady"
        return f"{self.median:.2f} [{self.low:.2f}-{self.high:.2f}] n={self.n}"


def ratio_to_control(samples: Iterable[Sample], arm: str) -> Ratio:
    """How much of the control's throughput ``arm`` has."""
    own = [sample for sample in samples if sample.arm == arm]
    kept = [sample.relative for sample in own if sample.steady]
    return _ratio(kept, len(own) - len(kept))


def ratio_between(samples: Iterable[Sample], arm: str, other: str) -> Ratio:
    """``arm`` over ``other``: pairs of the same turn, each side measured against its controls."""
    found = list(samples)
    others = {sample.turn: sample for sample in found if sample.arm == other}
    pairs = [(s, others[s.turn]) for s in found if s.arm == arm and s.turn in others]
    kept = [a.relative / b.relative for a, b in pairs if a.steady and b.steady]
    return _ratio(kept, len(pairs) - len(kept))


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` (0 to 1) of all values do not exceed."""
    if not values:
        raise ValueError("no values, no percentile")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def interval(
    values: Sequence[float], statistic: Callable[[Sequence[float]], float] = median
) -> tuple[float, float]:
    """95 % interval of a statistic by the bootstrap; the same values give the same interval."""
    chance = random.Random(_SEED)
    found = sorted(statistic(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return percentile(found, 0.025), percentile(found, 0.975)


def turn_order(arms: Sequence[str], turn: int) -> tuple[str, ...]:
    """ABBA: every second turn goes backwards, so that a drift meets all arms alike."""
    return tuple(arms) if turn % 2 == 0 else tuple(reversed(arms))


def _ratio(values: Sequence[float], dropped: int) -> Ratio:
    if not values:
        return Ratio(math.nan, math.nan, math.nan, 0, dropped)
    return Ratio(median(values), *interval(values), len(values), dropped)
