"""The duties of process 1: signals, orphans, and tasks that nobody may lose.

Each lasting task is started here under a name and with a stated reaction to its crash. ``END``
means that the pod cannot do its work without it: the process ends non-zero and Kubernetes starts
it anew. ``RESTART`` means that the work begins again from what it finds, after a pause. A task
that returns has finished and is not missed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog

log = structlog.get_logger()

_RESTART_PAUSE_SECONDS: Final = 0.5
_REAP_PERIOD_SECONDS: Final = 1.0


class OnCrash(StrEnum):
    """What follows when a supervised task raises."""

    END = "end"
    RESTART = "restart"


class Supervisor:
    """Runs the tasks of one agent until it is told to stop or one of them must not be missed."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = False

    def start(self, name: str, work: Callable[[], Awaitable[None]], on_crash: OnCrash) -> None:
        """Run ``work`` as a task of its own until the process ends."""
        task = asyncio.create_task(self._guard(name, work, on_crash), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Ask for an orderly stop."""
        self._stop.set()

    def fail(self) -> None:
        """End the process with an error: its pod must begin anew."""
        self._failed = True
        self._stop.set()

    async def run(
        self,
        shut_down: Callable[[], Awaitable[None]],
        grace_seconds: float,
        leave: Callable[[], Awaitable[None]] | None = None,
    ) -> int:
        """Wait for a signal or a fatal crash, shut down in order; the process's exit code.

        ``leave`` comes first, while all tasks still work, unless one of them crashed; it keeps
        its own deadline.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_note_loop_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if os.getpid() == 1:
            self.start("reap orphans", reap_orphans, OnCrash.RESTART)
        await self._stop.wait()
        if leave is not None and not self._failed:
            await self._leave(leave)
        log.info("stopping", grace_seconds=grace_seconds)
        for task in list(self._tasks):
            task.cancel()
        try:
            async with asyncio.timeout(grace_seconds):
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await shut_down()
        except TimeoutError:
            log.error("orderly stop took longer than its grace; what is left is killed with us")
            return 1
        log.info("stopped in order")
        return 1 if self._failed else 0

    async def _leave(self, leave: Callable[[], Awaitable[None]]) -> None:
        """Do ``leave``; what it raises must not keep the process from ending in order."""
        try:
            await leave()
        except Exception:
            log.exception("not left in order; ending")

    async def _guard(
        self, name: str, work: Callable[[], Awaitable[None]], on_crash: OnCrash
    ) -> None:
        while True:
            try:
                return await work()
            except Exception:
                log.exception("task crashed", task=name, reaction=str(on_crash))
            if on_crash is OnCrash.END:
                self.fail()
                return None
            await asyncio.sleep(_RESTART_PAUSE_SECONDS)


def _note_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Errors that no task owns; a TLS connection that we aborted ourselves is none."""
    error = context.get("exception")
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error):
        log.debug("aborted connection", reason=str(error))
        return
    loop.default_exception_handler(context)


async def reap_orphans() -> None:
    """Collect children that were handed to process 1.

    A child of ours is collected by the event loop at once, so one that is still dead in two rounds
    belonged to a process that died before it, such as a killed postmaster.
    """
    before: set[int] = set()
    while True:
        dead = {pid for pid in _children() if _is_zombie(pid)}
        for pid in dead & before:
            os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - does not block
        before = dead
        await asyncio.sleep(_REAP_PERIOD_SECONDS)


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text(encoding="ascii").split()]
    return found


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] == "Z"
