"""Port 8080: ``/livez``, ``/readyz`` and ``/metrics``.

Alive means that the process answers. Ready means that it works, or that it stands by and has
reached the API server: an operator that waits for its Lease is as ready as it can be.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


async def serve_probes(port: int, ready: Callable[[], str | None]) -> web.AppRunner:
    """Serve; ``ready`` says why not, or ``None``. The caller cleans the runner up."""

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why_not = ready()
        if why_not is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{why_not}\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
