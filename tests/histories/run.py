"""One seed: clients run, its schedule strikes round by round, and the history is judged."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from histories import records
from histories.faults import Fault, Kind, Round
from histories.judge import Dump, Verdict, judge
from support.checker import Outcome

CALM_SECONDS = 1.0
"""Of undisturbed traffic before each round and at the end."""
FIRST_ANSWERS = 30
FIRST_ANSWERS_SECONDS = 30.0
FOLLOW_SECONDS = 0.05


class Missed(Exception):
    """What a fault was to hit is not there (any more); the text says what was found."""


class Ground(Protocol):
    """Where a history is made."""

    kinds: frozenset[Kind]

    async def wait_whole(self) -> None:
        """Wait until nothing is broken any more; an error after the ground's deadline."""

    async def prepare(self) -> None:
        """Make the tables anew."""

    def clients(self, log: Path, seed: int) -> AbstractAsyncContextManager[None]:
        """Clients that write to the log until the block ends."""

    async def strike(self, fault: Fault) -> None:
        """Break it, or raise `Missed`."""

    async def undo(self, fault: Fault) -> None:
        """Put it right, as far as it does not do so by itself."""

    async def dumps(self) -> tuple[Dump, Sequence[Dump]]:
        """What the writer shows now, and what every replica shows when it has caught up."""


@dataclass(frozen=True)
class Result:
    """What one seed gave."""

    seed: int
    rounds: tuple[Round, ...]
    verdict: Verdict
    whole_seconds: tuple[float, ...]
    """For each round: from the end of the last fault until the cluster was whole."""
    elapsed_seconds: float
    folder: Path

    def line(self) -> str:
        """All of it for a person."""
        counted = " ".join(
            f"{kind} {found['acked']}/{found['failed']}/{found['unknown']}"
            for kind, found in self.verdict.counts.items()
        )
        said = "; ".join(self.verdict.violations)
        return (
            f"seed {self.seed}: {' | '.join(map(str, self.rounds))}; ok/failed/unknown: {counted};"
            f" stale_reads {len(self.verdict.stale)} (max {self.verdict.stale_ms_max:.0f} ms);"
            f" whole after {', '.join(f'{s:.1f}' for s in self.whole_seconds)} s;"
            f" {self.elapsed_seconds:.0f} s; {f'VIOLATED: {said}' if said else 'holds'}"
        )


async def run_seed(ground: Ground, seed: int, rounds: tuple[Round, ...], folder: Path) -> Result:
    """Make one history and judge it; its files stay in the folder if it breaks a promise."""
    begun = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder / "history.jsonl"
    await ground.wait_whole()
    await ground.prepare()
    whole: list[float] = []
    async with ground.clients(log, seed):
        await _wait_answers(log)
        for planned in rounds:
            await asyncio.sleep(CALM_SECONDS)
            await _strike_round(ground, planned, folder)
            healed = time.monotonic()
            await ground.wait_whole()
            whole.append(time.monotonic() - healed)
        await asyncio.sleep(CALM_SECONDS)
    writer, replicas = await ground.dumps()
    (folder / "dumps.json").write_text(json.dumps([asdict(d) for d in (writer, *replicas)]))
    operations = records.load(log)
    verdict = await asyncio.to_thread(judge, operations, writer, replicas)
    result = Result(seed, rounds, verdict, tuple(whole), time.monotonic() - begun, folder)
    (folder / "verdict.txt").write_text(result.line() + "\n")
    if not verdict.violations:
        shutil.rmtree(folder)
    return result


async def _strike_round(ground: Ground, planned: Round, folder: Path) -> None:
    """Every fault at its time; all are undone, whatever happens to one of them."""
    async with asyncio.TaskGroup() as faults:
        for fault in planned.faults:
            faults.create_task(_strike(ground, fault, folder))


async def _strike(ground: Ground, fault: Fault, folder: Path) -> None:
    await asyncio.sleep(fault.begin_seconds)
    _note(folder, "strike", fault)
    try:
        await ground.strike(fault)
        await asyncio.sleep(fault.hold_seconds)
    except Missed as missed:
        _note(folder, f"missed: {missed}", fault)
    finally:
        _note(folder, "undo", fault)
        await ground.undo(fault)


def _note(folder: Path, what: str, fault: Fault) -> None:
    """When a fault began and ended, on the clock of the history."""
    with (folder / "faults.jsonl").open("a") as stream:
        line = {"at_ns": time.monotonic_ns(), "what": what, "fault": str(fault)}
        stream.write(json.dumps(line) + "\n")


async def _wait_answers(log: Path) -> None:
    deadline = time.monotonic() + FIRST_ANSWERS_SECONDS
    while True:
        found = records.load(log) if log.exists() else []
        if sum(operation.outcome is Outcome.ACKED for operation in found) >= FIRST_ANSWERS:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"no answers in {FIRST_ANSWERS_SECONDS} s; see {log}")
        await asyncio.sleep(FOLLOW_SECONDS)
