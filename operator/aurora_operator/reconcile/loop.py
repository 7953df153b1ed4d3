"""One cluster's loop: observe, decide, act, write the status, sleep until something changes.

Two speeds: a *cycle* looks at everything; a *reflex* only at the instances, and only to ask one to
open when the writer seems to be gone. The reflex runs at once when the watch reports such a thing,
also beside a cycle that waits for a frozen pod's answer, and a cycle always follows it: it shortens
an outage and decides nothing that a cycle would not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from aurora_operator.api.cluster import AuroraCluster
from aurora_operator.core.cluster.actions import AskHandOver, AskOpen
from aurora_operator.core.cluster.events import EventKind, Note
from aurora_operator.core.cluster.failover import open_writer
from aurora_operator.core.cluster.plan import (
    OPENING_SECONDS,
    Plan,
    decide,
    opening_notes,
    plan_opening,
)
from aurora_operator.kube.api import Conflict, Kind, KubeError, NotFound
from aurora_operator.reconcile import views
from aurora_operator.reconcile.act import Actor, Outcome
from aurora_operator.reconcile.agents import AgentUnreachable
from aurora_operator.reconcile.events import EventTeller
from aurora_operator.reconcile.observe import ClusterName, InvalidCluster, Observer, Surroundings
from aurora_operator.reconcile.sight import Memory, Sight
from aurora_operator.reconcile.status import build_status, with_trouble
from aurora_operator.reconcile.support import SupportKeeper
from aurora_operator.telemetry.operator_metrics import CYCLE_FAILURES, CYCLE_SECONDS

_GAP_SECONDS: Final = 0.3
"""Between two cycles that events asked for: a burst of events is one change."""
_ERROR_SECONDS: Final = 1.0
_ERROR_SECONDS_MAX: Final = 15.0
_MESSAGE_LENGTH_MAX: Final = 1024
_LOG = structlog.get_logger(__name__)


class ClusterLoop:
    """The loop of one AuroraCluster. ``run`` ends when the AuroraCluster is gone."""

    def __init__(
        self,
        around: Surroundings,
        cluster: ClusterName,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cluster = cluster
        self._kube = around.kube
        self._now = now
        self._memory = Memory(now_seconds=now_seconds)
        self._observer = Observer(around, cluster, self._memory)
        self._teller = EventTeller(around.kube, self._memory, now)
        support = SupportKeeper(around.kube, self._memory, self._teller, now)
        self._actor = Actor(around.kube, self._memory, self._teller, support)
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._hurry = False
        self._last: Sight | None = None
        self._sentence = ""

    def wake(self, *, urgent: bool = False) -> None:
        """Something changed; ``urgent`` when a writer may be gone."""
        if urgent:
            self._urgent.set()
            self._hurry = True
        self._changed.set()

    @property
    def woken(self) -> bool:
        """Whether something changed that no cycle has looked at."""
        return self._changed.is_set()

    async def run(self) -> None:
        """Cycle until the AuroraCluster is gone."""
        errors = 0
        reflexes = asyncio.create_task(self._react_for_ever(), name=f"reflexes of {self.cluster}")
        try:
            while True:
                if reflexes.done():
                    reflexes.result()
                try:
                    with CYCLE_SECONDS.time():
                        wait_seconds = await self.step()
                    errors = 0
                except InvalidCluster as error:
                    wait_seconds = _ERROR_SECONDS_MAX
                    await self._tell_invalid(error)
                except (KubeError, AgentUnreachable) as error:
                    errors += 1
                    CYCLE_FAILURES.inc()
                    wait_seconds = min(_ERROR_SECONDS * 2 ** (errors - 1), _ERROR_SECONDS_MAX)
                    if isinstance(error, Conflict):
                        wait_seconds = OPENING_SECONDS
                    _LOG.warning(
                        "cycle failed; trying again",
                        aurora_cluster=str(self.cluster),
                        error=str(error),
                        wait_seconds=wait_seconds,
                    )
                except Exception as error:
                    # A fault of ours: told on the cluster, then handed to the loops' owner.
                    await self._tell_fault(error)
                    raise
                if wait_seconds is None:
                    return
                await self._sleep(wait_seconds)
        finally:
            reflexes.cancel()
            await asyncio.gather(reflexes, return_exceptions=True)
            if self._memory.agents is not None:
                await self._memory.agents.close()

    async def _tell_invalid(self, error: InvalidCluster) -> None:
        """A condition, so that somebody who looks at the cluster learns why nothing happens."""
        _LOG.error("cluster unreadable", aurora_cluster=str(self.cluster), error=str(error))
        await self._tell_trouble(error.manifest, "SpecAccepted", "Unreadable", str(error))

    async def _tell_fault(self, error: Exception) -> None:
        """The same for what this release did not foresee; its traceback goes to the log."""
        told = (
            f"the operator failed while it looked after the cluster ({type(error).__name__}: "
            f"{error}). What runs goes on serving, repairs and failovers by the operator wait; it "
            "tries again every few seconds. Report this with the operator's log"
        )
        try:
            manifest = await self._kube.get(Kind.CLUSTER, self.cluster.namespace, self.cluster.name)
        except KubeError as failure:
            _LOG.warning("status not written", error=str(failure))
            return
        await self._tell_trouble(manifest, "Reconciled", "OperatorFault", told)

    async def _tell_trouble(
        self, manifest: dict[str, Any], condition: str, reason: str, message: str
    ) -> None:
        """Write conditions, and nothing else, into the status; with an Event when they change."""
        status = dict(manifest.get("status") or {})
        before = tuple(status.get("conditions") or ())
        changed = with_trouble(
            before, condition, reason, message[:_MESSAGE_LENGTH_MAX], self._now()
        )
        if tuple(changed) == before:
            return
        status["conditions"] = changed
        note = Note(EventKind.PROBLEM, (message,), key=message, reason_override=reason)
        await self._teller.tell_about(manifest, note)
        try:
            await self._kube.replace_status(
                Kind.CLUSTER, self.cluster.namespace, {**manifest, "status": status}
            )
        except KubeError as failure:
            _LOG.warning("status not written", error=str(failure))

    async def _react_for_ever(self) -> None:
        while True:
            await self._urgent.wait()
            self._urgent.clear()
            try:
                await self.react()
            except (KubeError, AgentUnreachable) as error:
                # The cycle that follows asks again.
                _LOG.warning("reflex failed", aurora_cluster=str(self.cluster), error=str(error))

    async def step(self) -> float | None:
        """Observe, decide, act, write the status; seconds to wait, ``None`` at the end."""
        self._hurry = False
        self._changed.clear()
        sight = await self._observer.observe()
        if sight is None:
            return None
        if open_writer(sight.observation) is not None:
            self._memory.openings_asked = 0
        plan = decide(sight.observation)
        outcome = await self._actor.apply(plan, sight)
        self._log(plan, outcome)
        refused = [_refusal_note(sight, refusal) for refusal in outcome.refusals]
        for note in refused:
            await self._teller.tell(sight, note)
        self._teller.forget_solved(sight, [*plan.notes, *refused])
        status = await self._write_status(sight, plan, outcome)
        self._last = _remembering(sight, status)
        if outcome.interrupted is not None:
            return OPENING_SECONDS
        return plan.look_again_seconds

    async def react(self) -> None:
        """The reflex: ask somebody to open, if that is what the instances call for."""
        before = self._last
        volume = None if before is None else before.observation.recorded
        if before is None or volume is None or not volume.complete or before.observation.deleting:
            return
        sight = await self._observer.glance(before)
        opening, action = plan_opening(sight.observation)
        if not isinstance(action, AskOpen | AskHandOver):
            return
        await self._actor.do(action, sight)
        for note in opening_notes(sight.observation, opening):
            await self._teller.tell(sight, note)

    async def _write_status(self, sight: Sight, plan: Plan, outcome: Outcome) -> dict[str, Any]:
        status = build_status(sight, plan, outcome.refusals, self._now(), outcome.foreign)
        if status == (sight.manifest.get("status") or {}):
            return status
        manifest: dict[str, Any] = {**sight.manifest, "status": status}
        try:
            await self._kube.replace_status(Kind.CLUSTER, self.cluster.namespace, manifest)
        except NotFound:
            # The finalizer was the last thing that held it.
            return status
        except Conflict:
            # The spec changed meanwhile; the next cycle sees it and writes.
            self.wake()
        return status

    def _log(self, plan: Plan, outcome: Outcome) -> None:
        sentence = outcome.interrupted or plan.sentence
        if sentence != self._sentence:
            self._sentence = sentence
            _LOG.info(
                "cycle",
                aurora_cluster=str(self.cluster),
                status=plan.phase.value,
                sentence=sentence,
                actions=[type(action).__name__ for action in plan.actions],
            )

    async def _sleep(self, wait_seconds: float) -> None:
        """Until something changes or the time is up; an urgent wake ends the gap as well."""
        if wait_seconds <= 0:
            return
        deadline = time.monotonic() + wait_seconds
        gap_until = time.monotonic() + min(_GAP_SECONDS, wait_seconds)
        while not self._hurry and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return
            if self._hurry or time.monotonic() >= gap_until:
                return
            # An ordinary change within the gap: let the burst end, stay open for an urgent one.
            self._changed.clear()
            deadline = min(deadline, gap_until)


def _refusal_note(sight: Sight, refusal: str) -> Note:
    return Note(
        EventKind.PROBLEM,
        (refusal,),
        key=f"{sight.observation.generation}/{refusal}",
        reason_override="ActionRefused",
    )


def _remembering(sight: Sight, status: dict[str, Any]) -> Sight:
    """The sight as the next reflex needs it: with the status that this cycle left behind."""
    cluster = AuroraCluster.model_validate({"status": status})
    observation = replace(
        sight.observation,
        remembered=views.remembered(cluster),
        recorded=views.volume_facts(cluster.status.volume),
    )
    return replace(sight, observation=observation)
