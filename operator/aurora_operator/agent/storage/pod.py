"""A storage pod, put together: copy, gate, acceptor, page store, hub and API.

The copy is opened first and says what it is. A full one serves at once; a blank one answers asks
until it was formatted or filled, and serves from then on. What harms the copy ends the process:
the next start reads the disk again and says what it finds.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from aurora_operator.agent.client import AgentClient
from aurora_operator.agent.http import AgentServer, Health, Route, SocketRoute
from aurora_operator.agent.place import Place
from aurora_operator.agent.storage.asks import StorageAsks
from aurora_operator.agent.storage.birth import CopyBirth
from aurora_operator.agent.storage.failure import note_failure
from aurora_operator.agent.storage.hub_end import HubEnd
from aurora_operator.agent.storage.log_removal import LogRemoval
from aurora_operator.agent.storage.mesh import run_mesh
from aurora_operator.agent.storage.page_store import PageStore
from aurora_operator.agent.storage.pressure import PressureWatch
from aurora_operator.agent.storage.scrubbing import Scrubbing
from aurora_operator.agent.storage.sessions import GateJudge
from aurora_operator.agent.storage.watch_end import WatchEnd
from aurora_operator.agent.supervisor import OnCrash, Supervisor
from aurora_operator.agent.tier import StorageTier
from aurora_operator.agent.tls import Certificates, PeerRole, organisation_of
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.api.convert import position_to_hub
from aurora_operator.api.labels import PORT_GATE
from aurora_operator.api.messages import (
    AdoptAsk,
    CopyState,
    FillAsk,
    FormatAsk,
    HubBeat,
    HubPosition,
    MembersAsk,
    PrevoteAsk,
    PromiseAsk,
    RefillAsk,
)
from aurora_operator.core.copy import Promise, Vdl
from aurora_operator.engines.postgresql.endpoint import TlsFiles
from aurora_operator.engines.postgresql.gate import GateServer
from aurora_operator.engines.postgresql.settings import LOG_SOCKET_PORT
from aurora_operator.telemetry import metrics
from aurora_operator.volume.copy_store import CopyStore
from aurora_operator.volume.errors import StorageError
from aurora_operator.volume.files import Files

log = structlog.get_logger()

STOP_SECONDS: Final = 20.0
_UPKEEP_SECONDS: Final = 1.0


class StoragePod:
    """All parts of one storage pod."""

    def __init__(self, place: Place, config: AgentConfig, supervisor: Supervisor) -> None:
        self._place = place
        self._supervisor = supervisor
        self._slot = next(pod.slot for pod in config.storage if pod.pod == place.pod)
        self._certificates = Certificates(place.tls)
        self._store = CopyStore.open(
            place.disk,
            config.birth.identities[self._slot],
            self._slot,
            volume_id=config.birth.volume_id,
        )
        self._tier = StorageTier(config, AgentClient(self._certificates.client()))
        self._page_store = PageStore(
            place, self._tier, self._slot, lambda: self._store.view().log_start
        )
        self._birth = CopyBirth(
            place=place,
            store=self._store,
            page_store=self._page_store,
            tier=self._tier,
            on_wiped=supervisor.fail,
            bytes_per_second=config.refill_bytes_per_second,
        )
        tls = TlsFiles(place.tls)
        self._hub = HubEnd(self._position, self._learn)
        self._watch = WatchEnd(lambda: self._asks.misses_writer())
        self._asks = StorageAsks(
            store=self._store,
            birth=self._birth,
            page_store=self._page_store,
            tier=self._tier,
            tls=tls,
            beat_silent_seconds=self._hub_silent,
            on_stream=self._watch.notify,
            on_fatal=self._end_in_failure,
            pressure=lambda: self._pressure.status(),
        )
        self._gate = GateServer(
            source=self._store,
            judge=GateJudge(self._store).judge,
            on_readers=self._hub.notify,
        )
        self._word: object = None
        """What the hub was told last of this copy, but for its position."""
        self._pressure = PressureWatch(
            store=self._store,
            page_store=self._page_store,
            removal=LogRemoval(
                store=self._store,
                page_store=self._page_store,
                tier=self._tier,
                slot=self._slot,
                sessions=self._gate.positions,
            ),
            disk=place.disk,
        )
        self._server = AgentServer(
            certificates=self._certificates,
            organisation=organisation_of(config.namespace, config.cluster),
            listen=place.listen,
            routes=self._routes(),
            sockets=[
                SocketRoute("/v1/storage/hub", frozenset({PeerRole.INSTANCE}), self._hub.serve),
                SocketRoute("/v1/storage/watch", frozenset({PeerRole.INSTANCE}), self._watch.serve),
            ],
            health=Health(live=lambda: True, ready=self._why_not_ready),
        )

    async def start(self) -> None:
        """Open the API, then serve the copy as soon as it is full."""
        self._store.on_change(self._changed)
        self._changed()
        await self._server.start()
        self._supervisor.start("look up addresses", self._tier.keep_addresses, OnCrash.RESTART)
        self._supervisor.start("upkeep", self._upkeep, OnCrash.END)
        self._supervisor.start("serve the copy", self._serve_when_full, OnCrash.END)
        log.info(
            "storage pod begins",
            slot=self._slot,
            state=str(self._store.state),
            sentence=self._store.view().sentence,
        )

    async def shut_down(self) -> None:
        """Orderly end: no log is taken any more, then everything is closed."""
        await self._asks.close()
        await self._page_store.close()
        await self._gate.close()
        await self._server.stop()
        await self._tier.client.close()
        self._store.save_known_vdl()
        self._store.close()

    async def _serve_when_full(self) -> None:
        if self._store.state is CopyState.FULL:
            self._birth.done.set()
        await self._birth.done.wait()
        await self._gate.start(
            host=self._place.listen,
            port=PORT_GATE,
            tls=TlsFiles(self._place.tls),
            socket_path=self._place.run / f".s.PGSQL.{LOG_SOCKET_PORT}",
        )
        store, tier, slot = self._store, self._tier, self._slot
        self._supervisor.start("page store", self._page_store.run, OnCrash.RESTART)
        self._supervisor.start(
            "mesh", lambda: run_mesh(store, tier, slot, self._hub_silent), OnCrash.RESTART
        )
        self._supervisor.start("pressure", self._pressure.run, OnCrash.RESTART)
        scrubbing = Scrubbing(
            store=store,
            tier=tier,
            slot=slot,
            tls=TlsFiles(self._place.tls),
            on_fatal=self._end_in_failure,
        )
        self._supervisor.start("scrub", scrubbing.run, OnCrash.RESTART)

    async def _upkeep(self) -> None:
        """Now and then: the VDL made durable, certificates read again."""
        while True:
            await asyncio.sleep(_UPKEEP_SECONDS)
            self._show()
            try:
                self._store.save_known_vdl()
            except StorageError as error:
                return self._end_in_failure(str(error))
            if self._certificates.refresh():
                self._gate.reload_certificate()
                self._page_store.reload()
                log.info("certificates read again")

    def _learn(self, beat: HubBeat) -> bool:
        """Take a beat in; true when it comes from the one whom this copy promised."""
        record = self._store.record
        self._asks.hear_consent(beat)
        if beat.vdl is not None:
            self._store.learn_vdl(Vdl(beat.term, beat.vdl))
        return record is not None and record.promise == Promise(beat.term, beat.attempt_id)

    def _position(self) -> HubPosition:
        return position_to_hub(
            self._asks.view(),
            takes_log=self._pressure.takes_log(),
            has_prompt_readers=self._gate.has_prompt_readers,
        )

    def _hub_silent(self) -> float:
        return self._hub.silent_seconds

    def _changed(self) -> None:
        """Log, VDL, history, promise or state moved: gates go on, the hub hears of it in time."""
        self._gate.notify()
        record = self._store.record
        word = (self._store.state, record and record.promise, record and record.history)
        if word == self._word:
            return self._hub.notify_moved()
        self._word = word
        self._hub.notify()
        return self._show()

    def _show(self) -> None:
        """In the metrics."""
        record = self._store.record
        is_full = self._store.state is CopyState.FULL
        metrics.COPY_FULL.set(is_full)
        if is_full and record is not None:
            metrics.COPY_PROMISED_TERM.set(record.promise.term)
            metrics.COPY_SCL_BYTES.set(self._store.scl())
            if record.known_vdl is not None:
                metrics.COPY_KNOWN_VDL_BYTES.set(record.known_vdl.lsn)

    def _end_in_failure(self, sentence: str) -> None:
        """Begin anew, once a failure of the copy is on its disk."""
        log.error("storage pod cannot go on", reason=sentence)

        async def end() -> None:
            await note_failure(self._store, self._place.disk, Files())
            self._supervisor.fail()

        self._supervisor.start("end in failure", end, OnCrash.RESTART)

    def _why_not_ready(self) -> str | None:
        if self._store.state is CopyState.FULL:
            return None
        return f"the copy is {self._store.state}: {self._asks.view().sentence}"

    def _routes(self) -> list[Route]:
        asks = self._asks
        everybody = frozenset(PeerRole)
        operator = frozenset({PeerRole.OPERATOR})
        instance = frozenset({PeerRole.INSTANCE})
        return [
            Route("GET", "/v1/storage/status", everybody, None, asks.status),
            Route("POST", "/v1/storage/format", operator, FormatAsk, asks.format),
            Route("POST", "/v1/storage/fill", operator, FillAsk, asks.fill),
            Route("POST", "/v1/storage/refill", instance, RefillAsk, asks.refill),
            Route("POST", "/v1/storage/members", instance, MembersAsk, asks.store_members),
            Route("POST", "/v1/storage/prevote", instance, PrevoteAsk, asks.prevote),
            Route("POST", "/v1/storage/promise", instance, PromiseAsk, asks.promise),
            Route("POST", "/v1/storage/adopt", instance, AdoptAsk, asks.adopt),
        ]
