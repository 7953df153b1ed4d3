"""Messages on their way, and the cuts between hosts.

Asks, answers, beats and positions lie in one bag: whoever is drawn arrives next, so messages
overtake each other; some are lost, some arrive twice, some after minutes. A frozen host receives
when it thaws. Log streams and their reports keep their order, as TCP does; they only ask here
whether the way is open.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

HOSTS = 10
"""Storage pods 0 to 5, instances 6 to 8, and the operator."""
OPERATOR = 9
_IN_FLIGHT_MAX = 80


class Network:
    """The bag, and which hosts reach which."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._bag: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._cut = [False] * (HOSTS * HOSTS)
        self.frozen = [False] * HOSTS
        self.lost_share = 0.0
        self.doubled_share = 0.0
        self.fair = False

    @property
    def urgency(self) -> float:
        """How likely the next step is an arrival: the more is on its way, the likelier."""
        waiting = len(self._bag)
        return min(0.25 + waiting * 0.02, 0.75) if waiting else 0.0

    def open_way(self, source: int, target: int) -> bool:
        """Whether what ``source`` sends arrives, and is looked at, now."""
        return not (self._cut[source * HOSTS + target] or self.frozen[target])

    def both_ways(self, one: int, other: int) -> bool:
        """Whether two hosts can talk."""
        return self.open_way(one, other) and self.open_way(other, one)

    def send(self, source: int, target: int, handle: Callable[..., None], *words: Any) -> None:
        """Put a message into the bag."""
        bag = self._bag
        if len(bag) >= _IN_FLIGHT_MAX:
            bag.pop(0 if self.fair else int(self._chance.random() * len(bag)))
        bag.append((source, target, handle, words))

    def deliver(self) -> str | None:
        """One message arrives, is lost, or arrives for the first of two times."""
        bag = self._bag
        if not bag:
            return None
        chance = self._chance.random
        # Mostly one of the oldest: without that, conversations would hardly ever come to an end.
        near = len(bag) if not self.fair and chance() < 0.25 else min(len(bag), 6)
        number = int(chance() * near)
        source, target, handle, words = bag[number]
        if self.frozen[target]:
            return None
        if not chance() < self.doubled_share:
            del bag[number]
        if self._cut[source * HOSTS + target] or chance() < self.lost_share:
            return "lost"
        handle(*words)
        return None

    # -- cuts ------------------------------------------------------------------------------

    def cut_one_way(self, source: int, target: int) -> None:
        """Nothing that ``source`` sends to ``target`` arrives any more."""
        self._cut[source * HOSTS + target] = True

    def cut_apart(self, some: set[int]) -> None:
        """``some`` hosts and the others no longer reach each other."""
        for one in range(HOSTS):
            for other in range(HOSTS):
                if (one in some) != (other in some):
                    self._cut[one * HOSTS + other] = True

    def heal(self) -> None:
        """All ways are open again."""
        self._cut = [False] * (HOSTS * HOSTS)
