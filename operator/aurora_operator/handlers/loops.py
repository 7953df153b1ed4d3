"""The loops of all AuroraClusters, each a task with an owner.

A loop begins when its cluster is first seen, and ends by itself when the cluster is gone. A loop
that crashes is a fault of ours: it is logged with its traceback, counted, and begun again after a
while, so that one cluster's trouble stays its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

import structlog

from aurora_operator.reconcile.loop import ClusterLoop
from aurora_operator.reconcile.observe import ClusterName, Surroundings
from aurora_operator.telemetry.operator_metrics import CLUSTERS, LOOP_CRASHES

_CRASH_SECONDS: Final = 10.0
_LOG = structlog.get_logger(__name__)


class Loops:
    """Starts, wakes and stops loops."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._loops: dict[ClusterName, ClusterLoop] = {}
        self._tasks: dict[ClusterName, asyncio.Task[None]] = {}
        self._stamps: dict[ClusterName, Hashable] = {}

    def changed(self, cluster: ClusterName, stamp: Hashable) -> None:
        """The AuroraCluster was seen; ``stamp`` changes with what is wanted of it."""
        if cluster not in self._tasks:
            self._loops[cluster] = ClusterLoop(self._around, cluster)
            self._tasks[cluster] = asyncio.create_task(
                self._run(cluster), name=f"loop of {cluster}"
            )
            CLUSTERS.set(len(self._tasks))
        elif self._stamps.get(cluster) != stamp:
            # A write of our own status has the same stamp, and is no news.
            self._loops[cluster].wake()
        self._stamps[cluster] = stamp

    def wake(self, cluster: ClusterName, *, urgent: bool = False) -> None:
        """Something of the cluster changed."""
        loop = self._loops.get(cluster)
        if loop is not None:
            loop.wake(urgent=urgent)

    def wake_all(self) -> None:
        """Something changed that may concern every cluster."""
        for loop in self._loops.values():
            loop.wake(urgent=True)

    async def close(self) -> None:
        """Stop all loops; each plan may be cut anywhere."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, cluster: ClusterName) -> None:
        try:
            while True:
                try:
                    await self._loops[cluster].run()
                    if not self._loops[cluster].woken:
                        return
                    # A new cluster of the same name came while the loop of the old one ended.
                except Exception:
                    LOOP_CRASHES.inc()
                    _LOG.exception(
                        "a loop crashed; its cluster goes on serving, and is looked after again "
                        "in a few seconds",
                        aurora_cluster=str(cluster),
                    )
                    await asyncio.sleep(_CRASH_SECONDS)
                self._loops[cluster] = ClusterLoop(self._around, cluster)
        finally:
            self._loops.pop(cluster, None)
            self._tasks.pop(cluster, None)
            self._stamps.pop(cluster, None)
            CLUSTERS.set(len(self._tasks))
