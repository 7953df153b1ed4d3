"""A whole volume on loopback: agents as real processes, without Kubernetes.

Every pod is one agent process with an address, a disk and a certificate of its own, so the ports
are those of a real pod. The test plays the operator. Nothing outlives the object: ``stop`` kills
every agent and whatever still works in its directories.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import psycopg

from aurora_operator.agent.client import AgentAddress, AgentClient, AgentUnreachable
from aurora_operator.agent.tls import Certificates
from aurora_operator.api.agent_config import AgentConfig, StoragePodAddress
from aurora_operator.api.messages import (
    BirthRecord,
    CopyState,
    FillAsk,
    FormatAsk,
    InstanceRole,
    InstanceStatus,
    OpenAsk,
    StorageStatus,
)
from aurora_operator.core.names import SLOT_COUNT, Identity, Slot, VolumeId
from aurora_operator.engines.postgresql.leftovers import users_of
from support.authority import ORGANISATION, Authority
from support.cut import Cut

CLUSTER = "shop"
NAMESPACE, _, _ = ORGANISATION.partition("/")
PASSWORD = "correct horse battery staple"
BOOT = "import sys; from aurora_operator.cli.agent import main; sys.exit(main(sys.argv[1:]))"

CUT_STORAGE, CUT_INSTANCES = "127.0.30", "127.0.40"
"""Where the ends of a cut's relays are."""
_STORAGE_PORTS = (8443, 5433, 5432)

_LINES_SHOWN = 80
_NUMBERS = range(1, 10)
"""Instances that an instance may know of; one that is not there does not answer."""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class NotInTime(AssertionError):
    """A condition did not come true; says what was seen last."""


async def wait_until(
    what: str, check: Callable[[], Awaitable[object]], deadline_seconds: float
) -> Any:
    """Wait until ``check`` gives something true; errors count as not yet."""
    deadline = time.monotonic() + deadline_seconds
    seen: object = None
    while True:
        try:
            if seen := await check():
                return seen
        except (AgentUnreachable, psycopg.Error, OSError, TimeoutError) as error:
            seen = error
        if time.monotonic() > deadline:
            raise NotInTime(f"{what}: not within {deadline_seconds} s; last seen: {seen!r}")
        await asyncio.sleep(0.01)


@dataclass
class Pod:
    """One pod: where it lives, and its agent while it runs."""

    kind: str
    name: str
    ip: str
    home: Path
    uid: str
    disk: Path
    boot: str = BOOT
    behind_cut: bool = False
    """It reaches storage, and is reached by it, only through ``Volume.cut_around``."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def agent(self) -> AgentAddress:
        return AgentAddress(self.name, self.ip)

    @property
    def data(self) -> Path:
        return self.disk / ("data" if self.kind == "instance" else "pages")

    @property
    def log_file(self) -> Path:
        return self.home / "log.jsonl"

    def start(self) -> None:
        """Start process 1 of the pod."""
        assert self.process is None, f"{self.name} runs already"
        environment = {
            **os.environ,
            "POD_NAME": self.name,
            "POD_NAMESPACE": NAMESPACE,
            "POD_UID": self.uid,
            "POD_IP": f"{CUT_INSTANCES}.{self.ip.rpartition('.')[2]}"
            if self.behind_cut
            else self.ip,
        }
        root = self.home.parent
        options = {
            "--config": root / ("agent-cut.json" if self.behind_cut else "agent.json"),
            "--tls": self.home / "tls",
            "--master": root / "master",
            "--disk": self.disk,
            "--run": self.home / "run",
            "--listen": self.ip,
        }
        arguments = [str(part) for pair in options.items() for part in pair]
        if self.kind == "instance":
            peers = {_name("instance", n): _instance_ip(n) for n in _NUMBERS}
            arguments += [f"--peer={pod}={ip}" for pod, ip in peers.items() if pod != self.name]
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self.boot, self.kind, *arguments, "--without-kubernetes"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """As when the container is killed: every process of the pod at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        for process in users_of(self.data) if self.data.exists() else []:
            _signal(process, signal.SIGKILL)

    def terminate(self, deadline_seconds: float) -> int:
        """As the kubelet does: SIGTERM, and its exit code."""
        assert self.process is not None, f"{self.name} does not run"
        self.process.terminate()
        status = self.process.wait(deadline_seconds)
        self.process = None
        return status

    def start_again_if_ended(self) -> None:
        """As the kubelet does with a container that ended by itself."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
            self.start()

    def postmaster(self) -> int:
        """The process id of the pod's PostgreSQL."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def freeze(self) -> None:
        """SIGSTOP for every process of the pod."""
        self.freeze_agent()
        self.freeze_server()

    def freeze_agent(self) -> None:
        """SIGSTOP for process 1 alone."""
        assert self.process is not None, f"{self.name} does not run"
        _signal(self.process.pid, signal.SIGSTOP)

    def freeze_server(self) -> None:
        """SIGSTOP for its PostgreSQL alone."""
        for process in users_of(self.data):
            _signal(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT for every process of the pod, the server's first: its agent comes late."""
        assert self.process is not None, f"{self.name} does not run"
        for process in [*users_of(self.data), self.process.pid]:
            _signal(process, signal.SIGCONT)

    def log(self) -> list[dict[str, Any]]:
        """The agent's log lines."""
        lines = self.log_file.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


class Volume:
    """Six storage pods and any number of instances."""

    def __init__(self, base: Path = Path("/tmp"), disks: Sequence[Path] = ()) -> None:
        """``base`` is where its disks lie; a run in memory pays for no fsync.

        ``disks`` are given to the storage pods, by slot, in place of a directory there.
        """
        self._disks = disks
        self.root = Path(tempfile.mkdtemp(prefix="volume-", dir=base))
        self.authority = Authority()
        self.storage = [
            self._pod("storage", slot, f"127.0.10.{slot + 1}") for slot in range(SLOT_COUNT)
        ]
        self.instances: dict[int, Pod] = {}
        self._deleted: list[Pod] = []
        self.birth = BirthRecord(
            volume_id=VolumeId("vol-test"),
            identities=tuple(Identity(f"s{slot}_test") for slot in range(SLOT_COUNT)),
        )
        self.password = PASSWORD
        self.config = AgentConfig(
            cluster=CLUSTER,
            namespace=NAMESPACE,
            storage=tuple(
                StoragePodAddress(slot=Slot(slot), pod=pod.name, host=pod.ip)
                for slot, pod in enumerate(self.storage)
            ),
            birth=self.birth,
            database_name="app",
            writer_endpoint_slice="shop-writer",
            reader_endpoint_slice="shop-reader",
            instance_service="shop-instances",
        )
        (self.root / "master").mkdir()
        self.change()
        operator = self.authority.issue(self.root / "operator", "operator", "operator")
        self._context = Certificates(operator).client()
        self._client: AgentClient | None = None

    @property
    def client(self) -> AgentClient:
        """Asks as the operator."""
        if self._client is None:
            self._client = AgentClient(self._context)
        return self._client

    async def __aenter__(self) -> Self:
        for pod in self.storage:
            pod.start()
        return self

    async def __aexit__(self, _kind: object, error: object, _trace: object) -> None:
        if error is not None:
            self.print_logs()
        await self.stop()

    async def stop(self) -> None:
        """Kill all agents, remove everything."""
        if self._client is not None:
            await self._client.close()
            self._client = None
        for pod in [*self.instances.values(), *self.storage]:
            pod.kill()
        shutil.rmtree(self.root, ignore_errors=True)
        for disk in self._disks:
            empty(disk)

    # --- what the operator does --------------------------------------------------------------

    async def be_born(self) -> None:
        """Format slot 0, fill the others from it (rule 13)."""
        first = self.storage[0]
        for pod in self.storage:
            await wait_until(f"{pod.name} answers", partial(self.storage_status, pod), 120)
        ask = FormatAsk(birth=self.birth)
        assert (await self.client.format(first.agent, ask)).granted
        status = await self.wait_copy(first, CopyState.FULL, 60)
        assert status.system_identifier is not None
        await wait_until("the first page store runs", lambda: self._has_pages(first), 30)
        fill = FillAsk(
            birth=self.birth, system_identifier=status.system_identifier, source_pod=first.name
        )
        for pod in self.storage[1:]:
            answer = await self.client.fill(pod.agent, fill)
            assert answer.granted, answer.sentence
        for pod in self.storage[1:]:
            await self.wait_copy(pod, CopyState.FULL, 60)

    def change(
        self, *, parameters: dict[str, str] | None = None, password: str | None = None
    ) -> None:
        """Write what pods mount, the way the kubelet does: replaced as a whole."""
        if parameters is not None:
            self.config = self.config.model_copy(update={"parameters": parameters})
        self.password = password or self.password
        relayed = tuple(
            pod.model_copy(update={"host": f"{CUT_STORAGE}.{pod.slot + 1}"})
            for pod in self.config.storage
        )
        cut = self.config.model_copy(update={"storage": relayed})
        contents = {
            self.root / "agent.json": self.config.model_dump_json(),
            self.root / "agent-cut.json": cut.model_dump_json(),
            self.root / "agent.json": self.config.model_dump_json(),
            self.root / "master" / "password": self.password,
        }
        for path, text in contents.items():
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").rename(path)

    def add_instance(self, number: int, *, uid: str = "", behind_cut: bool = False) -> Pod:
        """A new instance pod with an empty cache."""
        pod = self._pod("instance", number, _instance_ip(number), uid)
        pod.behind_cut = behind_cut
        self.instances[number] = pod
        pod.start()
        return pod

    def cut_around(self, number: int) -> Cut:
        """What can part this instance from all storage pods; not from its clients."""
        to_storage = [
            ((f"{CUT_STORAGE}.{slot + 1}", port), (pod.ip, port))
            for slot, pod in enumerate(self.storage)
            for port in _STORAGE_PORTS
        ]
        back = ((f"{CUT_INSTANCES}.{number}", 5432), (f"127.0.20.{number}", 5432))
        return Cut([*to_storage, back])

    def delete_instance(self, number: int) -> None:
        """The pod and its cache are gone."""
        pod = self.instances.pop(number)
        pod.kill()
        shutil.rmtree(pod.disk)
        pod.home = pod.home.rename(pod.home.with_name(f"{pod.name}-deleted-{len(self._deleted)}"))
        self._deleted.append(pod)

    async def open(self, pod: Pod, reason: str = "test") -> InstanceStatus:
        """Ask once and wait until it is the writer."""
        await wait_until(f"{pod.name} takes the ask", lambda: self._ask_open(pod, reason), 60)
        return await self.wait_role(pod, InstanceRole.WRITER, 60)

    async def _ask_open(self, pod: Pod, reason: str) -> bool:
        return (await self.client.open(pod.agent, OpenAsk(reason=reason))).accepted

    # --- what is seen ------------------------------------------------------------------------

    async def storage_status(self, pod: Pod) -> StorageStatus:
        return await self.client.fetch_storage_status(pod.agent, 1.0)

    async def instance_status(self, pod: Pod) -> InstanceStatus:
        return await self.client.fetch_instance_status(pod.agent, 1.0)

    async def wait_copy(self, pod: Pod, state: CopyState, seconds: float) -> StorageStatus:
        """Wait for the state of a copy."""
        seen: StorageStatus | None = None

        async def check() -> StorageStatus | None:
            nonlocal seen
            seen = await self.storage_status(pod)
            return seen if seen.state is state else None

        try:
            return await wait_until(f"{pod.name} is {state}", check, seconds)  # type: ignore[no-any-return]
        except NotInTime as error:
            raise NotInTime(f"{error}; {seen}") from error

    async def wait_role(self, pod: Pod, role: InstanceRole, seconds: float) -> InstanceStatus:
        """Wait until an instance has a role and is healthy in it."""
        seen: InstanceStatus | None = None

        async def check() -> InstanceStatus | None:
            nonlocal seen
            seen = await self.instance_status(pod)
            settled = seen.healthy or role is InstanceRole.STOPPED
            return seen if seen.role is role and settled else None

        try:
            return await wait_until(f"{pod.name} is {role}", check, seconds)  # type: ignore[no-any-return]
        except NotInTime as error:
            raise NotInTime(f"{error}; {seen}") from error

    async def connect(self, pod: Pod, database: str = "app") -> Connection:
        """A client session as the master user."""
        return await psycopg.AsyncConnection.connect(
            host=pod.ip,
            dbname=database,
            user="postgres",
            password=self.password,
            sslmode="require",
            connect_timeout=5,
            autocommit=True,
        )

    def print_logs(self) -> None:
        """The story of a failed test, pod by pod."""
        for pod in [*self._deleted, *self.instances.values(), *self.storage]:
            print(f"--- {pod.name}")
            lines = pod.log_file.read_text(errors="replace").splitlines()
            told = [line for line in lines if '"backend": "walsender"' not in line]
            for line in told[-_LINES_SHOWN:]:
                print(line[:600])

    async def _has_pages(self, pod: Pod) -> bool:
        return (await self.storage_status(pod)).page_store.running

    def _pod(self, kind: str, number: int, ip: str, uid: str = "") -> Pod:
        name = _name(kind, number)
        home = self.root / name
        given = kind == "storage" and number < len(self._disks)
        disk = self._disks[number] if given else home / "disk"
        for part in (disk, home / "run"):
            part.mkdir(parents=True, exist_ok=given)
        self.authority.issue(home / "tls", kind, name, ip=ip)
        return Pod(kind, name, ip, home, uid or f"uid-{name}-{time.monotonic_ns()}", disk)


def empty(disk: Path) -> None:
    """Remove all that lies on a disk."""
    for entry in disk.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _name(kind: str, number: int) -> str:
    return f"{CLUSTER}-{kind}-{number}"


def _instance_ip(number: int) -> str:
    return f"127.0.20.{number}"


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
