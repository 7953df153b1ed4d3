"""The arms of the comparison, all set up beside each other, and who of their processes does what.

Idle servers cost something too: what the processes of one arm use while another arm runs is counted
as well, and reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.clients import CHECKPOINTS, Target
from bench.stock import COPIES, Stock
from support.volume import PASSWORD, Volume

PLAIN: Final = "plain"
TWO_STANDBYS: Final = "two-standbys"
RECEIVERS: Final = "receivers"
RECEIVERS_STANDBYS: Final = "receivers+standbys"
OURS: Final = "ours"
ARMS: Final = (OURS, RECEIVERS, RECEIVERS_STANDBYS, TWO_STANDBYS)
DESCRIPTIONS: Final = {
    PLAIN: "PostgreSQL with fsync, alone: the control",
    TWO_STANDBYS: "PostgreSQL with fsync, ANY 2 of two synchronous standbys",
    RECEIVERS: "six pg_receivewal --synchronous, ANY 4",
    RECEIVERS_STANDBYS: "the same, and six standbys fed by the primary",
    OURS: "six storage pods with gates and page stores, one writer",
}


@dataclass(frozen=True, slots=True)
class Arms:
    """Where each arm takes its clients, and whose process is which."""

    targets: dict[str, Target]
    volume: Volume
    base: Path

    @property
    def metrics_hosts(self) -> tuple[str, ...]:
        """Where the copies of our volume tell how often they synced."""
        return tuple(pod.ip for pod in self.volume.storage)

    def role_of(self, words: str, folder: Path) -> str | None:
        """``arm:role`` of a process."""
        if folder.is_relative_to(self.volume.root):
            kind = "server" if "instance" in folder.parts[-3] else "page stores"
            return f"{OURS}:{'walsenders' if ' walsender ' in words else kind}"
        if "--without-kubernetes" in words:
            kind = "copies" if " storage --config" in words else "writer's agent"
            return f"{OURS}:{kind}"
        if not folder.is_relative_to(self.base):
            return "client" if words.startswith("pgbench") else None
        arm, _, part = folder.name.partition("-")
        arm = {"two": TWO_STANDBYS, "receivers_standbys": RECEIVERS_STANDBYS}.get(arm, arm)
        if part.startswith("r"):
            return f"{arm}:copies"
        if part.startswith("s"):
            return f"{arm}:{'page stores' if arm == RECEIVERS_STANDBYS else 'copies'}"
        return f"{arm}:{'walsenders' if ' walsender ' in words else 'server'}"


@contextmanager
def stock_arms(stock: Stock) -> Iterator[dict[str, Target]]:
    """Everything that is not ours. Folders are named after arm and part."""
    try:
        targets = {PLAIN: stock.primary("plain")}
        two = targets[TWO_STANDBYS] = stock.primary("two")
        names = [f"s{n}" for n in range(2)]
        for name in names:
            stock.standby(f"two-{name}", two)
        stock.demand(two, [f'"two-{name}"' for name in names], 2)
        for arm, name in ((RECEIVERS, "receivers"), (RECEIVERS_STANDBYS, "receivers_standbys")):
            primary = targets[arm] = stock.primary(name, fsync="off")
            receivers = [f"r{n}" for n in range(COPIES)]
            for receiver in receivers:
                stock.receiver(f"{name}-{receiver}", receiver, primary)
            stock.demand(primary, receivers, 4)
            if arm == RECEIVERS_STANDBYS:
                for n in range(COPIES):
                    stock.standby(f"{name}-s{n}", primary)
        yield targets
    finally:
        stock.stop()


async def open_volume(volume: Volume) -> Target:
    """A new volume with one writer and pgbench's tables."""
    volume.change(parameters=CHECKPOINTS)
    await volume.be_born()
    writer = volume.add_instance(1)
    await volume.open(writer, "benchmark")
    target = Target(writer.ip, 5432, "postgres", "app", PASSWORD)
    target.fill()
    return target
