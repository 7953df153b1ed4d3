"""The ground of the component test: a volume of real agents and real servers on loopback.

There is no Kubernetes here, so `Kubelet` stands in for it while a history is made: it starts what
ended and replaces what was deleted. Nobody asks anybody to open: copies and replicas see to that.
Cuts and full disks need more rights than these tests have; freezing stands for a cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from aurora_operator.agent.client import AgentUnreachable
from aurora_operator.api.messages import InstanceRole, InstanceStatus
from histories.faults import OF_COPIES, Fault, Kind, Role
from histories.judge import Dump
from histories.run import Missed
from support.volume import NotInTime, Pod, Volume, wait_until

INSTANCES: Final = 2
ADDRESSES: Final = ",".join(f"127.0.20.{number}" for number in range(1, 31))
ZONES: Final = 3
TEND_SECONDS: Final = 0.1
STATUS_SECONDS: Final = 0.5
WHOLE_SECONDS: Final = 60.0
TERMINATE_SECONDS: Final = 15.0
CLIENT_SECONDS: Final = 30.0
DUMP_SECONDS: Final = 30.0

_ROLES: Final = {
    Role.WRITER: (InstanceRole.WRITER, InstanceRole.OPENING, InstanceRole.STOPPED),
    Role.REPLICA: (InstanceRole.REPLICA, InstanceRole.STARTING),
}


class Kubelet:
    """Starts pods whose processes ended, and makes new instances for deleted ones."""

    def __init__(self, volume: Volume) -> None:
        self.held: set[str] = set()
        """Pods that stay as they are until their fault is undone."""
        self._volume = volume

    async def run(self) -> None:
        """For ever."""
        while True:
            for pod in [*self._volume.storage, *self._volume.instances.values()]:
                ended = pod.process is None or pod.process.poll() is not None
                if ended and pod.name not in self.held:
                    pod.kill()  # a container ends as a whole
                    pod.start()
            while len(self._volume.instances) < INSTANCES:
                self._volume.add_instance(max(self._volume.instances, default=0) + 1)
            await asyncio.sleep(TEND_SECONDS)


async def instance_statuses(volume: Volume) -> list[tuple[Pod, InstanceStatus]]:
    """Of the instances that answer."""

    async def status(pod: Pod) -> InstanceStatus | None:
        try:
            return await volume.client.fetch_instance_status(pod.agent, STATUS_SECONDS)
        except (AgentUnreachable, OSError, TimeoutError):
            return None

    pods = list(volume.instances.values())
    found = await asyncio.gather(*map(status, pods))
    return [(pod, status) for pod, status in zip(pods, found, strict=True) if status]


class Loopback:
    """A volume, its stand-in, and how each fault is done to it."""

    kinds = frozenset(
        {
            *(Kind.KILL_SERVER, Kind.FREEZE_SERVER, Kind.KILL_POD, Kind.FREEZE_POD),
            *(Kind.DELETE_POD, Kind.FORCE_DELETE_POD, Kind.KILL_ZONE, Kind.FREEZE_ZONE),
            *(Kind.KILL_COPIES, Kind.FREEZE_COPIES),
        }
    )

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._kubelet = Kubelet(volume)
        self._tending: asyncio.Task[None] | None = None
        self._undo: dict[Fault, ExitStack] = {}

    async def __aenter__(self) -> Self:
        self._tending = asyncio.create_task(self._kubelet.run(), name="kubelet")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._tending is not None
        self._tending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._tending

    # --- faults --------------------------------------------------------------------------------

    async def strike(self, fault: Fault) -> None:
        """Break it, and remember how it is put right."""
        undo = self._undo.setdefault(fault, ExitStack())
        match fault.kind:
            case Kind.KILL_SERVER:
                self._signal_server(await self._chosen(fault), signal.SIGKILL)
            case Kind.FREEZE_SERVER:
                process = self._signal_server(await self._chosen(fault), signal.SIGSTOP)
                undo.callback(_signal, process, signal.SIGCONT)
            case Kind.DELETE_POD | Kind.FORCE_DELETE_POD:
                await self._delete(await self._chosen(fault), fault.kind is Kind.DELETE_POD)
            case Kind.KILL_POD | Kind.KILL_ZONE | Kind.KILL_COPIES:
                for pod in await self._hit(fault):
                    self._kubelet.held.add(pod.name)
                    undo.callback(self._kubelet.held.discard, pod.name)
                    pod.kill()
            case Kind.FREEZE_POD | Kind.FREEZE_ZONE | Kind.FREEZE_COPIES:
                for pod in await self._hit(fault):
                    if pod.process is not None:
                        pod.freeze()
                        undo.callback(_thaw, pod)
            case _:
                raise AssertionError(f"{fault.kind} cannot be done on loopback")

    async def undo(self, fault: Fault) -> None:
        """Put it right; a second call does nothing."""
        self._undo.pop(fault, ExitStack()).close()

    async def _hit(self, fault: Fault) -> list[Pod]:
        if fault.kind in OF_COPIES:
            return [self._volume.storage[slot] for slot in fault.slots]
        chosen = await self._chosen(fault)
        if fault.kind in (Kind.KILL_POD, Kind.FREEZE_POD):
            return [chosen]
        zone = int(chosen.name.rpartition("-")[2]) % ZONES
        return [chosen, *self._volume.storage[2 * zone : 2 * zone + 2]]

    async def _chosen(self, fault: Fault) -> Pod:
        """Who has the role now; when nobody has, whoever comes nearest."""
        assert fault.role is not None
        statuses = await instance_statuses(self._volume)
        for role in _ROLES[fault.role]:
            for pod, status in statuses:
                if status.role is role:
                    return pod
        return next(iter(self._volume.instances.values()))

    def _signal_server(self, pod: Pod, number: signal.Signals) -> int:
        try:
            process = pod.postmaster()
        except (OSError, IndexError) as error:
            raise Missed(f"{pod.name} runs no server") from error
        _signal(process, number)
        return process

    async def _delete(self, pod: Pod, warned: bool) -> None:
        number = int(pod.name.rpartition("-")[2])
        self._kubelet.held.add(pod.name)
        if warned and pod.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed
                await asyncio.to_thread(pod.terminate, TERMINATE_SECONDS)
        if number not in self._volume.instances:
            raise Missed(f"{pod.name} was deleted meanwhile")
        self._volume.delete_instance(number)

    # --- the rest of a ground ------------------------------------------------------------------

    async def wait_whole(self) -> None:
        """A writer, a replica, and six copies that stream."""
        problem = ""

        async def whole() -> bool:
            nonlocal problem
            problem = self._problem(await instance_statuses(self._volume))
            return not problem

        try:
            await wait_until("the volume is whole", whole, WHOLE_SECONDS)
        except NotInTime as error:
            raise NotInTime(f"{error}; {problem}") from None

    def _problem(self, statuses: list[tuple[Pod, InstanceStatus]]) -> str:
        told = [f"{pod.name}: {status.role}, {status.sentence}" for pod, status in statuses]
        writers = [s for _, s in statuses if s.role is InstanceRole.WRITER and s.healthy]
        replicas = [s for _, s in statuses if s.role is InstanceRole.REPLICA and s.healthy]
        if len(writers) != 1 or len(writers) + len(replicas) != INSTANCES:
            return f"{len(writers)} writers and {len(replicas)} replicas are well: {told}"
        lagging = [copy for copy in writers[0].copies if not copy.streaming]
        if lagging or len(writers[0].copies) != len(self._volume.storage):
            return f"copies do not stream: {lagging}"
        return ""

    async def prepare(self) -> None:
        await wait_until("the tables are made", lambda: self._once("prepare", ADDRESSES), 30)

    @contextlib.asynccontextmanager
    async def clients(self, log: Path, seed: int) -> AsyncIterator[None]:
        """The clients as a process of their own."""
        words = ("--reader", ADDRESSES, "--out", str(log), "--seed", str(seed))
        process = await self._client("run", ADDRESSES, *words)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            _, errors = await asyncio.wait_for(process.communicate(), CLIENT_SECONDS)
        assert process.returncode == 0, f"the clients ended: {errors.decode()[-2000:]}"

    async def dumps(self) -> tuple[Dump, Sequence[Dump]]:
        """The writer's first; then each replica's, once it has replayed as much."""

        async def of_the_writer() -> dict[str, Any] | None:
            for pod, status in await instance_statuses(self._volume):
                if status.role is InstanceRole.WRITER:
                    return await self._once("dump", "", pod.ip)
            return None

        shown = await wait_until("the writer shows all it has", of_the_writer, DUMP_SECONDS)
        replicas = []
        for pod, status in await instance_statuses(self._volume):
            if status.role is not InstanceRole.REPLICA:
                continue

            async def caught_up(pod: Pod = pod) -> dict[str, Any] | None:
                found = await self._once("dump", "", pod.ip)
                return found if found["position"] >= shown["position"] else None

            found = await wait_until(f"{pod.name} has caught up", caught_up, DUMP_SECONDS)
            replicas.append(Dump.of(found))
        return Dump.of(shown), replicas

    async def _once(self, mode: str, writer: str, reader: str = "") -> dict[str, Any]:
        process = await self._client(mode, writer, "--reader", reader)
        out, errors = await asyncio.wait_for(process.communicate(), CLIENT_SECONDS)
        if process.returncode != 0:
            raise OSError(f"{mode} ended with {process.returncode}: {errors.decode()[-500:]}")
        answer: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
        return answer

    async def _client(self, mode: str, writer: str, *words: str) -> asyncio.subprocess.Process:
        password = self._volume.root / "master" / "password"
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "histories.client", mode, "--writer", writer),
            *("--password-file", str(password), *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _thaw(pod: Pod) -> None:
    if pod.process is not None:
        pod.thaw()
