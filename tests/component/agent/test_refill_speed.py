"""How fast a lost copy is filled, beside cp with fsync of the same bytes, and what commits feel.

Prints figures and fails on wrong results only: time depends on what else the machine does. Run it
with more REFILL_MEGABYTES for figures worth keeping; /tmp must hold fourteen times as much.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import time
from functools import partial
from pathlib import Path

from aurora_operator.api.messages import CopyState
from support.inserts import Inserts
from support.volume import Pod, Volume, wait_until

MEGABYTES = int(os.environ.get("REFILL_MEGABYTES", "20"))
FILL_SECONDS = 600.0
NORMAL_SECONDS = 10.0


async def test_a_refill_and_the_commits_beside_it() -> None:
    async with Volume() as volume:
        await volume.be_born()
        writer = volume.add_instance(1)
        await volume.open(writer, "creation")
        await load(volume, writer)
        lost = volume.storage[2]
        async with Inserts(volume) as inserts:
            await inserts.wait_acknowledged(50, 60)
            begun = time.monotonic()
            await asyncio.sleep(NORMAL_SECONDS)  # this is the measurement
            normal = (begun, time.monotonic())
            lost.kill()
            shutil.rmtree(lost.home / "disk")
            (lost.home / "disk").mkdir()
            lost.start()
            await volume.wait_copy(lost, CopyState.FILLING, FILL_SECONDS)
            begun = time.monotonic()
            await volume.wait_copy(lost, CopyState.FULL, FILL_SECONDS)
            filled = (begun, time.monotonic())
        lost.kill()  # its files stand still while they are copied
        bytes_filled = size_of(lost.home / "disk")
        copied_seconds = await asyncio.to_thread(copy_with_fsync, lost.home / "disk", volume.root)
        fill_seconds = filled[1] - filled[0]
        line = {
            "megabytes": round(bytes_filled / 1e6),
            "fill_mb_per_s": round(bytes_filled / 1e6 / fill_seconds, 1),
            "cp_fsync_mb_per_s": round(bytes_filled / 1e6 / copied_seconds, 1),
            "commit_p99_ms": round(p99(inserts, *normal), 1),
            "commit_p99_ms_while_filling": round(p99(inserts, *filled), 1),
        }
        print(json.dumps(line))


async def load(volume: Volume, writer: Pod) -> None:
    """Rows that do not compress, and pages of them in every page store."""
    for part in range(MEGABYTES // 10 or 1):
        await wait_until("ten more megabytes", partial(load_part, volume, writer, part), 120)
    vdl = (await volume.instance_status(writer)).vdl
    assert vdl is not None

    async def replayed() -> bool:
        statuses = [await volume.storage_status(pod) for pod in volume.storage]
        return all((s.page_store.replayed_lsn or 0) >= vdl.lsn for s in statuses)

    await wait_until("the page stores have it", replayed, FILL_SECONDS)


async def load_part(volume: Volume, writer: Pod, part: int) -> bool:
    """About ten megabytes; asked again when the session was ended, as on a machine that stalls."""
    async with await volume.connect(writer) as session:
        await session.execute("CREATE TABLE IF NOT EXISTS bulk (id bigint, filler text)")
        await session.execute(
            "INSERT INTO bulk SELECT g, string_agg(md5(g::text || n), '')"
            " FROM generate_series(%s::bigint, %s::bigint) g, generate_series(1, 30) n"
            " GROUP BY g",
            [part * 10_000, (part + 1) * 10_000 - 1],
        )
    return True


def p99(inserts: Inserts, begin: float, end: float) -> float:
    """Of the times between acknowledgements, which are one after the other, in milliseconds."""
    moments = [at for _, at in inserts.acknowledged if begin <= at <= end]
    gaps = sorted(1000 * (b - a) for a, b in itertools.pairwise(moments))
    return gaps[int(len(gaps) * 0.99)] if gaps else float("nan")


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def copy_with_fsync(source: Path, root: Path) -> float:
    """Seconds that cp of the same files and an fsync of each take."""
    begun = time.monotonic()
    target = root / "copied"
    shutil.copytree(source, target)
    for path in target.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    return time.monotonic() - begun
