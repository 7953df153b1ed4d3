"""The life of an instance: what is found on its disk, replica, candidate, writer, and round again.

One task walks this path and is the only one that starts or stops the server. Whatever ends a
stretch of it (the server ended, an attempt failed, three members promised higher) leads back to
the beginning, where the mark decides what the data is good for (rule 11). Asks from outside only
leave a wish here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeVar

import structlog

from aurora_operator.agent.instance.herald import Herald
from aurora_operator.agent.instance.hydration import hydrate
from aurora_operator.agent.instance.isolation import watch_over_clients
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.agent.instance.mark import MarkFile
from aurora_operator.agent.instance.opening import (
    Candidate,
    OpenedVolume,
    OpeningFailed,
    OpeningRefused,
    open_volume,
)
from aurora_operator.agent.instance.replacing import replace_lost_copies
from aurora_operator.agent.instance.replica import CannotFollow, Replica
from aurora_operator.agent.instance.restart import StoppedWriter
from aurora_operator.agent.instance.switchover import Switchovers
from aurora_operator.agent.place import Place
from aurora_operator.agent.tier import StorageTier
from aurora_operator.api.messages import InstanceRole, WriterAddress
from aurora_operator.core.detection import Standing
from aurora_operator.core.lsn import Term
from aurora_operator.core.names import Identity, InstanceName
from aurora_operator.core.restart import Stopped, judge_start
from aurora_operator.core.verdicts import Wipe
from aurora_operator.engines.postgresql.server import ServerEnded
from aurora_operator.telemetry import metrics

log = structlog.get_logger()

Result = TypeVar("Result")

_LIFE_PAUSE_SECONDS: Final = 0.05
_ERROR_PAUSE_SECONDS: Final = 1.0


class Instance:
    """One instance's path; its state is read by the API."""

    def __init__(
        self,
        *,
        place: Place,
        port: int,
        identities: tuple[Identity, ...],
        tier: StorageTier,
        machine: Machine,
        marks: MarkFile,
        herald: Herald,
    ) -> None:
        self.role = InstanceRole.STARTING
        self.sentence = "starting"
        self.replica = Replica(machine, tier)
        self.opened: OpenedVolume | None = None
        self.opened_at: datetime | None = None
        self.refusals = 0
        """Attempts to open that were refused since the last one that was not."""
        self.switchovers = Switchovers(machine, tier.client, herald.find_peers)
        self._place = place
        self._tier = tier
        self._machine = machine
        self._marks = marks
        self._herald = herald
        self._candidate = Candidate(
            place,
            machine,
            tier,
            marks,
            identities,
            WriterAddress(instance=InstanceName(place.pod), ip=place.pod_ip, port=port),
        )
        self._open_wish: str | None = None
        self._lost: tuple[Identity, ...] = ()
        self._open_wished = asyncio.Event()
        self._restart_wished = asyncio.Event()

    @property
    def term(self) -> Term | None:
        """The term of the open writer."""
        return None if self.opened is None else self.opened.promise.term

    @property
    def can_open(self) -> bool:
        """It has a server that could become the writer: it was asked, it would try."""
        return self.role is InstanceRole.REPLICA and self._machine.server.running

    def standing(self) -> Standing | None:
        """What the copies are told of it, if it could open the volume."""
        if not self.can_open:
            return None
        healthy = self._machine.door.is_open and self.replica.streaming
        return Standing(InstanceName(self._place.pod), healthy, self.replica.applied_lsn)

    def wish_open(self, reason: str, lost: Sequence[Identity] = ()) -> tuple[bool, str]:
        """Take note that this instance should open the volume; asking again is harmless.

        ``lost``: three members that were recorded as lost for good (rule 10). It is a fact, once
        told it is kept: the next attempt may be begun by somebody who was not told.
        """
        self._lost = tuple(lost) or self._lost
        if self.role is InstanceRole.WRITER:
            return True, f"it is the writer of term {self.term} already"
        if self.role is InstanceRole.STOPPED:
            return False, "it holds an ended writer; ask it to restart, or open with a replica"
        if self.role is InstanceRole.OPENING:
            return True, "an attempt to open is under way"
        self._open_wish = reason
        self._open_wished.set()
        return True, "it will try to open the volume"

    def expect_opening(self) -> tuple[bool, str]:
        """A wish to open follows within seconds: end the readers, who would hold it up."""
        if self.role is not InstanceRole.REPLICA:
            return self.role is InstanceRole.OPENING, f"it is {self.role}"
        self.replica.expect_opening()
        return True, "its readers are ended; it waits to be asked to open"

    def wish_restart(self) -> tuple[bool, str]:
        """Take note that the ended writer should start on its own disk (rule 11)."""
        if self.role is InstanceRole.STOPPED:
            self._restart_wished.set()
            return True, "it restarts as soon as four copies of its term answer"
        return False, f"it is {self.role}: there is no ended writer to restart"

    async def run(self) -> None:
        """Live, until cancelled."""
        await self._machine.relay.start()
        while True:
            try:
                await self._live()
            except Exception as error:
                log.exception("this life ended by an error; beginning again")
                self._say(InstanceRole.STARTING, f"{type(error).__name__}: {error}")
                await self._end_writer()
                await self._machine.stop()
                await asyncio.sleep(_ERROR_PAUSE_SECONDS)
            await asyncio.sleep(_LIFE_PAUSE_SECONDS)

    async def shut_down(self) -> None:
        """Orderly end of the pod: door shut, sessions and server ended."""
        await self._end_writer()
        await self._machine.close()

    async def _live(self) -> None:
        mark = self._marks.read()
        found = judge_start(
            mark,
            data_present=self._machine.data_present,
            pod_uid=self._place.pod_uid,
            boot_id=self._place.boot_id,
        )
        log.info("instance begins", found=type(found).__name__.lower(), sentence=found.sentence)
        self._say(InstanceRole.STARTING, found.sentence)
        if isinstance(found, Stopped) and mark is not None:
            self._say(InstanceRole.STOPPED, found.sentence)
            self._herald.tell_server_running(False, found.sentence)
            stopped = StoppedWriter(mark, self._candidate, self._restart_wished)
            opened = await stopped.wait_for_decision()
            self._restart_wished.clear()
            if opened is None:
                return await self._wipe("the ended writer's term is over")
        else:
            if isinstance(found, Wipe) or mark is not None:
                await self._wipe(found.sentence)
            await hydrate(self._machine, self._tier, self._place.pod, self._say_starting)
            opened = await self._be_replica()
        if opened is not None:
            await self._be_writer(opened)
        return None

    async def _be_replica(self) -> OpenedVolume | None:
        """Follow the volume until asked to open it; ``None`` when this life is over."""
        try:
            await self._machine.start_replica()
            self._herald.tell_server_running(True, "the server runs")
            while True:
                self._say(InstanceRole.REPLICA, "follows the volume")
                reason = await self._while_server_runs(self._follow_until_asked())
                self._say(InstanceRole.OPENING, f"opening: {reason}")
                try:
                    opening = open_volume(self._candidate, reason, self._lost)
                    return await self._while_server_runs(opening)
                except OpeningRefused as error:
                    metrics.OPENINGS.labels(outcome="refused").inc()
                    log.warning("opening refused; still a replica", reason=str(error))
                    self.refusals += 1
                    self.replica.last_refusal = str(error)
        except OpeningFailed as error:
            metrics.OPENINGS.labels(outcome="failed").inc()
            log.error("opening failed; this data is thrown away", reason=str(error))
            self._say(InstanceRole.STARTING, f"opening failed: {error}")
            await self._machine.stop()
        except ServerEnded as error:
            log.error("server of a replica ended", reason=str(error))
            self._say(InstanceRole.STARTING, str(error))
        except CannotFollow as error:
            log.error("replica cannot follow", reason=str(error))
            self._say(InstanceRole.STARTING, str(error))
            await self._machine.stop()
        return None

    async def _follow_until_asked(self) -> str:
        """Keep the replica well; returns the reason when an opening is wished for."""
        watch = asyncio.create_task(self.replica.watch(), name="watch the replica")
        asked = asyncio.create_task(self._open_wished.wait(), name="wait for a wish to open")
        try:
            await asyncio.wait({watch, asked}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                watch.result()
        finally:
            for task in (watch, asked):
                task.cancel()
            await asyncio.wait({watch, asked})
        self._open_wished.clear()
        return self._open_wish or "asked"

    async def _be_writer(self, opened: OpenedVolume) -> None:
        """Serve as the writer until the server ends or the volume moved on (rule 12)."""
        metrics.OPENING_SECONDS.observe(opened.seconds)
        self.opened = opened
        self.opened_at = datetime.now(UTC)
        self.refusals = 0
        metrics.OPENINGS.labels(outcome="opened").inc()
        term = opened.promise.term
        self._say(InstanceRole.WRITER, f"the writer of term {term}")
        self._open_wished.clear()
        self._herald.tell_server_running(True, f"the writer of term {term}")
        announcing = asyncio.create_task(
            self._herald.announce_writer(term), name="announce the writer"
        )
        guarding = asyncio.create_task(
            watch_over_clients(opened.following, self._machine), name="guard the door"
        )
        replacing = asyncio.create_task(
            replace_lost_copies(opened.following, self._machine), name="replace lost copies"
        )
        try:
            serving = self.switchovers.serve(opened.following, time.monotonic())
            await self._while_server_runs(serving)
            sentence = f"{opened.following.why_over}: standing down"
            log.warning("standing down", term=term, reason=sentence)
            self._say(InstanceRole.STARTING, sentence)
        except ServerEnded as error:
            log.error("the writer's server ended", term=term, reason=str(error))
            self._say(InstanceRole.STOPPED, str(error))
            self._herald.tell_server_running(False, str(error))
            guarding.cancel()  # first: it would open the door again while the copies answer
            await self._end_writer()
            return
        finally:
            for task in (announcing, guarding, replacing):
                task.cancel()
            await asyncio.wait([announcing, guarding, replacing])
        self._machine.shut_door()
        await self._end_writer()
        await self._machine.stop()
        await self._wipe(sentence)

    async def _end_writer(self) -> None:
        self._machine.shut_door()
        opened, self.opened = self.opened, None
        if opened is not None:
            await opened.following.stop()

    async def _wipe(self, sentence: str) -> None:
        """Data first, then the mark, so that no crash leaves marked bytes without a mark.

        A mark that says "opened" would call what a crash leaves of the data unharmed; so it is
        taken back before the first file goes (rule 11).
        """
        log.info("data thrown away", reason=sentence)
        mark = self._marks.read()
        if mark is not None and mark.opened:
            self._marks.write(replace(mark, opened=False))
        await self._machine.wipe()
        self._marks.remove()

    async def _while_server_runs(self, work: Awaitable[Result]) -> Result:
        """Do ``work``, or raise ``ServerEnded`` if the server ends before it is done."""
        working = asyncio.ensure_future(work)
        ended = asyncio.create_task(self._machine.server.wait_exit(), name="wait for server end")
        try:
            await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            working.cancel()  # before the next await: what it still brought about would be nobody's
            await asyncio.wait({working})
            raise ServerEnded(await self._machine.server.ended_sentence())
        finally:
            for task in (working, ended):
                task.cancel()
            await asyncio.wait({working, ended})

    def _say(self, role: InstanceRole, sentence: str) -> None:
        self.role = role
        self.sentence = sentence

    def _say_starting(self, sentence: str) -> None:
        self._say(InstanceRole.STARTING, sentence)
