"""Leader election by a Lease: one operator works, the others wait.

The holder renews well before its time is up and stops working when it could not renew for as long
as others wait before they take over, less a margin: at no time do two work. Others measure by
their own clock how long the Lease has not changed, so clocks of different machines are never
compared. (Kopf's peering is a courtesy between operators, not a lease.)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from aurora_operator.kube.api import (
    AlreadyExists,
    Conflict,
    Kind,
    KubeApi,
    KubeError,
    Manifest,
    NotFound,
)

LEASE_SECONDS: Final = 15.0
_LOG = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """The Lease could not be renewed in time: whoever worked under it has been stopped."""


@dataclass
class LeaseElection:
    """One candidate for one Lease."""

    kube: KubeApi
    namespace: str
    name: str
    holder: str
    lease_seconds: float = LEASE_SECONDS
    now_seconds: Callable[[], float] = time.monotonic
    reached: Callable[[], None] = lambda: None
    """Called each time the API server has answered."""
    _seen: tuple[str, str] | None = field(default=None, init=False)
    _seen_at_seconds: float = field(default=0.0, init=False)

    @property
    def _renew_seconds(self) -> float:
        return self.lease_seconds / 5

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, work while it is ours, give it back. Raises ``LeaseLost``."""
        await self.acquire()
        _LOG.info("lease acquired", lease=self.name, holder=self.holder)
        working = asyncio.create_task(_awaited(work), name="work under the lease")
        keeping = asyncio.create_task(self._keep(), name="keep the lease")
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
                return
            working.cancel()
            await asyncio.wait({working}, timeout=self.lease_seconds)
            await keeping
        finally:
            for task in (working, keeping):
                task.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)
            await self.release()

    async def acquire(self) -> None:
        """Return as soon as the Lease is ours."""
        while not await self._try():  # noqa: ASYNC110 - what changes is on a server
            await asyncio.sleep(self._renew_seconds / 2)

    async def release(self) -> None:
        """Give the Lease back if it is ours, so that another need not wait it out."""
        with contextlib.suppress(KubeError):
            # Not answered: the Lease runs out by itself.
            lease = await self.kube.get(Kind.LEASE, self.namespace, self.name)
            if lease["spec"].get("holderIdentity") == self.holder:
                lease["spec"]["holderIdentity"] = ""
                await self.kube.replace(Kind.LEASE, self.namespace, lease)

    async def _keep(self) -> None:
        """Renew until that has failed for too long."""
        renewed_at = self.now_seconds()
        give_up_seconds = self.lease_seconds * 2 / 3
        while True:
            await asyncio.sleep(self._renew_seconds)
            asked_at = self.now_seconds()
            try:
                async with asyncio.timeout(self._renew_seconds):
                    ours = await self._try()
            except TimeoutError:
                ours = False
            if ours:
                renewed_at = asked_at
            elif self.now_seconds() - renewed_at > give_up_seconds or self._held_by_other():
                raise LeaseLost(
                    f"lease {self.name} was not renewed for "
                    f"{self.now_seconds() - renewed_at:.1f} s; another operator may work now. "
                    "This one stops and waits for its turn; no data is touched"
                )

    def _held_by_other(self) -> bool:
        return self._seen is not None and self._seen[0] not in {"", self.holder}

    async def _try(self) -> bool:
        """One attempt to take or renew; ``False`` when it is another's, or nobody answered."""
        try:
            lease = await self.kube.get(Kind.LEASE, self.namespace, self.name)
        except NotFound:
            return await self._create()
        except KubeError as error:
            _LOG.warning("lease not read", lease=self.name, error=str(error))
            return False
        self.reached()
        spec = lease.setdefault("spec", {})
        seen = (spec.get("holderIdentity") or "", lease["metadata"]["resourceVersion"])
        if seen != self._seen:
            self._seen, self._seen_at_seconds = seen, self.now_seconds()
        expired = self.now_seconds() - self._seen_at_seconds > self.lease_seconds
        if seen[0] not in {"", self.holder} and not expired:
            return False
        if seen[0] != self.holder:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
            spec["acquireTime"] = _timestamp()
        self._fill(spec)
        try:
            replaced = await self.kube.replace(Kind.LEASE, self.namespace, lease)
        except Conflict:
            return False
        except KubeError as error:
            _LOG.warning("lease not written", lease=self.name, error=str(error))
            return False
        self._seen = (self.holder, replaced["metadata"]["resourceVersion"])
        self._seen_at_seconds = self.now_seconds()
        return True

    async def _create(self) -> bool:
        spec: Manifest = {"acquireTime": _timestamp(), "leaseTransitions": 0}
        self._fill(spec)
        manifest = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        }
        try:
            await self.kube.create(Kind.LEASE, self.namespace, manifest)
        except AlreadyExists:
            return False
        except KubeError as error:
            _LOG.warning("lease not created", lease=self.name, error=str(error))
            return False
        return True

    def _fill(self, spec: Manifest) -> None:
        spec["holderIdentity"] = self.holder
        spec["leaseDurationSeconds"] = max(1, round(self.lease_seconds))
        spec["renewTime"] = _timestamp()


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
