"""A broken piece of log is found and mended by a running storage pod, from a real peer's gate."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aurora_operator.api.messages import CopyState
from aurora_operator.core.names import Identity
from aurora_operator.volume.frames import decode, seed_of
from aurora_operator.volume.segment import segment_path, segment_starts
from support.inserts import Inserts
from support.roles import check_rows
from support.volume import BOOT, Pod, Volume, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRUBBED, HELPLESS = 3, 5
HASTY_BOOT = f"""
from aurora_operator.core import scrub
scrub.PASS_SECONDS_MIN = 0.2
scrub.RATE_BYTES_MIN = 256 * 1024 * 1024
scrub.REPAIR_SECONDS = 3.0
{BOOT}
"""
ALONE_BOOT = f"""
from aurora_operator.core import scrub
scrub.repair_sources = lambda own, damage, peers: ()
{HASTY_BOOT}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def volume(request: pytest.FixtureRequest) -> AsyncIterator[Volume]:
    made = Volume()
    made.storage[SCRUBBED].boot = HASTY_BOOT
    made.storage[HELPLESS].boot = ALONE_BOOT
    async with made as volume:
        for pod in volume.storage:
            await wait_until(f"{pod.name} answers", lambda p=pod: volume.storage_status(p), 120)
        await volume.be_born()
        await volume.open(volume.add_instance(1), "creation")
        failed_before = request.session.testsfailed
        yield volume
        if request.session.testsfailed > failed_before:
            volume.print_logs()


def break_frame(pod: Pod, segment: int, number: int, where: int) -> None:
    """Flip a bit of one durable frame, ``where`` bytes into it."""
    directory = pod.disk / "log"
    start = segment_starts(directory)[segment]
    path = segment_path(directory, start)
    seed = seed_of(Identity(f"s{pod.name[-1]}_test").encode(), start)
    data, offset = path.read_bytes(), 0
    for _ in range(number):
        frame = decode(seed, data, offset)
        assert frame is not None, "no such frame"
        offset = frame.offset_after
    with path.open("r+b") as file:
        file.seek(offset + where)
        file.write(bytes([data[offset + where] ^ 1]))


def events(pod: Pod, event: str) -> list[dict[str, object]]:
    return [line for line in pod.log() if line.get("event") == event]


@pytest.mark.parametrize("where", [12, 60], ids=["header", "payload"])
async def test_a_flipped_bit_is_mended_while_commits_go_on(volume: Volume, where: int) -> None:
    """In the oldest segment, which nobody else reads: the scrubber is the first to meet it."""
    pod = volume.storage[SCRUBBED]
    repaired = len(events(pod, "log repaired from a peer"))
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(30, 60)
        break_frame(pod, 0, 2, where)

        async def mended() -> bool:
            return len(events(pod, "log repaired from a peer")) > repaired

        await wait_until("the piece is mended", mended, 60)
        await inserts.wait_acknowledged(30, 60)
    status = await volume.storage_status(pod)
    assert status.state is CopyState.FULL
    same = [p for p in volume.storage[:3] if log_bytes(p) == log_bytes(pod)]
    assert same, "its log is that of the others again"
    pod.kill()
    pod.start()
    await volume.wait_copy(pod, CopyState.FULL, 120)


async def test_a_flipped_bit_that_a_reader_meets_costs_no_more_than_the_copy(
    volume: Volume,
) -> None:
    """In the segment being written: mended if the scrubber is first, else all is filled anew."""
    pod, writer = volume.storage[SCRUBBED], volume.instances[1]
    repaired = len(events(pod, "log repaired from a peer"))
    before = (await volume.storage_status(pod)).identity
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(30, 60)
        break_frame(pod, -1, 2, 60)

        async def whole_again() -> bool:
            pod.start_again_if_ended()
            status = await volume.storage_status(pod)
            mended = len(events(pod, "log repaired from a peer")) > repaired
            return status.state is CopyState.FULL and (mended or status.identity != before)

        await wait_until("the copy is whole again", whole_again, 120)

        async def six_stream() -> bool:
            copies = (await volume.instance_status(writer)).copies
            return len(copies) == 6 and all(copy.streaming for copy in copies)

        await wait_until("six copies stream", six_stream, 60)
        await inserts.wait_acknowledged(30, 60)
    await check_rows(inserts, volume, writer)


def log_bytes(pod: Pod) -> bytes:
    """The log bytes of the oldest segment, without frames, up to a length that all have."""
    directory = pod.disk / "log"
    start = segment_starts(directory)[0]
    seed = seed_of(Identity(f"s{pod.name[-1]}_test").encode(), start)
    data, offset, parts = segment_path(directory, start).read_bytes(), 0, []
    while (frame := decode(seed, data, offset)) is not None:
        parts.append(data[frame.offset_after - frame.length_bytes : frame.offset_after])
        offset = frame.offset_after
    return b"".join(parts)[: 1024 * 1024]


async def test_damage_that_nobody_mends_fails_the_copy_which_is_filled_anew(
    volume: Volume,
) -> None:
    pod = volume.storage[HELPLESS]
    before = (await volume.storage_status(pod)).identity
    async with Inserts(volume) as inserts:
        await inserts.wait_acknowledged(30, 60)
        break_frame(pod, 0, 1, 60)

        async def noted() -> str:
            failed = pod.disk / "failed"
            return failed.read_text() if failed.exists() else ""

        told = await wait_until("the failure is on its disk", noted, 60)
        assert "lost its checksum" in told

        async def another_copy() -> bool:
            pod.start_again_if_ended()
            status = await volume.storage_status(pod)
            return status.state is CopyState.FULL and status.identity != before

        await wait_until("it is filled anew", another_copy, 120)
        await inserts.wait_acknowledged(30, 60)
