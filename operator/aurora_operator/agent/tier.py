"""The storage tier as an agent asks it: six pods at once, and no longer than needed.

A question goes to all six in parallel. The asker stops waiting when the answers so far are enough,
at once or a moment later, or when its deadline is over; who did not answer by then is no part of
the result, and is asked again by whatever comes later.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog

from aurora_operator.agent.client import AgentAddress, AgentClient, AgentUnreachable
from aurora_operator.api.agent_config import AgentConfig, StoragePodAddress
from aurora_operator.api.labels import PORT_GATE, PORT_PAGE_STORE
from aurora_operator.api.messages import StorageStatus
from aurora_operator.core.names import Slot
from aurora_operator.engines.postgresql.endpoint import TcpEndpoint

log = structlog.get_logger()

Answer = TypeVar("Answer")

_LOOKUP_SECONDS: Final = 5.0
_LOOKUP_PERIOD_SECONDS: Final = 5.0


class StorageTier:
    """All storage pods of the cluster."""

    def __init__(self, config: AgentConfig, client: AgentClient) -> None:
        self.client = client
        self.pods: tuple[StoragePodAddress, ...] = config.storage
        self.agents: dict[Slot, AgentAddress] = {
            pod.slot: AgentAddress(pod.pod, pod.host) for pod in config.storage
        }
        self._addresses: dict[Slot, str] = {}

    async def keep_addresses(self) -> None:
        """Look the pods' addresses up every now and then, until cancelled.

        Gates and page stores are then reached by address, so that a stream can move on while DNS
        is away. Certificates are checked against the pod's name in any case.
        """
        loop = asyncio.get_running_loop()
        while True:
            for slot, agent in self.agents.items():
                try:
                    async with asyncio.timeout(_LOOKUP_SECONDS):
                        found = await loop.getaddrinfo(
                            agent.host, agent.port, type=socket.SOCK_STREAM
                        )
                    self._addresses[slot] = str(found[0][4][0])
                except (OSError, TimeoutError) as error:
                    log.debug("address not looked up", pod=agent.pod, reason=str(error))
            await asyncio.sleep(_LOOKUP_PERIOD_SECONDS)

    def gate(self, slot: Slot) -> TcpEndpoint:
        """Where the gate of one slot listens."""
        return self._endpoint(slot, PORT_GATE)

    def page_store(self, slot: Slot) -> TcpEndpoint:
        """Where the page store of one slot listens."""
        return self._endpoint(slot, PORT_PAGE_STORE)

    async def ask(
        self,
        question: Callable[[AgentAddress], Awaitable[Answer]],
        enough: Callable[[Sequence[Answer]], bool],
        deadline_seconds: float,
        but: Slot | None = None,
        linger_seconds: float = 0.0,
    ) -> list[Answer]:
        """Ask every pod (``but`` one) in parallel; the answers until there are enough.

        With ``linger_seconds``, those that come so soon afterwards are taken along.
        """
        tasks = {
            asyncio.create_task(_answer(question, agent))
            for slot, agent in self.agents.items()
            if slot != but
        }
        answers: list[Answer] = []
        pending = tasks
        deadline = time.monotonic() + deadline_seconds
        is_enough = False
        try:
            while pending and (left_seconds := deadline - time.monotonic()) > 0:
                done, pending = await asyncio.wait(
                    pending, timeout=left_seconds, return_when=asyncio.FIRST_COMPLETED
                )
                answers += [answer for task in done if (answer := task.result()) is not None]
                if not is_enough and enough(answers):
                    is_enough = True
                    deadline = min(deadline, time.monotonic() + linger_seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return answers

    async def statuses(
        self, deadline_seconds: float, but: Slot | None = None
    ) -> list[StorageStatus]:
        """What every pod that answers in time knows."""
        return await self.ask(
            lambda agent: self.client.fetch_storage_status(agent, deadline_seconds),
            lambda _answers: False,
            deadline_seconds,
            but,
        )

    def _endpoint(self, slot: Slot, port: int) -> TcpEndpoint:
        agent = self.agents[slot]
        return TcpEndpoint(self._addresses.get(slot, agent.host), port, agent.pod)


async def _answer(
    question: Callable[[AgentAddress], Awaitable[Answer]], agent: AgentAddress
) -> Answer | None:
    try:
        return await question(agent)
    except AgentUnreachable as error:
        log.debug("no answer", reason=str(error))
        return None
