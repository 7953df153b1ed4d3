"""Six copies in one process: real stores, real asks, real hub; the network and the log's sender
are stand-ins.

What an agent does between pods is tried against this in milliseconds. A ``Process`` is one life of
an agent: each thing it does is a step, and it can be told to die after any of them; whatever it
tries afterwards does not happen, as after a SIGKILL. Positions are those of ``support.copies``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from aiohttp import web

from aurora_operator.agent.client import AgentAddress, AgentClient, AgentUnreachable
from aurora_operator.agent.place import Place
from aurora_operator.agent.storage import asks as asks_module
from aurora_operator.agent.storage import birth as birth_module
from aurora_operator.agent.storage.asks import StorageAsks
from aurora_operator.agent.storage.birth import CopyBirth
from aurora_operator.agent.storage.hub_end import HubEnd
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.storage.watch_end import WatchEnd
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.agent_config import AgentConfig, StoragePodAddress
from aurora_operator.api.convert import position_to_hub
from aurora_operator.api.messages import (
    AdoptAsk,
    BirthRecord,
    HubBeat,
    InstanceAnswer,
    InstanceStatus,
    MembersAsk,
    OpenAsk,
    PageStoreStatus,
    PrevoteAsk,
    PromiseAsk,
    RefillAsk,
    StorageAnswer,
    StorageStatus,
)
from aurora_operator.core.birth import VolumeRecord, born_record
from aurora_operator.core.copy import Promise, StreamState, Vdl
from aurora_operator.core.lsn import LOG_START, Lsn, Term
from aurora_operator.core.names import Identity, Slot, VolumeId
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint, TlsFiles
from aurora_operator.volume.blank_disk import LOG_DIRECTORY
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.log_store import LogStore
from aurora_operator.volume.term_file import write_record
from support.copies import IDENTITIES, at
from support.crash import QuickFiles
from support.small_filling import SmallFilling
from support.small_socket import SmallSocket

if TYPE_CHECKING:
    from support.small_machine import SmallInstance, SmallMachine

BORN_BYTES: Final = 100
"""How much log of term 1 a new volume has."""
_SEGMENT_BYTES: Final = 4096


class Killed(BaseException):
    """The process is dead; nothing it does now happens."""


class Process:
    """One life of an agent, with all it did."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.steps: list[str] = []
        self.dead = asyncio.Event()
        self._kill_after = kill_after

    def kill_after(self, steps: int) -> None:
        """Die after so many more steps."""
        self._kill_after = len(self.steps) + steps

    def check(self) -> None:
        """A dead process does nothing."""
        if self.dead.is_set():
            raise Killed

    def kill_after_more(self, steps: int) -> None:
        """Let it die after that many steps from now on."""
        self._kill_after = len(self.steps) + steps

    def did(self, step: str) -> None:
        """Something was done; this may have been the last thing."""
        self.steps.append(step)
        if len(self.steps) == self._kill_after:
            self.dead.set()
        self.check()

    async def did_by_asking(self, step: str) -> None:
        """The same for what is done elsewhere: a dead asker never hears the answer."""
        try:
            self.did(step)
        except Killed:
            await self.alive()

    async def alive(self) -> None:
        """Returns only in a living process."""
        if self.dead.is_set():
            await asyncio.Event().wait()


class SmallAcceptor:
    """In the place of the acceptor: takes the writer's log in the call that asks for it."""

    def __init__(self, volume: SmallVolume, **given: Any) -> None:
        self._volume = volume
        self._copy = cast("CopyStore", given["copy"])
        self._identity = cast("Identity", given["identity"])
        self._writer = cast("TcpEndpoint", given["writer"])
        self.term = cast("Term", given["term"])
        self.sentence = "a stand-in"
        self.stopped = asyncio.Event()
        self.promise_when_stopped: Term | None = None
        self.history_when_started = self._copy.history()
        volume.acceptors.append(self)

    def start(self) -> None:
        self.pull()

    def stop(self) -> None:
        record = self._copy.record
        self.promise_when_stopped = None if record is None else record.promise.term
        self.stopped.set()

    async def join(self) -> None:
        await self.stopped.wait()

    def stream_state(self) -> StreamState:
        if self.stopped.is_set():
            return StreamState.NONE
        return StreamState.CLOSED if self._sender() is None else StreamState.STREAMING

    def pull(self) -> None:
        """Take all that the writer has, unless it is withheld."""
        sender = self._sender()
        if sender is None or self.stopped.is_set() or self._copy.view().slot in self._volume.dry:
            return
        while (begin := self._copy.scl()) < sender.end:
            end = min(sender.end, sender.history.end_of_run(begin) or sender.end)
            term = sender.history.term_of_byte(begin)
            assert term is not None
            self._copy.append(begin, bytes(end - begin), term)
            self._copy.sync()

    def _sender(self) -> SmallMachine | None:
        machine = self._volume.machines.get(self._writer.server_name)
        if machine is None or self._identity not in machine.slots:
            return None
        return machine if machine.sends(self.term) else None


class SmallPod:
    """A storage pod: its copy, what it answers, and its end of the hub."""

    def __init__(self, volume: SmallVolume, slot: int, directory: Path) -> None:
        directory.mkdir()
        self.slot = Slot(slot)
        self.away = False
        self.sockets: list[SmallSocket] = []
        self.delay_seconds = 0.0
        self.refuses_prevotes = False
        self._lives = 0
        store = CopyStore.open(
            directory,
            IDENTITIES[slot],
            self.slot,
            files=QuickFiles(),
            segment_bytes=_SEGMENT_BYTES,
        )
        store.begin_fill()
        store.append(at(0), bytes(BORN_BYTES), Term(1))
        store.sync()
        store.complete_birth(
            born_record(volume.record, self.slot, "7000000000000000001", at(BORN_BYTES))
        )
        self._volume = volume
        self._directory = directory
        self.hold(store)

    def hold(self, store: CopyStore) -> None:
        """This is its copy now."""
        self.store = store
        self.hub = HubEnd(lambda: position_to_hub(self.asks.view()), self._learn)
        self.watch = WatchEnd(lambda: self.asks.misses_writer())
        place = small_place(f"shop-storage-{self.slot}", self._directory)
        self.birth = CopyBirth(
            place=place,
            store=store,
            page_store=cast("PageStore", _Quiet()),
            tier=self._volume.tier,
        )
        self.asks = StorageAsks(
            store=store,
            birth=self.birth,
            page_store=cast("PageStore", _Quiet()),
            tier=self._volume.tier,
            tls=TlsFiles(self._directory),
            beat_silent_seconds=lambda: self.hub.silent_seconds,
            on_stream=self.watch.notify,
            on_fatal=self._volume.fatal.append,
        )
        store.on_change(self.hub.notify)

    @property
    def scl(self) -> Lsn:
        """The end of its log; zero without one."""
        return self.store.view().scl or Lsn(0)

    @property
    def promised(self) -> Term:
        assert self.store.record is not None
        return self.store.record.promise.term

    def lose_disk(self) -> None:
        """The pod comes back with an empty disk, under the identity that it was configured with."""
        self.asks.stop_stream()
        self.store.close()
        self._lives += 1
        self._directory = self._directory.with_name(f"copy-{self.slot}-{self._lives}")
        self._directory.mkdir()
        self.hold(
            CopyStore.open(
                self._directory,
                IDENTITIES[self.slot],
                self.slot,
                volume_id=self._volume.record.volume_id,
                files=QuickFiles(),
                segment_bytes=_SEGMENT_BYTES,
            )
        )
        for socket in self.sockets:
            socket.cut()

    def roll_back(self, end: Lsn) -> None:
        """The disk lied, or came from an older snapshot: log that was durable is gone."""
        self.asks.stop_stream()
        record = self.store.record
        assert record is not None
        self.store.close()
        log = LogStore.open(
            self._directory / LOG_DIRECTORY,
            files=QuickFiles(),
            segment_bytes=_SEGMENT_BYTES,
            salt=record.identity.encode(),
        )
        log.truncate(end)
        log.close()
        write_record(QuickFiles(), self._directory, replace(record, scl_floor=LOG_START))
        store = CopyStore.open(
            self._directory,
            record.identity,
            self.slot,
            files=QuickFiles(),
            segment_bytes=_SEGMENT_BYTES,
        )
        self.hold(store)
        self.birth.done.set()  # it serves
        for socket in self.sockets:
            socket.cut()

    def cut_off(self) -> None:
        """Nobody reaches it, and connections that were there are silent."""
        self.away = True
        for socket in self.sockets:
            socket.cut()

    def _learn(self, beat: HubBeat) -> bool:
        self.asks.hear_consent(beat)
        if beat.vdl is not None:
            self.store.learn_vdl(Vdl(beat.term, beat.vdl))
        record = self.store.record
        return record is not None and record.promise == Promise(beat.term, beat.attempt_id)


class _Quiet:
    """In the place of the page store: pages are there."""

    def status(self) -> PageStoreStatus:
        return PageStoreStatus(running=True)


class SmallVolume:
    """The six pods and those who write to them; ``close`` ends what it started."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.record = VolumeRecord(VolumeId("volume"), IDENTITIES)
        self.machines: dict[str, SmallMachine] = {}
        self.instances: dict[str, SmallInstance] = {}
        self.acceptors: list[SmallAcceptor] = []
        self.dry: set[int] = set()
        """Slots that get no log at the moment."""
        self.fills: list[Identity] = []
        """Every identity that a fill was begun for."""
        self.fills_wait = False
        """Fills stop half way, until this is over."""
        self.fatal: list[str] = []
        self.violations: list[str] = []
        """What must never have happened; looked at when a test ends."""
        self.config = agent_config()
        self.tier = self.tier_for(Process())
        monkeypatch.setattr(asks_module, "Acceptor", lambda **given: SmallAcceptor(self, **given))
        fills = lambda **given: SmallFilling(self, **given)  # noqa: E731
        monkeypatch.setattr(birth_module, "CopyFilling", fills)
        self.pods = [SmallPod(self, slot, directory / f"copy-{slot}") for slot in range(6)]
        self.serving: set[asyncio.Task[None]] = set()

    def tier_for(self, process: Process) -> StorageTier:
        """The storage tier as one process reaches it."""
        return StorageTier(self.config, cast("AgentClient", SmallClient(self, process)))

    def pod(self, name: str) -> SmallPod:
        return self.pods[int(name.rpartition("-")[2])]

    def pull(self) -> list[Lsn]:
        """The writer's log moved, or may flow again; where the copies are then."""
        for acceptor in list(self.acceptors):
            acceptor.pull()
        return [pod.scl for pod in self.pods]

    async def close(self) -> None:
        for pod in self.pods:
            await pod.asks.close()
            pod.store.close()
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)
        assert not self.violations
        assert not self.fatal


class SmallClient:
    """In the place of the agents' client: calls go straight to the pod."""

    def __init__(self, volume: SmallVolume, process: Process) -> None:
        self._volume = volume
        self._process = process

    async def fetch_storage_status(
        self, agent: AgentAddress, timeout_seconds: float = 1.0
    ) -> StorageStatus:
        return await (await self._reach(agent)).asks.status(None)

    async def prevote(
        self, agent: AgentAddress, ask: PrevoteAsk, timeout_seconds: float = 1.0
    ) -> StorageAnswer:
        pod = await self._reach(agent)
        answer = await pod.asks.prevote(ask)
        return answer.model_copy(update={"granted": False}) if pod.refuses_prevotes else answer

    async def promise(
        self, agent: AgentAddress, ask: PromiseAsk, timeout_seconds: float = 1.0
    ) -> StorageAnswer:
        answer = await (await self._reach(agent)).asks.promise(ask)
        await self._process.did_by_asking(f"promise {agent.pod}")
        return answer

    async def adopt(self, agent: AgentAddress, ask: AdoptAsk) -> StorageAnswer:
        answer = await (await self._reach(agent)).asks.adopt(ask)
        await self._process.did_by_asking(f"adopt {agent.pod}")
        return answer

    async def refill(self, agent: AgentAddress, ask: RefillAsk) -> StorageAnswer:
        answer = await (await self._reach(agent)).asks.refill(ask)
        await self._process.did_by_asking(f"refill {agent.pod}")
        return answer

    async def store_members(self, agent: AgentAddress, ask: MembersAsk) -> StorageAnswer:
        answer = await (await self._reach(agent)).asks.store_members(ask)
        await self._process.did_by_asking(f"members {agent.pod}")
        return answer

    async def connect_hub(self, agent: AgentAddress) -> SmallSocket:
        pod = await self._reach(agent)
        return self._connected(pod, pod.hub.serve)

    async def connect_watch(self, agent: AgentAddress) -> SmallSocket:
        pod = await self._reach(agent)
        return self._connected(pod, pod.watch.serve)

    def _connected(
        self, pod: SmallPod, serve: Callable[[web.WebSocketResponse], Coroutine[Any, Any, None]]
    ) -> SmallSocket:
        near, far = SmallSocket.pair(self._process.dead.is_set)
        pod.sockets.append(far)
        task = asyncio.create_task(serve(cast("web.WebSocketResponse", far)))
        self._volume.serving.add(task)
        task.add_done_callback(self._volume.serving.discard)
        return near

    async def fetch_instance_status(
        self, agent: AgentAddress, timeout_seconds: float = 1.0
    ) -> InstanceStatus:
        return (await self._reach_instance(agent)).status()

    async def open(self, agent: AgentAddress, ask: OpenAsk) -> InstanceAnswer:
        one = await self._reach_instance(agent)
        life = one.life
        accepted, sentence = life.expect_opening() if ask.soon else life.wish_open(ask.reason)
        await self._process.did_by_asking(f"{'soon' if ask.soon else 'open'} {agent.pod}")
        return InstanceAnswer(accepted=accepted, sentence=sentence, status=one.status())

    async def _reach_instance(self, agent: AgentAddress) -> SmallInstance:
        await self._process.alive()
        await asyncio.sleep(0)
        one = self._volume.instances.get(agent.pod)
        if one is None or one.process.dead.is_set():
            raise AgentUnreachable(agent.pod, "it is away")
        return one

    async def _reach(self, agent: AgentAddress) -> SmallPod:
        await self._process.alive()
        pod = self._volume.pod(agent.pod)
        if pod.delay_seconds:
            await asyncio.sleep(pod.delay_seconds)
        await asyncio.sleep(0)
        await self._process.alive()
        if pod.away:
            raise AgentUnreachable(agent.pod, "it is away")
        return pod


def small_place(pod: str, directory: Path) -> Place:
    """Where an agent stands, in one directory."""
    return Place(
        pod=pod,
        namespace="test",
        pod_uid=f"uid-{pod}",
        pod_ip="192.0.2.1",
        boot_id="boot",
        config_file=directory,
        tls=directory,
        master=directory,
        disk=directory,
        run=directory,
    )


def agent_config() -> AgentConfig:
    """The cluster as its agents know it."""
    return AgentConfig(
        cluster="shop",
        namespace="test",
        storage=tuple(
            StoragePodAddress(slot=Slot(n), pod=f"shop-storage-{n}", host=f"shop-storage-{n}")
            for n in range(6)
        ),
        birth=BirthRecord(volume_id=VolumeId("volume"), identities=IDENTITIES),
        writer_endpoint_slice="shop-writer",
        reader_endpoint_slice="shop-reader",
        instance_service="shop-instances",
    )
