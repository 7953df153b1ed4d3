"""Many seeds in two processes: ``python -m support.simulation.run --seeds 2000``.

Prints how far it is, each violation with its seed and story, and one line with what happened in
all runs together: a simulation in which nobody opens, writes or falls over shows nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable

from support.simulation.ledger import Violated
from support.simulation.world import Tally, World

_CHUNK = 20
_VIOLATIONS_MAX = 10
_PROGRESS_SECONDS = 15.0
_BUSY = {"chosen": 2.0, "openings": 1.0, "acknowledged": 2.0, "restarts": 0.03, "refills": 0.2}
"""How often each must happen in a seed, on the average over many."""


def run_seeds(seeds: Iterable[int]) -> tuple[Tally, list[str]]:
    """Run these seeds; what happened, and the stories of those that failed."""
    total = Tally()
    stories = []
    for seed in seeds:
        try:
            total.add(World(seed).run())
        except Violated as violation:
            total.seeds += 1
            stories.append(str(violation))
    return total, stories


def run_many(first: int, seeds: int, workers: int, violations_max: int) -> tuple[Tally, int]:
    """Run so many seeds from ``first`` on, and say how it goes."""
    chunks = [range(n, min(n + _CHUNK, first + seeds)) for n in range(first, first + seeds, _CHUNK)]
    total, violations = Tally(), 0
    said_at = time.monotonic()
    with multiprocessing.Pool(workers) as pool:
        for tally, stories in pool.imap_unordered(run_seeds, chunks):
            total.add(tally)
            violations += len(stories)
            for story in stories:
                print(story, flush=True)
            if violations >= violations_max:
                break
            if time.monotonic() - said_at > _PROGRESS_SECONDS:
                said_at = time.monotonic()
                print(f"{total.seeds} of {seeds} seeds, violations {violations}", flush=True)
    return total, violations


def main() -> int:
    """0: nothing was violated; 1: something was; 3: the runs were idle and show nothing."""
    words = argparse.ArgumentParser(prog="simulation")
    words.add_argument("--seeds", type=int, default=2000)
    words.add_argument("--first", type=int, default=0)
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--violations", type=int, default=_VIOLATIONS_MAX)
    given = words.parse_args()
    begun = time.monotonic()
    total, violations = run_many(given.first, given.seeds, given.workers, given.violations)
    seconds = time.monotonic() - begun
    told = ", ".join(f"{name} {getattr(total, name)}" for name in total.__slots__)
    print(f"{told}, violations {violations} ({seconds:.1f} s)")
    if violations:
        return 1
    idle = [name for name, often in _BUSY.items() if getattr(total, name) < often * total.seeds]
    if idle and total.seeds >= 100:
        print(f"too few: {', '.join(idle)}; these runs show nothing")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
