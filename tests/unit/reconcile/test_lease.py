"""The Lease: never two at work, and the next one in time. The clock is turned by hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from aurora_operator.kube.api import Kind
from aurora_operator.kube.lease import LeaseElection
from support.fake_kube import FakeKube


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def candidate(kube: FakeKube, holder: str, clock: Clock) -> LeaseElection:
    return LeaseElection(kube, "ns", "operator", holder, lease_seconds=15, now_seconds=clock)


async def test_the_first_takes_it_and_the_second_waits() -> None:
    kube, clock = FakeKube(), Clock()
    first, second = candidate(kube, "a", clock), candidate(kube, "b", clock)
    assert await first._try()
    assert not await second._try()
    clock.seconds = 14.0
    assert await first._try()
    clock.seconds = 28.0
    assert not await second._try(), "it changed, so the second must wait anew"
    assert not await second._try()


async def test_a_lease_that_nobody_renews_is_taken_over_after_its_time() -> None:
    kube, clock = FakeKube(), Clock()
    first, second = candidate(kube, "a", clock), candidate(kube, "b", clock)
    assert await first._try()
    assert not await second._try()
    clock.seconds = 15.0
    assert not await second._try()
    clock.seconds = 15.1
    assert await second._try()
    assert not await first._try()
    lease = await kube.get(Kind.LEASE, "ns", "operator")
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_lease_given_back_is_free_at_once() -> None:
    kube, clock = FakeKube(), Clock()
    first, second = candidate(kube, "a", clock), candidate(kube, "b", clock)
    assert await first._try()
    await first.release()
    assert await second._try()


async def test_work_runs_under_the_lease_and_gives_it_back() -> None:
    kube = FakeKube()
    holders: list[str] = []

    async def work() -> None:
        lease = await kube.get(Kind.LEASE, "ns", "operator")
        holders.append(lease["spec"]["holderIdentity"])

    await candidate(kube, "a", Clock()).run(work)
    lease = await kube.get(Kind.LEASE, "ns", "operator")
    assert holders == ["a"]
    assert lease["spec"]["holderIdentity"] == ""


async def test_a_failure_of_the_work_comes_out_and_the_lease_is_free() -> None:
    kube = FakeKube()

    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await candidate(kube, "a", Clock()).run(work)
    assert (await kube.get(Kind.LEASE, "ns", "operator"))["spec"]["holderIdentity"] == ""
