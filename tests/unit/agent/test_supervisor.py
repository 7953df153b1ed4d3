"""What follows when a supervised task ends, raises, or the process is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal

from aurora_operator.agent.supervisor import OnCrash, Supervisor


async def test_a_signal_stops_in_order() -> None:
    supervisor = Supervisor()
    order: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            order.append("task ended")

    async def shut_down() -> None:
        order.append("shut down")

    supervisor.start("work", work, OnCrash.END)
    assert await supervisor.run(shut_down, grace_seconds=5) == 0
    assert order == ["task ended", "shut down"]


async def test_a_crash_that_must_not_be_missed_ends_the_process() -> None:
    supervisor = Supervisor()

    async def crash() -> None:
        raise RuntimeError("the copy is gone")

    supervisor.start("crash", crash, OnCrash.END)
    assert await supervisor.run(_nothing, grace_seconds=5) == 1


async def test_a_crash_that_may_happen_begins_again() -> None:
    supervisor = Supervisor()
    runs = 0

    async def crash_once() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("once")
        supervisor.stop()

    supervisor.start("crash once", crash_once, OnCrash.RESTART)
    assert await supervisor.run(_nothing, grace_seconds=5) == 0
    assert runs == 2


async def test_a_stop_that_takes_too_long_is_an_error() -> None:
    supervisor = Supervisor()
    supervisor.stop()
    assert await supervisor.run(asyncio.Event().wait, grace_seconds=0.05) == 1  # type: ignore[arg-type]


async def _nothing() -> None:
    return
