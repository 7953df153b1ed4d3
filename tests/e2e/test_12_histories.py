"""Faults drawn by seed on the local cluster, and foreign checkers over what clients saw.

`make histories SEEDS=n FIRST=k` is the same with any number of seeds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from histories import checkers
from histories.__main__ import ROUNDS, run_on_cluster
from histories.local_cluster import LocalCluster
from support.kube import Kube
from support.namespaces import MakeNamespace

SEEDS = (10, 22)
"""The writer's pod killed while the API server is gone; the writer frozen and cut from storage."""
FULL_SEEDS = range(1, 21)
FULL_SECONDS_MAX = 1800.0


def run(kube: Kube, namespace: str, seeds: Sequence[int], rounds: int) -> list[str]:
    """The lines of the histories that broke a promise."""
    results = run_on_cluster(kube, namespace, seeds, rounds, LocalCluster.kinds)
    return [result.line() for result in results if result.verdict.violations]


@pytest.mark.timeout(900)
def test_two_histories_hold(kube: Kube, make_namespace: MakeNamespace) -> None:
    checkers.ensure()
    assert not run(kube, make_namespace("e2e-histories"), SEEDS, 1)


@pytest.mark.full
@pytest.mark.timeout(FULL_SECONDS_MAX + 900)
def test_many_histories_hold(kube: Kube, make_namespace: MakeNamespace) -> None:
    """As many of twenty as fit into half an hour; at least ten."""
    checkers.ensure()
    namespace = make_namespace("e2e-histories-full")
    begun = time.monotonic()
    broken: list[str] = []
    done = 0
    for seed in FULL_SEEDS:
        if time.monotonic() - begun > FULL_SECONDS_MAX:
            break
        broken += run(kube, namespace, [seed], ROUNDS)
        done += 1
    assert not broken
    assert done >= len(FULL_SEEDS) / 2, f"only {done} histories in {FULL_SECONDS_MAX:.0f} s"
