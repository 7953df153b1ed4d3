"""A real copy in a process of its own, which is killed as a power cut kills it.

The process is a nursery: told ``start`` it forks a child that opens the copy and works, told
``kill`` it ends that child in an instant, told ``wait`` it waits until the child is gone. A child
costs milliseconds, so a test can afford many power cuts. What a child says it has done it says
only after it was done: the test believes it.

The faults are bugs put in on purpose, each of which a test has to notice.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from aurora_operator.core.copy import Adoption, Promise
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import AttemptId, Identity, Slot
from aurora_operator.core.verdicts import Refuse
from aurora_operator.engines.postgresql.acceptor import Acceptor
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint, TlsFiles
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.files import BESIDE, Files
from aurora_operator.volume.log_store import LogStore


@dataclass(frozen=True)
class Work:
    """What the child does: follow a writer, or promise one term after another."""

    disk: Path
    identity: Identity
    slot: Slot
    system_identifier: str
    promise: Promise | None = None
    adoption: Adoption | None = None
    writer: TcpEndpoint | None = None
    tls: TlsFiles | None = None


def report_before_fsync() -> None:
    """Mutant 4: what was written counts at once; the fsync comes a moment later."""

    def early(self: LogStore) -> Lsn:
        self._check()
        active, end = self._active, self._end
        self._durable_end = end
        if active is not None:
            threading.Thread(target=active.sync, daemon=True).start()
        return end

    LogStore.sync = early  # type: ignore[method-assign]


def promise_without_fsync() -> None:
    """Mutant 3: the record takes its name before its content is durable."""
    create, sync = Files.create, Files.sync
    beside: set[int] = set()

    def remember(self: Files, path: Path) -> int:
        descriptor = create(self, path)
        beside.discard(descriptor)
        if path.name == f"term.json{BESIDE}":
            beside.add(descriptor)
        return descriptor

    def skip(self: Files, descriptor: int) -> None:
        if descriptor not in beside:
            sync(self, descriptor)

    Files.create = remember  # type: ignore[method-assign]
    Files.sync = skip  # type: ignore[method-assign]


def rename_without_directory() -> None:
    """The record's new name is never made durable."""
    Files.sync_directory = lambda self, path: None  # type: ignore[method-assign]


FAULTS: Final[dict[str, Callable[[], None]]] = {
    "none": lambda: None,
    "report-before-fsync": report_before_fsync,
    "promise-without-fsync": promise_without_fsync,
    "rename-without-directory": rename_without_directory,
}


def _follow(work: Work) -> None:
    """Promise, adopt and follow, as a storage pod does."""
    assert work.promise is not None
    assert work.adoption is not None
    assert work.writer is not None
    store = CopyStore.open(work.disk, work.identity, work.slot)
    for refused in (store.promise(work.promise, lambda: None), store.adopt(work.adoption)):
        if isinstance(refused, Refuse):
            raise AssertionError(refused.sentence)  # noqa: TRY004 - no caller's fault

    async def run() -> None:
        assert work.writer is not None
        assert work.promise is not None
        acceptor = Acceptor(
            copy=store,
            identity=work.identity,
            system_identifier=work.system_identifier,
            writer=work.writer,
            term=work.promise.term,
            tls=work.tls,
            on_progress=lambda: None,
            on_stream=lambda: None,
        )
        acceptor.start()
        await acceptor.join()

    asyncio.run(run())


def _promise(work: Work) -> None:
    """Promise higher and higher, and say each promise once it is given."""
    store = CopyStore.open(work.disk, work.identity, work.slot)
    record = store.record
    assert record is not None, store.view().sentence
    term = record.promise.term
    while True:
        term = Term(term + 1)
        refused = store.promise(Promise(term, AttemptId(f"attempt-{term}")), lambda: None)
        assert refused is None, refused
        # In one write: the process may be killed before a line's end that comes by itself.
        sys.stdout.write(f"promised {term}\n")
        sys.stdout.flush()
        time.sleep(0.001)


def _child(work: Work) -> int:
    child = os.fork()
    if child == 0:
        try:
            (_promise if work.adoption is None else _follow)(work)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def main(work_file: Path, fault: str) -> None:
    """Obey until standard input ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    FAULTS[fault]()
    child = 0
    for line in sys.stdin:
        if line.strip() == "start":
            child = _child(pickle.loads(work_file.read_bytes()))
            print("started", flush=True)
        elif line.strip() == "kill":
            os.kill(child, signal.SIGKILL)
            print("killed", flush=True)
        else:
            _, status = os.waitpid(child, 0)
            print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
