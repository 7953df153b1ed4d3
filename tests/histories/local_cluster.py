"""The ground of `make histories` and of the end-to-end test: an AuroraCluster on the local cluster.

Clients run on the client node, which no fault hits, and come through the two Services. Faults are
those of `localkube.faults`; one whose object is gone already, because the other one of its pair was
quicker, has missed, and is noted. Losing the API server is a cut between it and all nodes: the test
still reaches it from the host.
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
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from histories.faults import OF_COPIES, OF_ZONE, Fault, Kind, Role
from histories.judge import Dump
from histories.run import Missed
from localkube import cluster, cuts, faults
from localkube.errors import LocalKubeError
from localkube.layout import CONTROL_PEER, Node
from support.aurora import Aurora
from support.install import operator_away
from support.waiting import Failed, NotYet, wait_for

REPLICAS: Final = 2
SERVER: Final = r"(^|/)postgres\b.* -D|^postgres$"
ANYTHING: Final = "."
"""The oldest process of a pod is its process 1: with it the whole container ends."""
DISK: Final = "var/lib/aurora"
FILL_FILE: Final = "fill"
FILL_BYTES: Final = 1 << 20
WHOLE_SECONDS: Final = 240.0
CLIENT_SECONDS: Final = 60.0
TESTS: Final = Path(__file__).resolve().parents[1]

GONE: Final = (LocalKubeError, Failed, OSError)
"""What a fault, or its undoing, ends with when its object is no longer there."""
_DIRECTIONS: Final[dict[Kind, cuts.Direction]] = {Kind.CUT_NODE_OUT: "out", Kind.CUT_NODE_IN: "in"}


class LocalCluster:
    """One AuroraCluster, and how each fault is done to it."""

    kinds = frozenset(Kind) - {Kind.WIPE_COPIES}
    """A wiped copy is not filled anew yet, so a seed that wiped one would leave no whole cluster
    for the next; name the kind to have it all the same."""

    def __init__(self, aurora: Aurora, scratch: Path) -> None:
        self._aurora = aurora
        self._scratch = scratch
        self._undo: dict[Fault, ExitStack] = {}

    # --- faults --------------------------------------------------------------------------------

    async def strike(self, fault: Fault) -> None:
        """Break it, and remember how it is put right."""
        stack = self._undo.setdefault(fault, ExitStack())
        try:
            await asyncio.to_thread(self._strike, fault, stack)
        except GONE as error:
            raise Missed(str(error)) from error

    async def undo(self, fault: Fault) -> None:
        """Put it right; what is gone meanwhile needs no undoing."""
        with contextlib.suppress(*GONE):
            await asyncio.to_thread(self._undo.pop(fault, ExitStack()).close)

    def _strike(self, fault: Fault, stack: ExitStack) -> None:
        if fault.kind in OF_COPIES:
            for slot in fault.slots:
                self._strike_copy(fault.kind, f"{self._aurora.name}-storage-{slot}", stack)
        elif fault.kind is Kind.STOP_OPERATOR:
            stack.enter_context(operator_away(self._aurora.kube))
        elif fault.kind is Kind.STOP_API:
            stack.enter_context(faults.cut_off(*cluster.node_names(), peers=[CONTROL_PEER]))
        else:
            self._strike_instance(fault.kind, self._chosen(fault), stack)

    def _strike_instance(self, kind: Kind, pod: str, stack: ExitStack) -> None:
        namespace = self._aurora.namespace
        match kind:
            case Kind.KILL_SERVER:
                faults.kill_process(namespace, pod, SERVER)
            case Kind.FREEZE_SERVER:
                process = faults.kill_process(namespace, pod, SERVER, number=signal.SIGSTOP)
                stack.callback(cluster.signal_process, process, signal.SIGCONT)
            case Kind.KILL_POD:
                faults.kill_process(namespace, pod, ANYTHING)
            case Kind.FREEZE_POD:
                stack.enter_context(faults.frozen_pod(namespace, pod))
            case Kind.DELETE_POD:
                self._aurora.kube.delete("pod", pod, namespace=namespace)
            case Kind.FORCE_DELETE_POD:
                self._force_delete(pod)
            case _:
                node = cluster.node_of_pod(namespace, pod)
                stack.enter_context(_on_node(kind, node))

    def _strike_copy(self, kind: Kind, pod: str, stack: ExitStack) -> None:
        namespace = self._aurora.namespace
        match kind:
            case Kind.KILL_COPIES:
                faults.kill_process(namespace, pod, ANYTHING)
            case Kind.FREEZE_COPIES:
                stack.enter_context(faults.frozen_pod(namespace, pod))
            case Kind.FILL_DISKS:
                stack.callback(self._empty_disk, pod)
                self._fill_disk(pod)
            case _:
                claim = f"data-{pod}"
                self._aurora.kube.delete("persistentvolumeclaim", claim, namespace=namespace)
                self._force_delete(pod)

    def _chosen(self, fault: Fault) -> str:
        """The pod that has the role now, as far as its status tells."""
        writer = self._aurora.status().get("writer")
        pods = sorted(str(pod["metadata"]["name"]) for pod in self._aurora.pods("instance"))
        if fault.role is Role.WRITER and writer in pods:
            return str(writer)
        others = [pod for pod in pods if pod != writer]
        return (others or pods)[0]

    def _force_delete(self, pod: str) -> None:
        words = ("delete", "pod", pod, "--namespace", self._aurora.namespace, "--ignore-not-found")
        self._aurora.kube.run(*words, "--force", "--grace-period=0", "--wait=false")

    def _disk(self, pod: str) -> Path:
        """The pod's volume, as seen through the root of its first process."""
        processes = cluster.pids_of_pod(self._aurora.namespace, pod)
        if not processes:
            raise LocalKubeError(f"no process of {pod} runs")
        return Path("/proc") / str(processes[0].pid) / "root" / DISK

    def _fill_disk(self, pod: str) -> None:
        """Until the file system refuses; the last bytes are written, not just reserved."""
        block = b"\0" * FILL_BYTES
        disk = self._disk(pod)
        with contextlib.suppress(OSError), (disk / FILL_FILE).open("wb", buffering=0) as stream:
            free = os.statvfs(disk)
            os.posix_fallocate(stream.fileno(), 0, free.f_bavail * free.f_frsize - FILL_BYTES)
            stream.seek(0, os.SEEK_END)
            while stream.write(block):
                pass

    def _empty_disk(self, pod: str) -> None:
        def remove() -> None:
            try:
                (self._disk(pod) / FILL_FILE).unlink(missing_ok=True)
            except (LocalKubeError, OSError) as error:
                raise NotYet(str(error)) from error  # the pod restarts just now

        wait_for(f"{pod} has room again", remove, timeout_seconds=60)

    # --- the rest of a ground ------------------------------------------------------------------

    async def wait_whole(self) -> None:
        """Everything undone, and the cluster available with all its parts."""
        await asyncio.to_thread(faults.heal_all)
        await asyncio.to_thread(
            self._aurora.wait_available, replicas=REPLICAS, timeout_seconds=WHOLE_SECONDS
        )

    async def prepare(self) -> None:
        await asyncio.to_thread(self._until_it_works, "prepare", self._service(), "")

    @contextlib.asynccontextmanager
    async def clients(self, log: Path, seed: int) -> AsyncIterator[None]:
        """The clients as a process on the client node."""
        reader = self._aurora.service_address(reader=True)
        words = ("--out", str(log), "--seed", str(seed), "--seconds-max", "3600")
        argv = self._argv("run", self._service(), reader, *words)
        with log.with_suffix(".err").open("w") as errors:
            process = cluster.client_exec(*argv, stderr=errors, env=_environment())
        try:
            yield
        finally:
            process.terminate()
            try:
                status = await asyncio.to_thread(process.wait, CLIENT_SECONDS)
            finally:
                process.kill()
        assert status == 0, f"the clients ended: {log.with_suffix('.err').read_text()[-2000:]}"

    async def dumps(self) -> tuple[Dump, Sequence[Dump]]:
        """The writer's first; then each replica's, once it has replayed as much."""
        return await asyncio.to_thread(self._dumps)

    def _dumps(self) -> tuple[Dump, Sequence[Dump]]:
        writer = self._aurora.writer()
        addresses = {
            pod["metadata"]["name"]: pod["status"]["podIP"] for pod in self._aurora.pods("instance")
        }
        end = self._until_it_works("dump", "", addresses.pop(writer))
        replicas = []
        for name, address in sorted(addresses.items()):

            def caught_up(address: str = address) -> dict[str, Any]:
                found = self._once("dump", "", address)
                if found["position"] < end["position"]:
                    raise NotYet(f"at {found['position']} of {end['position']}")
                return found

            replicas.append(wait_for(f"{name} has caught up", caught_up, timeout_seconds=60))
        return Dump.of(end), [Dump.of(found) for found in replicas]

    def _service(self) -> str:
        return self._aurora.service_address()

    def _until_it_works(self, mode: str, writer: str, reader: str) -> dict[str, Any]:
        once = partial(self._once, mode, writer, reader)
        return wait_for(f"{mode} works", once, timeout_seconds=60, interval_seconds=1)

    def _once(self, mode: str, writer: str, reader: str) -> dict[str, Any]:
        done = subprocess.run(
            cluster.client_command(*self._argv(mode, writer, reader)),
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise NotYet(done.stderr.strip()[-500:])
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def _argv(self, mode: str, writer: str, reader: str, *words: str) -> list[str]:
        secret = self._aurora.secret()
        password = self._scratch / "password"
        password.touch(mode=0o600)
        password.write_text(secret["password"])
        return [
            *(sys.executable, "-m", "histories.client", mode),
            *("--writer", writer, "--reader", reader, "--port", secret["port"]),
            *("--user", secret["username"], "--dbname", secret["dbname"]),
            *("--password-file", str(password), *words),
        ]


def _on_node(kind: Kind, node: Node) -> AbstractContextManager[None]:
    """A fault of a node, or of its whole zone."""
    target = str(node.zone) if kind in OF_ZONE else node.name
    match kind:
        case Kind.KILL_NODE | Kind.KILL_ZONE:
            return faults.killed_nodes(target)
        case Kind.FREEZE_NODE | Kind.FREEZE_ZONE:
            return faults.frozen_nodes(target)
        case Kind.CUT_FROM_STORAGE:
            others = [name for name in cluster.node_names() if name != target]
            return faults.cut_off(target, peers=others)
    return faults.cut_off(target, direction=_DIRECTIONS.get(kind, "both"))


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return kept | {"PYTHONPATH": str(TESTS)}
