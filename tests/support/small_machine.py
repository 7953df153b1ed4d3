"""An instance's server and its surroundings in memory, and a whole instance around it.

The data directory is a real one with a small file in it that says what the data is worth: how far
its log goes, and whether it holds log that the volume may not keep. A server that is started on
data it must not be started on leaves a violation with the volume: an error would be swallowed by
the agent, which takes it for a server that does not start.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

from aurora_operator.agent.client import AgentAddress
from aurora_operator.agent.instance.herald import SilentHerald
from aurora_operator.agent.instance.lifecycle import Instance
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.agent.instance.mark import MarkFile
from aurora_operator.agent.instance.opening import Candidate
from aurora_operator.api.messages import InstanceRole, InstanceStatus, WriterAddress
from aurora_operator.core.copy import Promise
from aurora_operator.core.gate import judge_uncapped
from aurora_operator.core.history import TermHistory, TermStart
from aurora_operator.core.lsn import Lsn, Term
from aurora_operator.core.names import AttemptId, Identity, InstanceName, Slot
from aurora_operator.core.restart import Mark
from aurora_operator.core.verdicts import Proceed
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint
from aurora_operator.engines.postgresql.queries import QuestionFailed, ReplayFacts, WriterFacts
from support.copies import IDENTITIES, history, promise
from support.small_volume import Killed, Process, SmallPod, SmallVolume, small_place

FIRST_RECORD_BYTES: Final = 24
TAIL_BYTES: Final = 50
_WAIT_SECONDS: Final = 10.0


class SmallMarks(MarkFile):
    """The mark's file, in steps of a process."""

    def __init__(self, path: Path, process: Process) -> None:
        super().__init__(path)
        self._process = process

    def write(self, mark: Mark) -> None:
        self._process.check()
        super().write(mark)
        self._process.did("mark opened" if mark.opened else "mark")

    def remove(self) -> None:
        self._process.check()
        super().remove()
        self._process.did("mark removed")


class SmallMachine:
    """In the place of ``Machine``, its server, its SQL, its door and its relay, all in one."""

    def __init__(self, volume: SmallVolume, pod: str, directory: Path, process: Process) -> None:
        self.server = self.sql = self.door = self.relay = self
        self.running = False
        self.is_open = False
        self.timeline_skew = 0
        """Makes the next promotion end on a wrong timeline."""
        self.questions_to_fail = 0
        self.busy_sessions = 0
        """Client sessions in the middle of a transaction; they end when the door is shut."""
        self.sessions_hang = False
        self.stamps_ns: list[int] = []
        self.history: TermHistory = history((1, 0))
        self.end = Lsn(0)
        self.slots: set[Identity] = set()
        self.in_force: tuple[Identity, ...] = ()
        """Whom commits wait for."""
        self._volume = volume
        self._data = directory / "data"
        self._process = process
        self._ended = asyncio.Event()
        self._in_recovery = True
        self._gate: tuple[Promise, Slot] | None = None
        volume.machines[pod] = self

    # --- the directory ---

    @property
    def data_present(self) -> bool:
        return self._data.is_dir() and any(self._data.iterdir())

    async def take_base(self, _slot: Slot) -> None:
        self._process.check()
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir()
        self._gate = None
        self.end = Lsn(0)
        self._served()
        self._save("base")

    async def wipe(self) -> None:
        """In two steps: half of it is gone for a while."""
        self._end()
        self._process.check()
        if self._data.is_dir():
            (self._data / "half").touch()
            self._process.did("half wiped")
            shutil.rmtree(self._data)
        self._process.did("wiped")

    # --- the server ---

    async def start_replica(self) -> None:
        self._gate = None
        state = self._load()
        self._must(state["worth"] == "base", f"a replica starts on data that is {state['worth']}")
        self._in_recovery = True
        self._begin("replica starts")

    async def start_again(self) -> None:
        state = self._load()
        self._must(state["worth"] == "writer", f"a writer starts on data that is {state['worth']}")
        self._in_recovery = False
        self._begin("writer starts again")

    def write(self, length_bytes: int) -> None:
        """As the writer: more log."""
        self.end = self.end.advanced(length_bytes)
        self._save("writer")

    def sends(self, term: Term) -> bool:
        """Whether it is the running writer of that term."""
        return self.running and not self._in_recovery and self.history.last.term == term

    def crash(self) -> None:
        """The server ends by itself."""
        self._end()

    async def stop(self) -> None:
        self._end()

    async def close(self) -> None:
        self._end()

    async def wait_exit(self) -> int:
        await self._ended.wait()
        return 1

    async def ended_sentence(self) -> str:
        return "it ended"

    def request_promotion(self, skipped: Sequence[Term]) -> None:
        self._process.check()
        number = self.history.last.term + 1
        while number in skipped:
            number += 1
        term = Term(number + self.timeline_skew)
        begin = self.end
        self.history = TermHistory((*self.history.entries, TermStart(term, begin)))
        self.end = begin.advanced(FIRST_RECORD_BYTES)
        self._in_recovery = False
        self._save("writer")
        self._process.did("promoted")

    # --- SQL ---

    async def replay_facts(self) -> ReplayFacts:
        if self.questions_to_fail:
            self.questions_to_fail -= 1
            raise QuestionFailed("the own server: no connection within 5.0 s")
        if self._in_recovery:
            self._served()
        return ReplayFacts(self._in_recovery, self.end, self.end, receiver_streaming=True)

    async def client_sessions(self) -> int:
        return self.busy_sessions

    async def end_idle_sessions(self) -> int:
        return self.busy_sessions

    async def flushed_lsn(self) -> Lsn:
        return self.end

    async def in_recovery(self) -> bool:
        return self._in_recovery

    async def writer_facts(self) -> WriterFacts:
        return WriterFacts(self.history, self.end)

    async def prepare_promotion(self, identities: Sequence[Identity]) -> None:
        self._process.check()
        await asyncio.sleep(0)
        is_change = self.in_force != tuple(identities) and not self._in_recovery
        self.slots, self.in_force = set(identities), tuple(identities)
        if is_change:
            self._process.did("put in")

    async def take_out(self, identities: Sequence[Identity]) -> None:
        self._process.check()
        self.slots, self.in_force = set(identities), tuple(identities)
        self._process.did("taken out")

    async def welcome(self, guest: Identity) -> Lsn:
        self._process.check()
        self.slots.add(guest)
        self._process.did("welcomed")
        return self.end

    async def forget_promotion(self) -> None:
        self._process.check()

    async def ensure_database_objects(self) -> None:
        self._process.did("roles")

    # --- door and relay ---

    def open_door(self) -> None:
        self._process.check()
        self.is_open = True
        self._process.did("door open" if self._in_recovery else "writer's door open")

    def refuse_new_sessions(self) -> None:
        self.is_open = False
        self._process.did("new sessions refused")

    def renew_stamp(self, stamp_ns: int) -> None:
        self.stamps_ns.append(stamp_ns)

    def shut_door(self) -> None:
        self.is_open = False
        if not self.sessions_hang:
            self.busy_sessions = 0
        self._process.check()

    async def start(self) -> None:
        """The relay listens."""

    def set_uncapped(self, term: Term, attempt_id: AttemptId, gate: TcpEndpoint) -> None:
        self._process.check()
        self._gate = (Promise(term, attempt_id), self._volume.pod(gate.server_name).slot)
        self._process.did("uncapped")

    def set_capped(self) -> None:
        self._gate = None

    # --- helpers ---

    def _served(self) -> None:
        """Take what gates serve: everybody's, or as the candidate all of one copy."""
        if self._gate is not None:
            attempt, slot = self._gate
            pod = self._volume.pods[slot]
            if pod.away or not isinstance(judge_uncapped(pod.store.view(), attempt), Proceed):
                return
            point = pod.store.uncapped_point()
            worth = "uncapped"
        else:
            able = [pod for pod in self._volume.pods if not pod.away and pod.store.serve_point()]
            if not able:
                return
            pod = max(able, key=lambda pod: getattr(pod.store.serve_point(), "limit", Lsn(0)))
            point = pod.store.serve_point()
            worth = "base"
        if point is not None and point.limit > self.end:
            self.end = point.limit
            self.history = pod.store.history().truncated(self.end)
            self._save(worth)

    def _begin(self, step: str) -> None:
        self._process.check()
        self._must(not (self._data / "half").exists(), f"{step} on half a directory")
        self.running = True
        self.is_open = False
        self._ended = asyncio.Event()
        self._process.did(step)

    def _must(self, holds: bool, violation: str) -> None:
        if not holds:
            self._volume.violations.append(violation)

    def _end(self) -> None:
        self.running = False
        self.is_open = False
        self._ended.set()

    def _save(self, worth: str) -> None:
        entries = [[entry.term, int(entry.begin)] for entry in self.history.entries]
        state = {"worth": worth, "end": int(self.end), "history": entries}
        (self._data / "state").write_text(json.dumps(state))

    def _load(self) -> dict[str, object]:
        state = json.loads((self._data / "state").read_text())
        self.end = Lsn(state["end"])
        self.history = TermHistory(
            tuple(TermStart(Term(term), Lsn(begin)) for term, begin in state["history"])
        )
        return cast("dict[str, object]", state)


class SmallInstance:
    """One life of one instance pod; ``end`` it before the next one on the same directory."""

    def __init__(
        self,
        volume: SmallVolume,
        directory: Path,
        *,
        number: int = 1,
        kill_after: int | None = None,
    ) -> None:
        directory.mkdir(exist_ok=True)
        pod = f"shop-instance-{number}"
        self.process = Process(kill_after)
        self.machine = SmallMachine(volume, pod, directory, self.process)
        self.marks = SmallMarks(directory / "mark.json", self.process)
        self.place = small_place(pod, directory)
        tier = volume.tier_for(self.process)
        machine = cast("Machine", self.machine)
        self.candidate = Candidate(
            self.place,
            machine,
            tier,
            self.marks,
            IDENTITIES,
            WriterAddress(instance=InstanceName(pod), ip="192.0.2.1", port=5432),
        )
        self.life = Instance(
            place=self.place,
            port=5432,
            identities=IDENTITIES,
            tier=tier,
            machine=machine,
            marks=self.marks,
            herald=SilentHerald(
                [
                    AgentAddress(f"shop-instance-{n}", f"shop-instance-{n}")
                    for n in range(1, 4)
                    if n != number
                ]
            ),
        )
        self._task: asyncio.Task[None] | None = None
        volume.instances[pod] = self

    @property
    def agent(self) -> AgentAddress:
        return AgentAddress(self.place.pod, self.place.pod)

    def begin(self) -> None:
        self._task = asyncio.create_task(self._live(), name="life")

    async def _live(self) -> None:
        try:
            await self.life.run()
        except Killed:
            await asyncio.Event().wait()

    async def become(self, role: InstanceRole) -> None:
        """Wait until it is that, or dead."""
        await until(
            f"role {role}",
            lambda: self.life.role is role or self.process.dead.is_set(),
            lambda: f"{self.life.role}: {self.life.sentence}; {self.process.steps[-12:]}",
        )

    def status(self) -> InstanceStatus:
        """What its agent answers, as far as a switchover asks."""
        return InstanceStatus(
            name=InstanceName(self.place.pod),
            role=self.life.role,
            healthy=self.machine.is_open,
            can_open=self.life.role is InstanceRole.REPLICA and self.machine.running,
            applied_lsn=self.machine.end,
            sentence=self.life.sentence,
        )

    async def open(self) -> None:
        """Become the writer, asked again and again, as the operator does; or die on the way."""

        def opened() -> bool:
            self.life.wish_open("asked by a test")
            self.life.wish_restart()
            return self.life.role is InstanceRole.WRITER or self.process.dead.is_set()

        await until("opened", opened, lambda: f"{self.life.sentence}; {self.process.steps[-12:]}")

    async def die(self) -> None:
        """The process is gone, its server with it; nothing is tidied up, others live on."""
        self.process.dead.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.machine.crash()

    async def end(self) -> None:
        """The same, at the end of a test: what it had under way is ended too."""
        await self.die()
        await end_tasks(
            "attend ", "beats to ", "announce ", "guard ", "prepare ", "replace ", "wait "
        )


async def end_tasks(*names: str) -> None:
    """What a dead process had under way; the caller's own task goes on."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    tasks = [task for task in others if task.get_name().startswith(names)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(
    what: str, check: Callable[[], object], seen: Callable[[], object] = lambda: ""
) -> None:
    """Wait for a condition; in time, or the last thing seen is told."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in time: {what}; seen last: {seen()}")
        await asyncio.sleep(0.001)


async def leave_a_tail(volume: SmallVolume, directory: Path) -> None:
    """A writer of term 2 that died with log on three copies, which nobody acknowledged."""
    before = SmallInstance(volume, directory / "before", number=9)
    before.begin()
    await before.become(InstanceRole.REPLICA)
    await before.open()
    volume.dry = {3, 4, 5}
    before.machine.write(TAIL_BYTES)
    volume.pull()
    await before.end()
    volume.dry = set()


def supersede(pods: Sequence[SmallPod], term: int) -> None:
    """Another candidate gets their promises."""
    for pod in pods:
        assert pod.store.promise(promise(term, "another"), pod.asks.stop_stream) is None
