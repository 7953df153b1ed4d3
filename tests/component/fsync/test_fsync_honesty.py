"""Power cuts under load: what a copy said is durable is there afterwards (I1, I3).

A real acceptor with a real copy follows a real writer, on a file system that loses what was not
fsynced (``support/losing_disk.py``). At random moments its process is killed and the disk loses
its power. Afterwards every byte that was reported to the writer as flushed is there, and so is
every promise that was given. The writer keeps the highest report in the slot of the copy, so
nothing has to be believed but PostgreSQL. The same checks find the same code with a bug put in.

The seed of every run is printed; ``FSYNC_SEED`` runs it again, ``FSYNC_CUTS`` makes it longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import random
import select
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from aurora_operator.core.copy import Adoption, CopyState, Promise
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import AttemptId
from aurora_operator.engines.postgresql.birth import Birth
from aurora_operator.volume.copy_store import CopyStore
from support.authority import Authority
from support.mortal_copy import Work
from support.postgresql import Copy, Instance, Volume, eventually

SEED = int(os.environ.get("FSYNC_SEED", random.randrange(10**6)))
CUTS = int(os.environ.get("FSYNC_CUTS", "6"))
MUTANT_CUTS_MAX = 15
FSYNC_SECONDS = 0.02
"""As long as an fsync takes here, so that a cut often falls into one."""
LOST_SLOT = 5
ANSWER_SECONDS = 60.0
"""For a helper to answer, on a machine that does much else."""


class Program:
    """A helper process that is told what to do, one line at a time."""

    def __init__(self, *arguments: str, descriptors: tuple[int, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=descriptors,
        )
        self._said = b""
        self.heard: list[str] = []

    def tell(self, line: str, answer: str) -> str:
        """Say a line, and read until the answer that begins so; what came before is kept."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            heard = self._next_line(deadline)
            if heard is None:
                raise AssertionError(
                    f"{self._process.args!r} did not answer {line!r}; it said {self.heard[-3:]}"
                )
            if heard.startswith(answer):
                return heard
            self.heard.append(heard)

    def _next_line(self, deadline: float) -> str | None:
        """The next line; ``None`` when it ended, or says nothing for too long."""
        assert self._process.stdout is not None
        while b"\n" not in self._said:
            left_seconds = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left_seconds)[0]:
                return None
            data = self._process.stdout.read(65536)
            if not data:
                return None
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode().strip()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def losing_disk() -> Iterator[tuple[Program, Path]]:
    """The disk, and who serves it. One for all tests: a mount is served from its first request."""
    place = os.environ.get("AURORA_LOSING_DISK")
    if place is None:
        pytest.fail("there is no /dev/fuse here, and this proof needs it (modprobe fuse)")
    descriptor, _, path = place.partition(":")
    program = Program("-m", "support.losing_disk", descriptor, descriptors=(int(descriptor),))
    yield program, Path(path)
    program.end()


@pytest.fixture
def disk(losing_disk: tuple[Program, Path]) -> Iterator[tuple[Program, Path]]:
    """A directory of the test's own."""
    program, root = losing_disk
    program.tell("delay 0", "ok")
    path = root / f"copy-{time.monotonic_ns()}"
    path.mkdir()
    _sync(root)
    yield program, path
    program.tell("delay 0", "ok")
    shutil.rmtree(path)
    _sync(root)


@contextlib.contextmanager
def nursery(work: Work, place: Path, fault: str) -> Iterator[Program]:
    """The process whose children are the copy."""
    file = place / f"work-{fault}"
    file.write_bytes(pickle.dumps(work))
    program = Program("-m", "support.mortal_copy", str(file), fault)
    try:
        yield program
    finally:
        program.end()


def _sync(directory: Path) -> None:
    """Everything below a directory becomes durable."""
    for path in [directory, *directory.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


@pytest.fixture
async def volume(place: Path, authority: Authority, birth: Birth) -> AsyncIterator[Volume]:
    made = Volume(place, authority, birth)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def writer(volume: Volume) -> AsyncIterator[Instance]:
    """A writer with five copies; the sixth is the one that will lose its power."""
    instance = Instance(volume, "shop-instance-1")
    await instance.start_replica()
    yield instance
    await instance.close()


def _move_to(disk: Path, copy: Copy) -> None:
    """The copy lives on the losing disk from now on, and all of it is durable there."""
    copy.store.close()
    for path in copy.disk.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, disk / path.name)
    _sync(disk)


async def _open(volume: Volume, writer: Instance) -> Adoption:
    """Open term 2 with five copies; what the sixth is to adopt."""
    await writer.open(2, range(LOST_SLOT))
    record = volume.copies[0].store.record
    assert record is not None
    return Adoption(writer.promise, record.history, record.first_record_end, volume.members)


async def _reported(writer: Instance, copy: Copy) -> Lsn:
    """The highest position that the copy ever reported as flushed, by the writer's own word."""
    rows = await writer.sql.rows(
        "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", [copy.identity]
    )
    return Lsn(0) if not rows or rows[0][0] is None else Lsn.parse(rows[0][0])


def _what_is_missing(
    disk: Path, copy: Copy, other: CopyStore, reported: Lsn, promised: Promise
) -> str | None:
    """What the copy said and does not hold, read by the code that starts a storage pod."""
    store = CopyStore.open(disk, copy.identity, copy.slot)
    try:
        record = store.record
        if store.state is not CopyState.FULL or record is None:
            return f"the copy is {store.state}: {store.view().sentence}"
        if record.promise != promised:
            return f"it promised {promised}, and remembers {record.promise}"
        if store.scl() < reported:
            return f"it reported {reported}, and ends at {store.scl()}"
        lsn = max(other.log_start(), Lsn(reported - 4 * 1024 * 1024))
        while lsn < reported:
            data = store.read(lsn, reported - lsn)
            if data != other.read(lsn, len(data)):
                return f"its bytes at {lsn} are not those of another copy"
            lsn = lsn.advanced(len(data))
    finally:
        store.close()
    return None


def _cut_power(mortal: Program, disk: Program, chance: random.Random) -> None:
    """Process and disk stop in one instant: what the disk was asked for and did not do is lost."""
    mortal.tell("kill", "killed")
    disk.tell(f"cut {chance.randrange(10**9)}", "")
    assert mortal.tell("wait", "ended") == "ended -9", "the copy ended by itself"
    disk.tell("on", "ok")


async def _write(writer: Instance) -> None:
    async with await writer.connect() as session:
        while True:
            await session.execute("INSERT INTO t SELECT generate_series(1, 50)")


async def _cut_under_load(
    volume: Volume, writer: Instance, disk: tuple[Program, Path], fault: str, cuts: int, seed: int
) -> str | None:
    """Cut the power again and again; what was missing after one of the cuts, if anything was."""
    program, path = disk
    copy, other, chance = volume.copies[LOST_SLOT], volume.copies[0].store, random.Random(seed)
    adoption = await _open(volume, writer)
    _move_to(path, copy)
    work = Work(
        disk=path,
        identity=copy.identity,
        slot=copy.slot,
        system_identifier=volume.system_identifier,
        promise=adoption.promise,
        adoption=adoption,
        writer=writer.endpoint,
        tls=copy.tls,
    )
    async with await writer.connect() as session:
        await session.execute("CREATE TABLE t (i int)")
    load = asyncio.create_task(_write(writer), name="load")
    reports = 0
    try:
        with nursery(work, volume.directory, fault) as mortal:
            program.tell(f"delay {FSYNC_SECONDS}", "ok")
            before = await _reported(writer, copy)
            for number in range(cuts):
                mortal.tell("start", "started")
                await eventually(
                    f"reports after cut {number}",
                    lambda: _reported(writer, copy),
                    lambda seen, before=before: seen > before,  # type: ignore[misc]
                    timeout_seconds=60,
                )
                await asyncio.sleep(chance.uniform(0, 0.2))  # the moment of the cut
                _cut_power(mortal, program, chance)
                before = await _reported(writer, copy)
                reports += 1
                missing = _what_is_missing(path, copy, other, before, adoption.promise)
                if missing is not None:
                    return f"after cut {number}: {missing}"
        return None
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        print(f"seed {seed}, fault {fault}: {reports} cuts")


async def test_i1_what_was_reported_survives_every_power_cut(
    volume: Volume, writer: Instance, disk: tuple[Program, Path]
) -> None:
    missing = await _cut_under_load(volume, writer, disk, "none", CUTS, SEED)
    assert missing is None, f"seed {SEED}: {missing}"


async def test_i1_a_report_before_the_fsync_is_found(
    volume: Volume, writer: Instance, disk: tuple[Program, Path]
) -> None:
    """Mutant 4: the same check, the same cuts."""
    fault = "report-before-fsync"
    missing = await _cut_under_load(volume, writer, disk, fault, MUTANT_CUTS_MAX, SEED)
    print(missing)
    assert missing is not None, f"seed {SEED}: {MUTANT_CUTS_MAX} cuts did not find it"


def _cut_while_promising(
    copy: Copy, volume: Volume, disk: tuple[Program, Path], fault: str, cuts: int, seed: int
) -> str | None:
    program, path = disk
    chance = random.Random(seed)
    _move_to(path, copy)
    work = Work(path, copy.identity, copy.slot, volume.system_identifier)
    with nursery(work, volume.directory, fault) as mortal:
        program.tell("delay 0.001", "ok")
        given = 1
        for number in range(cuts):
            given = max(given, int(mortal.tell("start", "promised").split()[1]))
            time.sleep(chance.uniform(0, 0.05))  # the moment of the cut
            _cut_power(mortal, program, chance)
            said = [int(line.split()[1]) for line in mortal.heard if line.startswith("promised")]
            given = max([given, *said])
            store = CopyStore.open(path, copy.identity, copy.slot)
            store.close()
            if store.state is not CopyState.FULL or store.record is None:
                return f"after cut {number}: the copy is {store.state}: {store.view().sentence}"
            kept = store.record.promise
            if kept.term < given or kept != Promise(kept.term, AttemptId(f"attempt-{kept.term}")):
                return f"after cut {number}: it promised term {given}, and remembers {kept}"
            given = int(Term(kept.term))
    return None


@pytest.mark.parametrize(
    ("fault", "found"),
    [("none", False), ("promise-without-fsync", True), ("rename-without-directory", True)],
)
async def test_rule_2_a_promise_survives_every_power_cut(
    volume: Volume, disk: tuple[Program, Path], fault: str, found: bool
) -> None:
    """Mutant 3 among the faults."""
    cuts = MUTANT_CUTS_MAX if found else 2 * CUTS
    missing = _cut_while_promising(volume.copies[LOST_SLOT], volume, disk, fault, cuts, SEED)
    print(f"seed {SEED}, fault {fault}: {missing}")
    assert (missing is not None) is found, f"seed {SEED}: {missing}"
