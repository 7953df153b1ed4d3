"""An instance pod, put together: its life, its API, and what it tells of itself."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from aurora_operator.agent.client import AgentAddress, AgentClient
from aurora_operator.agent.http import AgentServer, Health, Route
from aurora_operator.agent.instance.herald import Herald
from aurora_operator.agent.instance.lifecycle import Instance
from aurora_operator.agent.instance.lookout import Lookout
from aurora_operator.agent.instance.machine import Machine
from aurora_operator.agent.instance.mark import MarkFile
from aurora_operator.agent.instance.switchover import LEAVE_SECONDS, Wish
from aurora_operator.agent.place import Place
from aurora_operator.agent.supervisor import OnCrash, Supervisor
from aurora_operator.agent.tier import StorageTier
from aurora_operator.agent.tls import Certificates, PeerRole, organisation_of
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.api.messages import (
    HandOverAsk,
    InstanceAnswer,
    InstanceRole,
    InstanceStatus,
    OpenAsk,
    RestartAsk,
)
from aurora_operator.core.names import InstanceName
from aurora_operator.engines.postgresql.guard_door import HeldStatements
from aurora_operator.engines.postgresql.queries import QuestionFailed
from aurora_operator.telemetry import metrics

log = structlog.get_logger()

STOP_SECONDS: Final = 12.0
GRACE_SECONDS: Final = LEAVE_SECONDS + STOP_SECONDS
"""What the end of an instance's pod may take in all."""
_UPKEEP_SECONDS: Final = 1.0


class InstancePod:
    """All parts of one instance pod."""

    def __init__(
        self, place: Place, config: AgentConfig, supervisor: Supervisor, herald: Herald
    ) -> None:
        self._place = place
        self._supervisor = supervisor
        self._herald = herald
        self._certificates = Certificates(place.tls)
        self._tier = StorageTier(config, AgentClient(self._certificates.client()))
        self._machine = Machine(place, config, self._tier)
        self._instance = Instance(
            place=place,
            port=config.port,
            identities=config.birth.identities,
            tier=self._tier,
            machine=self._machine,
            marks=MarkFile(place.disk / "mark.json"),
            herald=herald,
        )
        self._lookout = Lookout(self._tier, InstanceName(place.pod), self._instance)
        self._news = (place.config_file.read_bytes(), place.read_password())
        self._server_identity: tuple[str, str] | None = None
        self._pending_restart: tuple[str, ...] = ()
        self._held = HeldStatements()
        operator = frozenset({PeerRole.OPERATOR})
        asks_status = frozenset({PeerRole.OPERATOR, PeerRole.INSTANCE})  # and a switchover's target
        self._server = AgentServer(
            certificates=self._certificates,
            organisation=organisation_of(config.namespace, config.cluster),
            listen=place.listen,
            routes=[
                Route("GET", "/v1/instance/status", asks_status, None, self._answer_status),
                Route("POST", "/v1/instance/open", asks_status, OpenAsk, self._open),
                Route("POST", "/v1/instance/hand-over", operator, HandOverAsk, self._hand_over),
                Route("POST", "/v1/instance/restart", operator, RestartAsk, self._restart),
            ],
            sockets=[],
            health=Health(live=lambda: True, ready=self._why_not_ready),
        )

    async def start(self) -> None:
        """Open the API and begin the instance's life."""
        await self._server.start()
        self._supervisor.start("tell Kubernetes", self._herald.run, OnCrash.RESTART)
        self._supervisor.start("look up addresses", self._tier.keep_addresses, OnCrash.RESTART)
        self._supervisor.start("upkeep", self._upkeep, OnCrash.RESTART)
        self._supervisor.start("life", self._instance.run, OnCrash.END)
        self._supervisor.start("lookout", self._lookout.run, OnCrash.RESTART)

    async def leave(self) -> None:
        """Before an orderly end, while all parts still work: an open writer hands over."""
        await self._instance.switchovers.leave()

    async def shut_down(self) -> None:
        """Orderly end: door shut, sessions and server ended, then everything is closed."""
        await self._instance.shut_down()
        await self._server.stop()
        await self._herald.close()
        await self._tier.client.close()

    def status(self) -> InstanceStatus:
        """What this instance is at the moment."""
        instance, machine = self._instance, self._machine
        is_writer = instance.role is InstanceRole.WRITER
        # A candidate whose door is still open only asked around so far: it reads as before.
        follows = instance.role in (InstanceRole.REPLICA, InstanceRole.OPENING)
        streams = follows and instance.replica.streaming
        identifier, version = self._server_identity or (None, None)
        following = None if instance.opened is None else instance.opened.following
        told = () if following is None else (following.stranded, following.waiting)
        return InstanceStatus(
            name=InstanceName(self._place.pod),
            role=instance.role,
            healthy=machine.door.is_open and (is_writer or streams),
            can_open=instance.can_open,
            restartable=instance.role is InstanceRole.STOPPED,
            term=instance.term,
            applied_lsn=None if is_writer else instance.replica.applied_lsn,
            vdl=None if following is None else following.durable,
            door_open=machine.door.is_open,
            copies=() if following is None else following.describe(),
            hand_over=instance.switchovers.status(),
            system_identifier=identifier,
            server_version=version,
            opened_at=None if instance.opened_at is None else instance.opened_at.isoformat(),
            pending_restart=self._pending_restart,
            sentence="; ".join(filter(None, (instance.sentence, *told))),
        )

    async def _answer_status(self, _ask: None) -> InstanceStatus:
        return self.status()

    async def _open(self, ask: OpenAsk) -> InstanceAnswer:
        instance = self._instance
        accepted, sentence = (
            instance.expect_opening() if ask.soon else instance.wish_open(ask.reason, ask.lost)
        )
        log.info(
            "asked to open", reason=ask.reason, soon=ask.soon, accepted=accepted, sentence=sentence
        )
        return InstanceAnswer(accepted=accepted, sentence=sentence, status=self.status())

    async def _hand_over(self, ask: HandOverAsk) -> InstanceAnswer:
        target = AgentAddress(ask.to, ask.host)
        accepted, sentence = self._instance.switchovers.wish(Wish(ask.request, ask.reason, target))
        return InstanceAnswer(accepted=accepted, sentence=sentence, status=self.status())

    async def _restart(self, ask: RestartAsk) -> InstanceAnswer:
        accepted, sentence = self._instance.wish_restart()
        log.info("asked to restart", reason=ask.reason, accepted=accepted, sentence=sentence)
        return InstanceAnswer(accepted=accepted, sentence=sentence, status=self.status())

    def _why_not_ready(self) -> str | None:
        status = self.status()
        return None if status.healthy else f"{status.role}: {status.sentence}"

    async def _upkeep(self) -> None:
        """Now and then: metrics, certificates, and what only the server can tell."""
        while True:
            await asyncio.sleep(_UPKEEP_SECONDS)
            if self._certificates.refresh():
                log.info("certificates read again")
                if self._machine.server.running:
                    self._machine.server.reload()
            self._measure()
            try:
                await self._take_news()
                if self._instance.role in (InstanceRole.WRITER, InstanceRole.REPLICA):
                    self._server_identity = await self._machine.sql.identity()
                    self._pending_restart = await self._machine.sql.pending_restart()
            except QuestionFailed as error:  # its end, if that is it, is noticed elsewhere
                log.info("the server does not answer", reason=str(error))

    async def _take_news(self) -> None:
        """Parameters or the master password may have changed under us."""
        news = (self._place.config_file.read_bytes(), self._place.read_password())
        if news == self._news:
            if self._instance.role is InstanceRole.WRITER:
                await self._machine.renew_lost_slots()
            return
        log.info("configuration or password changed")
        self._machine.take_config(self._place.read_config())
        if self._instance.role is InstanceRole.WRITER:
            await self._machine.ensure_database_objects()
        self._news = news

    def _measure(self) -> None:
        status = self.status()
        metrics.INSTANCE_WRITER.set(status.role is InstanceRole.WRITER)
        metrics.INSTANCE_DOOR_OPEN.set(status.door_open)
        metrics.INSTANCE_TERM.set(status.term or 0)
        before, self._held = self._held, self._machine.door.held()
        metrics.STATEMENTS_HELD.inc(self._held.count - before.count)
        metrics.STATEMENTS_HELD_SECONDS.inc((self._held.total_ns - before.total_ns) / 1e9)
        following = None if self._instance.opened is None else self._instance.opened.following
        if following is not None and following.hub is not None:
            metrics.VOLUME_VDL_BYTES.set(following.vdl or 0)
            metrics.VOLUME_COPIES_COUNTING.set(following.hub.counting)
