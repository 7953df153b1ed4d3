"""The server side of the agent API, and the plain port for probes and metrics.

Each route names who may ask; a certificate of another role is forbidden (403), another cluster's
too. Asks and answers are the models of ``api.messages``. This is the one place where an error of
an ask is logged: handlers raise, the asker gets a sentence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError

from aurora_operator.agent.tls import Certificates, PeerRefused, PeerRole, peer_of
from aurora_operator.api.labels import PORT_AGENT, PORT_METRICS
from aurora_operator.api.messages import Message

log = structlog.get_logger()

_BODY_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Route:
    """One ask of the API: who may ask, what it carries, and what answers it."""

    method: str
    path: str
    roles: frozenset[PeerRole]
    ask: type[Message] | None
    handler: Callable[[Any], Awaitable[Message]]
    """Takes the ask (``None`` for a ``GET``)."""


@dataclass(frozen=True)
class SocketRoute:
    """A lasting connection; the handler owns it until it ends."""

    path: str
    roles: frozenset[PeerRole]
    handler: Callable[[web.WebSocketResponse], Awaitable[None]]


@dataclass(frozen=True)
class Health:
    """What the probes are told."""

    live: Callable[[], bool]
    ready: Callable[[], str | None]
    """``None`` when ready, else the sentence that says why not."""


class AgentServer:
    """Both listeners of one agent."""

    def __init__(
        self,
        *,
        certificates: Certificates,
        organisation: str,
        listen: str | None,
        routes: list[Route],
        sockets: list[SocketRoute],
        health: Health,
    ) -> None:
        self._certificates = certificates
        self._organisation = organisation
        self._listen = listen
        self._routes = routes
        self._sockets = sockets
        self._health = health
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Listen on both ports."""
        api = web.Application(client_max_size=_BODY_BYTES_MAX, middlewares=[_answer_errors])
        for route in self._routes:
            api.router.add_route(route.method, route.path, self._handler(route))
        for socket_route in self._sockets:
            api.router.add_get(socket_route.path, self._socket_handler(socket_route))
        await self._serve(api, PORT_AGENT, tls=True)
        plain = web.Application()
        plain.router.add_get("/livez", self._live)
        plain.router.add_get("/readyz", self._ready)
        plain.router.add_get("/metrics", _metrics)
        await self._serve(plain, PORT_METRICS, tls=False)

    async def stop(self) -> None:
        """Close both listeners and every connection."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _serve(self, app: web.Application, port: int, *, tls: bool) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        context = self._certificates.server() if tls else None
        await web.TCPSite(runner, self._listen, port, ssl_context=context).start()

    def _authorise(self, request: web.Request, roles: frozenset[PeerRole]) -> None:
        transport = request.transport
        certificate = None if transport is None else transport.get_extra_info("peercert")
        peer = peer_of(certificate, self._organisation)
        if peer.role not in roles:
            raise PeerRefused(f"{peer.role} may not ask {request.path}")

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            self._authorise(request, route.roles)
            ask = None
            if route.ask is not None:
                ask = route.ask.model_validate_json(await request.read())
            answer = await route.handler(ask)
            return web.Response(body=answer.model_dump_json().encode(), content_type=_JSON)

        return handle

    def _socket_handler(
        self, route: SocketRoute
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self._authorise(request, route.roles)
            socket = web.WebSocketResponse(compress=False, heartbeat=5.0)
            await socket.prepare(request)
            await route.handler(socket)
            return socket

        return handle

    async def _live(self, _request: web.Request) -> web.Response:
        return web.Response(status=200 if self._health.live() else 503)

    async def _ready(self, _request: web.Request) -> web.Response:
        sentence = self._health.ready()
        return web.Response(status=200 if sentence is None else 503, text=sentence or "ready")


_JSON = "application/json"


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn what a handler raises into a status and a sentence; the one place that logs it."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except PeerRefused as error:
        log.warning("ask forbidden", path=request.path, reason=str(error))
        return web.Response(status=403, text=str(error))
    except ValidationError as error:
        log.warning("ask malformed", path=request.path, reason=str(error))
        return web.Response(status=400, text=str(error))
    except Exception as error:
        log.exception("ask failed", path=request.path)
        return web.Response(status=500, text=f"{type(error).__name__}: {error}")


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
