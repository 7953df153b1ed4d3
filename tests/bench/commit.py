"""``make bench-commit``: what a commit costs on six copies, beside what stock PostgreSQL offers.

All arms stand side by side on one machine, one disk and one pair of cores, and run one after the
other in short turns, back and forth, with plain PostgreSQL in between. Ratios are made of samples
that stood beside each other; counts are summed over all samples. Every raw row is kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.arms import ARMS, DESCRIPTIONS, OURS, PLAIN, Arms, open_volume, stock_arms
from bench.meters import Reading, Usage, read
from bench.ratios import Ratio, Sample, ratio_between, ratio_to_control, turn_order
from bench.report import table
from bench.stock import COPIES, Stock
from support.authority import Authority
from support.volume import Volume

DISK: Final = Path("/var/lib/aurora")
SETTLE_SECONDS: Final = 0.1
"""Backends that ended count once their postmaster has waited for them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    sample_seconds: float
    control_seconds: float
    turns: int
    plain_text_turns: int

    @classmethod
    def of(cls, *, fast: bool, turns: int | None) -> Plan:
        """The plan of a run."""
        return cls(2, 2, turns or 2, 0) if fast else cls(4, 3, turns or 6, 2)


@dataclass
class Case:
    """All samples of one number of clients, with TLS to the client or without."""

    clients: int
    tls: bool
    samples: list[Sample] = field(default_factory=list)
    usage: dict[str, Usage] = field(default_factory=dict)


class Bench:
    """Runs the samples and keeps what they said."""

    def __init__(self, arms: Arms, plan: Plan, raw: Path) -> None:
        self._arms = arms
        self._plan = plan
        self._raw = raw

    def turn(self, case: Case, turn: int) -> None:
        """Every arm once, a control before and after each."""
        before = self._run(case, PLAIN, turn, self._plan.control_seconds)
        for arm in turn_order(ARMS, turn):
            tps = self._run(case, arm, turn, self._plan.sample_seconds)
            after = self._run(case, PLAIN, turn, self._plan.control_seconds)
            case.samples.append(Sample(arm, turn, tps, before, after))
            before = after

    def warm_up(self) -> None:
        """Caches, and the full page images after the last checkpoint."""
        for target in self._arms.targets.values():
            target.touch_every_page()
            target.simple_updates(8, 2, tls=True)

    def _run(self, case: Case, arm: str, turn: int, seconds: float) -> float:
        begun = time.monotonic()
        before = self._read()
        tps, done = self._arms.targets[arm].simple_updates(case.clients, seconds, tls=case.tls)
        time.sleep(SETTLE_SECONDS)
        after = self._read()
        spent_seconds = time.monotonic() - begun
        usage = Usage()
        usage.add(before, after, done, spent_seconds)
        case.usage.setdefault(arm, Usage()).add(before, after, done, spent_seconds)
        row = {
            "arm": arm,
            "clients": case.clients,
            "tls": case.tls,
            "turn": turn,
            "tps": tps,
            "load": os.getloadavg()[0],
            **asdict(usage),
        }
        with self._raw.open("a") as file:
            print(json.dumps(row), file=file)
        say(f"{arm:<20} {case.clients:>2} clients  {tps:8.0f} tps")
        return tps

    def _read(self) -> Reading:
        return read(self._arms.role_of, self._arms.metrics_hosts)


def say(line: str) -> None:
    """Progress, for people."""
    print(line, file=sys.stderr, flush=True)


def case_rows(case: Case) -> list[dict[str, Any]]:
    """One JSON object per arm: throughput, ratios, and counts per transaction and copy."""
    control = case.usage[PLAIN]
    rows = []
    for arm in (PLAIN, *ARMS):
        usage = case.usage[arm]
        done = max(usage.transactions, 1)
        row: dict[str, Any] = {
            "bench": "commit",
            "arm": arm,
            "clients": case.clients,
            "client_tls": case.tls,
            "transactions": usage.transactions,
            "tps": round(usage.transactions / usage.seconds, 1),
        }
        if arm != PLAIN:
            row["of_plain"] = shown(ratio_to_control(case.samples, arm))
            row["ours_of_this"] = shown(ratio_between(case.samples, OURS, arm))
            copies = 2 if arm == "two-standbys" else COPIES
            more = usage.packets / done - control.packets / max(control.transactions, 1)
            more_bytes = usage.packet_bytes / done - control.packet_bytes / max(
                control.transactions, 1
            )
            row["packets_per_copy"] = round(more / copies, 2)
            row["bytes_per_copy"] = round(more_bytes / copies)
        row["cpu_us"] = {
            role.partition(":")[2]: round(us / done)
            for role, us in sorted(usage.cpu_us.items())
            if role.startswith(f"{arm}:")
        }
        row["cpu_us"]["idle arms"] = round(
            sum(us for r, us in usage.cpu_us.items() if r.partition(":")[0] not in (arm, "client"))
            / done
        )
        if arm == OURS:
            row["syncs_per_copy"] = round(usage.syncs / done / COPIES, 2)
            row["sync_ms"] = round(1000 * usage.sync_seconds / max(usage.syncs, 1), 3)
        rows.append(row)
    return rows


def shown(ratio: Ratio) -> dict[str, Any]:
    """A ratio as JSON; without steady pairs it has no numbers."""
    if not ratio.n:
        return {"n": 0, "dropped": ratio.dropped}
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(ratio).items()}


def measure(arms: Arms, plan: Plan, clients: tuple[int, ...], out: Path) -> list[Case]:
    """All cases, turn by turn, so that each sees the whole run's weather."""
    raw = out / "commit-raw.jsonl"
    raw.unlink(missing_ok=True)
    bench = Bench(arms, plan, raw)
    bench.warm_up()
    cases = [Case(number, tls=True) for number in clients]
    for turn in range(plan.turns):
        for case in cases:
            bench.turn(case, turn)
    if plan.plain_text_turns:
        cases.append(Case(8, tls=False))
        for turn in range(plan.plain_text_turns):
            bench.turn(cases[-1], turn)
    return cases


async def run(plan: Plan, clients: tuple[int, ...]) -> None:
    """Set everything up, measure, print."""
    out = DISK / "results"
    out.mkdir(exist_ok=True)
    say("setting up …")
    stock = Stock(DISK / "stock", Authority())
    with stock_arms(stock) as targets:
        async with Volume(DISK) as volume:
            targets[OURS] = await open_volume(volume)
            arms = Arms(targets, volume, stock.base)
            cases = await asyncio.to_thread(measure, arms, plan, clients, out)
    rows = [row for case in cases for row in case_rows(case)]
    lines = [json.dumps(row) for row in rows]
    (out / "commit.jsonl").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print()
    print(f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}")
    for arm, text in DESCRIPTIONS.items():
        print(f"{arm}: {text}")
    print(table(rows))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="at most 3 minutes, wide intervals")
    parser.add_argument("--clients", default="1,8,32", help="how many, separated by commas")
    parser.add_argument("--turns", type=int, help="how often each arm runs (default: 6, fast: 2)")
    options = parser.parse_args()
    clients = tuple(int(number) for number in options.clients.split(","))
    asyncio.run(run(Plan.of(fast=options.fast, turns=options.turns), clients))


if __name__ == "__main__":
    main()
