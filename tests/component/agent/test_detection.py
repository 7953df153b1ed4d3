"""Failover without an operator, on loopback: who sees the writer go, and who takes over.

Nobody is asked to open anything here after the creation. What the rows look like afterwards is
checked each time, so a wrong opening would show as a lost or doubled row.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from aurora_operator.api.messages import InstanceRole
from support.inserts import Inserts
from support.volume import Pod, Volume, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def volume(request: pytest.FixtureRequest) -> AsyncIterator[Volume]:
    async with Volume() as volume:
        await volume.be_born()
        await volume.open(volume.add_instance(1), "creation")
        volume.add_instance(2)
        volume.add_instance(3)
        failed_before = request.session.testsfailed
        yield volume
        if request.session.testsfailed > failed_before or os.environ.get("VOLUME_LOGS"):
            volume.print_logs()


@pytest_asyncio.fixture(loop_scope="module")
async def writer(volume: Volume) -> Pod:
    """The writer, once all is well: two healthy replicas, six copies that stream."""
    return await wait_until("all is well", lambda: _writer_when_well(volume), 60)


async def _writer_when_well(volume: Volume) -> Pod | None:
    statuses = {pod.name: await volume.instance_status(pod) for pod in volume.instances.values()}
    if not all(status.healthy for status in statuses.values()):
        return None
    writers = [p for p in volume.instances.values() if statuses[p.name].role is InstanceRole.WRITER]
    if len(writers) != 1:
        return None
    copies = statuses[writers[0].name].copies
    return writers[0] if len(copies) == 6 and all(c.streaming for c in copies) else None


async def _another_writer(volume: Volume, before: Pod) -> Pod | None:
    for pod in volume.instances.values():
        if pod is not before:
            status = await volume.instance_status(pod)
            if status.role is InstanceRole.WRITER:
                return pod
    return None


async def _fail_over(
    volume: Volume, writer: Pod, break_it: Callable[[], None], heal: Callable[[], None]
) -> float:
    """Break the writer under load; the outage that the client saw, after checking its rows."""
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(100, 30)
        break_it()
        try:
            successor = await wait_until(
                "another writer", lambda: _another_writer(volume, writer), 30
            )
        finally:
            heal()  # a session of a frozen server waits, until its client has a deadline of its own
        await inserts.wait_acknowledged(50, 20)
    async with await volume.connect(successor) as session:
        await inserts.check(session)
        await session.execute("TRUNCATE inserts")
    return inserts.longest_outage_seconds()


async def test_a_killed_server_is_replaced(volume: Volume, writer: Pod) -> None:
    postmaster = writer.postmaster()
    outage_seconds = await _fail_over(
        volume, writer, lambda: os.kill(postmaster, signal.SIGKILL), lambda: None
    )
    print(f"killed server: {outage_seconds:.2f} s")
    assert outage_seconds < 5


async def test_a_killed_pod_is_replaced(volume: Volume, writer: Pod) -> None:
    outage_seconds = await _fail_over(volume, writer, writer.kill, writer.start)
    print(f"killed pod: {outage_seconds:.2f} s")
    assert outage_seconds < 5


async def test_a_frozen_pod_is_replaced(volume: Volume, writer: Pod) -> None:
    outage_seconds = await _fail_over(volume, writer, writer.freeze, writer.thaw)
    print(f"frozen pod: {outage_seconds:.2f} s")
    assert outage_seconds < 10


async def test_a_frozen_server_is_replaced(volume: Volume, writer: Pod) -> None:
    """Its agent lives and beats on; the copies hear no log and no answer to their pings."""
    server = writer.postmaster()
    group = _children(server)

    def send(number: signal.Signals) -> None:
        for process in group:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    outage_seconds = await _fail_over(
        volume, writer, lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT)
    )
    print(f"frozen server: {outage_seconds:.2f} s")
    assert outage_seconds < 10


async def test_two_copies_that_lost_the_writer_change_nothing(volume: Volume, writer: Pod) -> None:
    """A minority that sees nobody: no opening, no new term (H11)."""
    term = (await volume.instance_status(writer)).term
    for pod in volume.storage[:2]:
        pod.freeze()
    async with Inserts(volume) as inserts:
        try:
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                await inserts.wait_acknowledged(20, 10)
        finally:
            for pod in volume.storage[:2]:
                pod.thaw()
        await inserts.wait_acknowledged(50, 20)
    assert await _writer_when_well_soon(volume) is writer
    assert (await volume.instance_status(writer)).term == term
    async with await volume.connect(writer) as session:
        await inserts.check(session)
        await session.execute("TRUNCATE inserts")


async def test_an_abandoned_attempt_is_taken_up(volume: Volume, writer: Pod) -> None:
    """The candidate dies between its promises and its opening; the term has no writer (H11)."""
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(50, 30)
        candidates = [pod for pod in volume.instances.values() if pod is not writer]
        seen = {pod.name: len(pod.log()) for pod in candidates}
        os.kill(writer.postmaster(), signal.SIGKILL)
        candidate = await wait_until(
            "promises", lambda: _async(lambda: _who_promised(candidates, seen)), 20
        )
        candidate.kill()
        candidate.start()
        await wait_until("somebody writes", lambda: _another_writer(volume, candidate), 60)
        await inserts.wait_acknowledged(50, 30)
    successor = await wait_until("all is well", lambda: _writer_when_well(volume), 60)
    async with await volume.connect(successor) as session:
        await inserts.check(session)
        await session.execute("TRUNCATE inserts")


def _who_promised(candidates: list[Pod], seen: dict[str, int]) -> Pod | None:
    for pod in candidates:
        lines = pod.log()[seen[pod.name] :]
        if any(line.get("event") == "opening step" and line.get("term") for line in lines):
            return pod
    return None


async def _async(look: Callable[[], Pod | None]) -> Pod | None:
    return look()


def _children(server: int) -> list[int]:
    """The server and all of its processes."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text()
    return [server, *map(int, children.split())]


def _writer_when_well_soon(volume: Volume) -> Awaitable[Pod]:
    return wait_until("all is well", lambda: _writer_when_well(volume), 60)


async def test_no_replica_was_asked(volume: Volume) -> None:
    """Every opening but the first was the replicas' own."""
    await asyncio.sleep(0)
    reasons = [
        line["reason"]
        for pod in volume.instances.values()
        for line in pod.log()
        if line.get("event") == "opening volume"
    ]
    assert reasons
    assert all(reason.startswith("failover: ") for reason in reasons if reason != "creation")
