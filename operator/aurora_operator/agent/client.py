"""The client side of the agent API: agents ask each other with it, and the operator asks agents.

Every call has a time limit and ends in an answer or in ``AgentUnreachable``, which says in one
sentence what happened. A refusal is an answer (``granted: false``), not an error. When DNS fails,
the last address known for a name is used: the certificate is checked against the pod's name in
any case. This module is light on purpose; it is imported by the operator as well.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Final, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from aurora_operator.api.labels import PORT_AGENT
from aurora_operator.api.messages import (
    AdoptAsk,
    FillAsk,
    FormatAsk,
    HandOverAsk,
    InstanceAnswer,
    InstanceStatus,
    MembersAsk,
    Message,
    OpenAsk,
    PrevoteAsk,
    PromiseAsk,
    RefillAsk,
    RestartAsk,
    StorageAnswer,
    StorageStatus,
)

_PATIENCE_SECONDS: Final = 0.25
"""How long a fresh address is waited for when an old one is known."""
_STATUS_TIMEOUT_SECONDS: Final = 2.0
_GOODBYE_SECONDS: Final = 1.0
_ASK_TIMEOUT_SECONDS: Final = 5.0
_SLOW_ASK_TIMEOUT_SECONDS: Final = 20.0

Answer = TypeVar("Answer", bound=Message)


class AgentUnreachable(Exception):
    """No answer: nothing is known of what the agent did with the ask."""

    def __init__(self, pod: str, what: str) -> None:
        super().__init__(f"agent of {pod} did not answer: {what}")
        self.pod = pod


class AgentRefused(AgentUnreachable):
    """The agent answered that the ask is malformed or forbidden: a fault in the asker."""


@dataclass(frozen=True)
class AgentAddress:
    """An agent: its pod's name, which its certificate must carry, and where to connect."""

    pod: str
    host: str
    port: int = PORT_AGENT

    def url(self, path: str) -> str:
        """The address of one route."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{path}"


class RememberingResolver(AbstractResolver):
    """Resolves names; while DNS fails or is slow, the last answer is used.

    A DNS server that went down with its zone is asked for seconds before the resolver gives up.
    Nobody waits for that: the question goes on in the background, and its answer is there for the
    next connection.
    """

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner
        self._known: dict[tuple[str, int], list[ResolveResult]] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host``, fresh if they come soon."""
        name = (host, port)
        task = self._asking.get(name)
        if task is None:
            task = asyncio.create_task(self._inner.resolve(host, port, family), name="resolve")
            self._asking[name] = task
            task.add_done_callback(lambda done: self._take(name, done))
        known = self._known.get(name)
        await asyncio.wait([task], timeout=_PATIENCE_SECONDS if known else None)
        if known and (not task.done() or task.cancelled() or task.exception() is not None):
            return known
        return task.result()

    async def close(self) -> None:
        """Give up what is still asked."""
        for task in list(self._asking.values()):
            task.cancel()
        await self._inner.close()

    def _take(self, name: tuple[str, int], done: asyncio.Task[list[ResolveResult]]) -> None:
        self._asking.pop(name, None)
        if not done.cancelled() and done.exception() is None:
            self._known[name] = done.result()


class AgentClient:
    """Asks agents over mutual TLS on lasting connections. Close it when done."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=RememberingResolver(aiohttp.ThreadedResolver()),
                ttl_dns_cache=5,
                ssl=context,
                keepalive_timeout=60,
            )
        )

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def fetch_storage_status(
        self, agent: AgentAddress, timeout_seconds: float = _STATUS_TIMEOUT_SECONDS
    ) -> StorageStatus:
        """What a copy knows and sees."""
        return await self._call(agent, "/v1/storage/status", None, StorageStatus, timeout_seconds)

    async def fetch_instance_status(
        self, agent: AgentAddress, timeout_seconds: float = _STATUS_TIMEOUT_SECONDS
    ) -> InstanceStatus:
        """What an instance is at the moment."""
        return await self._call(agent, "/v1/instance/status", None, InstanceStatus, timeout_seconds)

    async def format(self, agent: AgentAddress, ask: FormatAsk) -> StorageAnswer:
        """Begin the volume here (rule 13); it goes on after the answer, see the status."""
        return await self._storage(agent, "format", ask, _ASK_TIMEOUT_SECONDS)

    async def fill(self, agent: AgentAddress, ask: FillAsk) -> StorageAnswer:
        """Fill this blank copy from another; it goes on after the answer, see the status."""
        return await self._storage(agent, "fill", ask, _ASK_TIMEOUT_SECONDS)

    async def prevote(
        self, agent: AgentAddress, ask: PrevoteAsk, timeout_seconds: float = _ASK_TIMEOUT_SECONDS
    ) -> StorageAnswer:
        """Would you promise?"""
        return await self._storage(agent, "prevote", ask, timeout_seconds)

    async def promise(
        self, agent: AgentAddress, ask: PromiseAsk, timeout_seconds: float = _ASK_TIMEOUT_SECONDS
    ) -> StorageAnswer:
        """Promise (rule 2)."""
        return await self._storage(agent, "promise", ask, timeout_seconds)

    async def adopt(self, agent: AgentAddress, ask: AdoptAsk) -> StorageAnswer:
        """Adopt the writer's history (rule 5)."""
        return await self._storage(agent, "adopt", ask, _SLOW_ASK_TIMEOUT_SECONDS)

    async def refill(self, agent: AgentAddress, ask: RefillAsk) -> StorageAnswer:
        """Fill a copy that is no member, as a new one (rule 9); it goes on after the answer."""
        return await self._storage(agent, "refill", ask, _ASK_TIMEOUT_SECONDS)

    async def store_members(self, agent: AgentAddress, ask: MembersAsk) -> StorageAnswer:
        """Keep a changed member list (rule 8)."""
        return await self._storage(agent, "members", ask, _ASK_TIMEOUT_SECONDS)

    async def open(self, agent: AgentAddress, ask: OpenAsk) -> InstanceAnswer:
        """Open the volume with this instance; it goes on after the answer, see the status."""
        return await self._call(
            agent, "/v1/instance/open", ask, InstanceAnswer, _ASK_TIMEOUT_SECONDS
        )

    async def hand_over(self, agent: AgentAddress, ask: HandOverAsk) -> InstanceAnswer:
        """Have the writer switch over; it goes on after the answer, see the status."""
        return await self._call(
            agent, "/v1/instance/hand-over", ask, InstanceAnswer, _ASK_TIMEOUT_SECONDS
        )

    async def restart(self, agent: AgentAddress, ask: RestartAsk) -> InstanceAnswer:
        """Restart an ended writer in place (rule 11)."""
        return await self._call(
            agent, "/v1/instance/restart", ask, InstanceAnswer, _ASK_TIMEOUT_SECONDS
        )

    async def connect_hub(self, agent: AgentAddress) -> aiohttp.ClientWebSocketResponse:
        """Open the lasting connection for beats and positions; the caller closes it."""
        return await self._connect(agent, "/v1/storage/hub")

    async def connect_watch(self, agent: AgentAddress) -> aiohttp.ClientWebSocketResponse:
        """Open the lasting connection for notes and sights; the caller closes it."""
        return await self._connect(agent, "/v1/storage/watch")

    async def _connect(self, agent: AgentAddress, path: str) -> aiohttp.ClientWebSocketResponse:
        try:
            async with asyncio.timeout(_ASK_TIMEOUT_SECONDS):
                return await self._session.ws_connect(
                    agent.url(path),
                    ssl=self._context,
                    server_hostname=agent.pod,
                    compress=0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE_SECONDS),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AgentUnreachable(agent.pod, _short(error)) from error

    async def _storage(
        self, agent: AgentAddress, what: str, ask: Message, timeout_seconds: float
    ) -> StorageAnswer:
        return await self._call(agent, f"/v1/storage/{what}", ask, StorageAnswer, timeout_seconds)

    async def _call(
        self,
        agent: AgentAddress,
        path: str,
        ask: Message | None,
        answer: type[Answer],
        timeout_seconds: float,
    ) -> Answer:
        try:
            async with self._session.request(
                "GET" if ask is None else "POST",
                agent.url(path),
                data=None if ask is None else ask.model_dump_json().encode(),
                headers={} if ask is None else {"Content-Type": "application/json"},
                ssl=self._context,
                server_hostname=agent.pod,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            ) as response:
                body = await response.read()
                if response.status != 200:
                    raise AgentRefused(agent.pod, f"{response.status} {body.decode()[:300]}")
                return answer.model_validate_json(body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise AgentUnreachable(agent.pod, _short(error)) from error


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
