"""Counts that noise cannot touch: processor time by role, packets and bytes, fsyncs.

Everything is read from ``/proc`` of the benchmark's own namespaces, where nobody else runs, and
from the copies' metrics. The processor time of a thread is its ``schedstat``, in nanoseconds.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aurora_operator.api.labels import PORT_METRICS

PROC: Final = Path("/proc")
_NANOSECONDS_PER_TICK: Final = 10_000_000
_SYNCS: Final = re.compile(r"^aurora_log_sync_seconds_(count|sum) (\S+)$", re.MULTILINE)

RoleOf = Callable[[str, Path], str | None]
"""Command line and working directory of a process; its role, or ``None`` when it is not ours."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    cpu_ns: Mapping[tuple[str, int], int]
    packets: int
    packet_bytes: int
    syncs: float
    sync_seconds: float


@dataclass
class Usage:
    """What one or more samples used up, and how many transactions they did."""

    transactions: int = 0
    seconds: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    packets: int = 0
    packet_bytes: int = 0
    syncs: float = 0.0
    sync_seconds: float = 0.0

    def add(self, before: Reading, after: Reading, transactions: int, seconds: float) -> None:
        """Add what lies between two readings; processes that came or went in between count not."""
        self.transactions += transactions
        self.seconds += seconds
        for key, end in after.cpu_ns.items():
            if (begin := before.cpu_ns.get(key)) is not None:
                role = key[0]
                self.cpu_us[role] = self.cpu_us.get(role, 0.0) + (end - begin) / 1000
        self.packets += after.packets - before.packets
        self.packet_bytes += after.packet_bytes - before.packet_bytes
        self.syncs += after.syncs - before.syncs
        self.sync_seconds += after.sync_seconds - before.sync_seconds


def read(role_of: RoleOf, metrics_hosts: tuple[str, ...] = ()) -> Reading:
    """Read all counters now."""
    cpu_ns: dict[tuple[str, int], int] = {}
    for process in PROC.iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            role = role_of(words, (process / "cwd").readlink())
            if role is not None:
                cpu_ns[role, int(process.name)] = _process_ns(process)
        except OSError:
            continue  # it ended just now, or is not ours to look at
    packets, packet_bytes = _loopback()
    syncs = [_syncs(host) for host in metrics_hosts]
    return Reading(
        cpu_ns, packets, packet_bytes, sum(s[0] for s in syncs), sum(s[1] for s in syncs)
    )


def _process_ns(process: Path) -> int:
    """Own threads, and children that were waited for: backends end with their client."""
    own = sum(int(t.read_text().split()[0]) for t in process.glob("task/*/schedstat"))
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) * _NANOSECONDS_PER_TICK


def _loopback() -> tuple[int, int]:
    for line in (PROC / "net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            values = numbers.split()
            return int(values[1]), int(values[0])
    raise RuntimeError("there is no loopback device here")


def _syncs(host: str) -> tuple[float, float]:
    with urllib.request.urlopen(f"http://{host}:{PORT_METRICS}/metrics", timeout=5) as answer:
        found = dict(_SYNCS.findall(answer.read().decode()))
    return float(found["count"]), float(found["sum"])
