"""``make bench-lag``: from an acknowledged commit until a replica shows it.

A writer process inserts rows at a fixed rate, each due at a moment of its own whatever became of
the one before, and notes when each was acknowledged. A reader process asks the replica again and
again for the rows it has not seen yet. Both read one monotonic clock, the machine's. A stock
standby of a stock primary takes turns with ours. A row may be visible before its writer was told
(it is durable by then); that counts as it is, as a negative lag.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import psycopg

from aurora_operator.api.messages import InstanceRole
from bench.arms import OURS, open_volume
from bench.clients import Target
from bench.commit import DISK, say
from bench.ratios import interval, percentile, turn_order
from bench.report import markdown
from bench.stock import Stock
from support.authority import Authority
from support.volume import PASSWORD, Volume

STOCK: Final = "stock standby"
RATE_PER_SECOND: Final = 300
SESSIONS: Final = 6
WARM_UP_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.0005
LATE_SECONDS: Final = 10.0
"""After the last commit, how long the reader waits for rows."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Where rows are written, and where they are read."""

    writer: Target
    replica: Target


def write_rows(target: Target, first: int, count: int, start_at: float) -> dict[int, float]:
    """Insert rows at the fixed rate; when each was acknowledged."""
    return asyncio.run(_write(target, first, count, start_at))


async def _write(target: Target, first: int, count: int, start_at: float) -> dict[int, float]:
    acknowledged: dict[int, float] = {}

    async def session(number: int) -> None:
        async with await psycopg.AsyncConnection.connect(
            target.conninfo, autocommit=True
        ) as connection:
            for row in range(number, count, SESSIONS):
                due = start_at + row / RATE_PER_SECOND
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await connection.execute("INSERT INTO lag VALUES (%s)", (first + row,))
                acknowledged[first + row] = time.monotonic()

    await asyncio.gather(*(session(number) for number in range(SESSIONS)))
    return acknowledged


def read_rows(target: Target, first: int, count: int, give_up_at: float) -> dict[int, float]:
    """Ask until all rows were seen; when each was first part of an answer."""
    seen: dict[int, float] = {}
    missing = first
    with target.session() as session:
        while len(seen) < count and time.monotonic() < give_up_at:
            answer = session.execute("SELECT id FROM lag WHERE id >= %s", (missing,)).fetchall()
            now = time.monotonic()
            for (row,) in answer:
                seen.setdefault(row, now)
            while missing in seen:
                missing += 1
            time.sleep(POLL_SECONDS)
    return seen


def run_pair(pool: ProcessPoolExecutor, pair: Pair, first: int, seconds: float) -> list[float]:
    """One sample: the lag of each row in milliseconds, the warm-up left out."""
    count = round(RATE_PER_SECOND * (seconds + WARM_UP_SECONDS))
    start_at = time.monotonic() + 0.5
    give_up_at = start_at + seconds + WARM_UP_SECONDS + LATE_SECONDS
    reading = pool.submit(read_rows, pair.replica, first, count, give_up_at)
    acknowledged = pool.submit(write_rows, pair.writer, first, count, start_at).result()
    seen = reading.result()
    if missing := acknowledged.keys() - seen.keys():
        raise RuntimeError(f"{len(missing)} acknowledged rows were never seen on the replica")
    rows = range(first + round(RATE_PER_SECOND * WARM_UP_SECONDS), first + count)
    return [1000 * (seen[row] - acknowledged[row]) for row in rows]


def measure(
    pairs: dict[str, Pair], seconds: float, turns: int, raw: Path
) -> dict[str, list[float]]:
    """Both arms in turns."""
    lags: dict[str, list[float]] = {arm: [] for arm in pairs}
    raw.unlink(missing_ok=True)
    for pair in pairs.values():
        with pair.writer.session() as session:
            session.execute("CREATE TABLE lag (id bigint PRIMARY KEY)")
    first = 1
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for turn in range(turns):
            for arm in turn_order(tuple(pairs), turn):
                found = run_pair(pool, pairs[arm], first, seconds)
                first += 10 * len(found)
                lags[arm] += found
                row = {"arm": arm, "turn": turn, "load": os.getloadavg()[0], "lag_ms": found}
                with raw.open("a") as file:
                    print(json.dumps(row), file=file)
                p50, p99 = percentile(found, 0.5), percentile(found, 0.99)
                say(f"{arm:<15} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms")
    return lags


def summary(arm: str, lags: list[float]) -> dict[str, Any]:
    """One JSON object."""
    parts: dict[str, Callable[[Any], float]] = {
        "p50": lambda values: percentile(values, 0.5),
        "p99": lambda values: percentile(values, 0.99),
    }
    row: dict[str, Any] = {"bench": "lag", "arm": arm, "rate": RATE_PER_SECOND, "n": len(lags)}
    for name, part in parts.items():
        row[f"{name}_ms"] = round(part(lags), 2)
        row[f"{name}_interval_ms"] = [round(value, 2) for value in interval(lags, part)]
    return row | {"max_ms": round(max(lags), 2)}


async def run(seconds: float, turns: int) -> None:
    """Set up, measure, print."""
    out = DISK / "results"
    out.mkdir(exist_ok=True)
    stock = Stock(DISK / "stock", Authority())
    try:
        primary = stock.primary("plain")
        pairs = {STOCK: Pair(primary, stock.standby("plain-s0", primary))}
        async with Volume(DISK) as volume:
            writer = await open_volume(volume)
            replica = volume.add_instance(2)
            await volume.wait_role(replica, InstanceRole.REPLICA, 60)
            pairs[OURS] = Pair(writer, Target(replica.ip, 5432, "postgres", "app", PASSWORD))
            lags = await asyncio.to_thread(measure, pairs, seconds, turns, out / "lag-raw.jsonl")
    finally:
        stock.stop()
    rows = [summary(arm, found) for arm, found in lags.items()]
    lines = [json.dumps(row) for row in rows]
    (out / "lag.jsonl").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"\n{os.cpu_count()} cores, Linux {platform.release()}; poll every {POLL_SECONDS} s")
    head = ("arm", "commits", "p50 ms (95 %)", "p99 ms (95 %)", "max ms")
    print(markdown(head, [_line(row) for row in rows]))


def _line(row: dict[str, Any]) -> list[str]:
    def with_interval(name: str) -> str:
        low, high = row[f"{name}_interval_ms"]
        return f"{row[f'{name}_ms']} ({low}-{high})"

    return [
        row["arm"],
        str(row["n"]),
        with_interval("p50"),
        with_interval("p99"),
        str(row["max_ms"]),
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="under a minute, wide intervals")
    options = parser.parse_args()
    asyncio.run(run(*((4, 2) if options.fast else (10, 6))))


if __name__ == "__main__":
    main()
