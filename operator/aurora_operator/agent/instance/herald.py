"""What an instance tells Kubernetes: whether its server runs, and where clients should go.

Both are wishes that are carried out in the background and tried again until the API server takes
them; the data never waits for it. Without Kubernetes (in tests, or by hand) a herald only says
what it would do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from aurora_operator.agent.client import AgentAddress
from aurora_operator.agent.place import Place
from aurora_operator.api.agent_config import AgentConfig
from aurora_operator.core.lsn import Term
from aurora_operator.kube.endpoints import EndpointSlices, EndpointTarget
from aurora_operator.kube.in_pod import UNREACHABLE, PodApi
from aurora_operator.kube.own_pod import OwnPod

log = structlog.get_logger()

_ASSERT_SECONDS: Final = 3.0
_RETRY_SECONDS: Final = 0.5
_PEERS_SECONDS: Final = 0.5


class Herald(Protocol):
    """Carries an instance's news outside."""

    async def run(self) -> None:
        """Carry out the wishes, until cancelled."""

    def tell_server_running(self, running: bool, sentence: str) -> None:
        """The server runs, or ended while the pod lives."""

    async def announce_writer(self, term: Term) -> None:
        """Point both endpoints, and keep asserting it, until cancelled."""

    async def find_peers(self) -> Sequence[AgentAddress]:
        """The other instances of the cluster that may be well, soon."""

    async def close(self) -> None:
        """End all connections."""


class SilentHerald:
    """Writes the news to the log only."""

    def __init__(self, peers: Sequence[AgentAddress] = ()) -> None:
        self._peers = peers

    async def run(self) -> None:
        """Nothing to carry out."""

    def tell_server_running(self, running: bool, sentence: str) -> None:
        """Log it."""
        log.info("server condition", running=running, sentence=sentence)

    async def announce_writer(self, term: Term) -> None:
        """Log it, and wait to be cancelled."""
        log.info("endpoint moved", term=term)
        await asyncio.Event().wait()

    async def find_peers(self) -> Sequence[AgentAddress]:
        """Those it was given."""
        return self._peers

    async def close(self) -> None:
        """Nothing is held."""


class KubernetesHerald:
    """Sets the pod's condition and moves the EndpointSlices."""

    def __init__(self, api: PodApi, place: Place, config: AgentConfig) -> None:
        self._api = api
        self._place = place
        self._config = config
        self._slices = EndpointSlices(api, place.namespace)
        self._pod = OwnPod(api, place.namespace, place.pod)
        self._replicas: list[EndpointTarget] = []
        self._wish: tuple[bool, str] | None = None
        self._wished = asyncio.Event()

    @classmethod
    def in_cluster(cls, place: Place, config: AgentConfig) -> KubernetesHerald:
        """With the pod's own ServiceAccount."""
        return cls(PodApi.in_cluster(), place, config)

    async def run(self) -> None:
        """Set the condition whenever it should change; the newest wish wins."""
        while True:
            await self._wished.wait()
            self._wished.clear()
            wish = self._wish
            if wish is None:
                continue
            try:
                await self._pod.set_server_running(*wish)
                log.info("pod condition set", running=wish[0], sentence=wish[1])
            except UNREACHABLE as error:
                log.warning("pod condition not set; trying again", reason=_short(error))
                self._wished.set()
                await asyncio.sleep(_RETRY_SECONDS)

    def tell_server_running(self, running: bool, sentence: str) -> None:
        """Have the condition set as soon as possible."""
        if self._wish != (running, sentence):
            self._wish = (running, sentence)
            self._wished.set()

    async def announce_writer(self, term: Term) -> None:
        """Point the writer's slice here and the reader's at the replicas, every few seconds."""
        while True:
            try:
                await self._point(term)
                pause_seconds = _ASSERT_SECONDS
            except UNREACHABLE as error:
                log.warning(
                    "endpoints not moved; the data is safe, trying again", reason=_short(error)
                )
                pause_seconds = _RETRY_SECONDS
            await asyncio.sleep(pause_seconds)

    async def find_peers(self) -> Sequence[AgentAddress]:
        """The replicas that Kubernetes calls ready; while it is silent, those it last named."""
        try:
            async with asyncio.timeout(_PEERS_SECONDS):
                self._replicas = await self._list_replicas()
        except UNREACHABLE as error:
            log.warning("replicas not listed; the last list is used", reason=_short(error))
        return [AgentAddress(replica.pod, replica.ip) for replica in self._replicas]

    async def close(self) -> None:
        """End all connections."""
        await self._api.close()

    async def _list_replicas(self) -> list[EndpointTarget]:
        instances = await self._slices.ready_instances(self._config.cluster)
        return [target for target in instances if target.pod != self._place.pod]

    async def _point(self, term: Term) -> None:
        config, place = self._config, self._place
        own = EndpointTarget(place.pod, place.pod_ip, place.pod_uid)
        outcome = await self._slices.point(config.writer_endpoint_slice, [own], config.port, term)
        _note(outcome.sentence, term, changed=outcome.moved or outcome.superseded)
        self._replicas = await self._list_replicas()
        outcome = await self._slices.point(
            config.reader_endpoint_slice, self._replicas or [own], config.port, term
        )
        _note(outcome.sentence, term, changed=outcome.moved or outcome.superseded)


def _note(sentence: str, term: Term, *, changed: bool) -> None:
    if changed:
        log.info("endpoint", sentence=sentence, term=term)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
