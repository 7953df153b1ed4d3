"""Who is what in a volume on loopback, for tests that begin with a writer and a replica."""

from __future__ import annotations

from aurora_operator.api.messages import InstanceRole
from support.inserts import Inserts
from support.volume import Pod, Volume, wait_until


async def bring_to_health(volume: Volume, instances: int = 2) -> None:
    """A writer, replicas, and six copies that stream."""
    for pod in volume.storage:
        if pod.process is None:
            pod.start()
    while len(volume.instances) < instances:
        volume.add_instance(max(volume.instances, default=0) + 1)
    await wait_until("a writer", lambda: writer_of(volume), 30)
    await wait_until("replicas", lambda: _replicas(volume, instances - 1), 30)
    await wait_until("six copies stream", lambda: all_stream(volume), 30)


async def with_role(volume: Volume, role: InstanceRole) -> list[Pod]:
    """All that are healthy in a role."""
    found = []
    for pod in volume.instances.values():
        status = await volume.instance_status(pod)
        if status.role is role and status.healthy:
            found.append(pod)
    return found


async def writer_of(volume: Volume) -> Pod | None:
    return next(iter(await with_role(volume, InstanceRole.WRITER)), None)


async def replica_of(volume: Volume) -> Pod | None:
    return next(iter(await with_role(volume, InstanceRole.REPLICA)), None)


async def _replicas(volume: Volume, count: int) -> bool:
    return len(await with_role(volume, InstanceRole.REPLICA)) >= count


async def all_stream(volume: Volume) -> bool:
    writer = await writer_of(volume)
    assert writer is not None
    status = await volume.instance_status(writer)
    return len(status.copies) == 6 and all(copy.streaming for copy in status.copies)


async def writer_and_replica(volume: Volume) -> tuple[Pod, Pod]:
    writer, replica = await writer_of(volume), await replica_of(volume)
    assert writer is not None
    assert replica is not None
    return writer, replica


async def check_rows(inserts: Inserts, volume: Volume, pod: Pod) -> None:
    """Every promise to the client holds, as this instance shows it; then the table is emptied."""
    async with await volume.connect(pod) as session:
        await inserts.check(session)
        await session.execute("TRUNCATE inserts")
