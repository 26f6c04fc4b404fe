"""The admin listener: health and status of everything under `potstill up`, on a port of its own, for people and probes.

GET /health/live     200 while the supervisor runs
GET /health/ready    200 while the relay takes requests, else 503; says whether anything else is ill
GET /status          processes, counters, engine
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from proxy.hosts import is_known_host

Look = Callable[[], dict[str, Any]]
"""Gives the status; its keys `is_ready` and `ailing` are what the health probes show."""


def make_admin_app(look: Look) -> web.Application:
    """The application; `look` is asked at every request."""

    async def live(_request: web.Request) -> web.Response:
        return _json({"is_live": True})

    async def ready(_request: web.Request) -> web.Response:
        status = look()
        shown = {"is_ready": status["is_ready"], "is_degraded": bool(status["ailing"]), "ailing": status["ailing"]}
        return _json(shown, 200 if status["is_ready"] else 503)

    async def status(_request: web.Request) -> web.Response:
        return _json(look())

    app = web.Application(middlewares=[_known_hosts_only])
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/status", status)
    return app


async def start_admin(look: Look, listener: socket.socket) -> web.AppRunner:
    """Serves on `listener` until `cleanup` of what is returned."""
    runner = web.AppRunner(make_admin_app(look), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


@web.middleware
async def _known_hosts_only(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses names, so that a web page cannot reach us through a name of its own that points here (DNS rebinding)."""
    if not is_known_host(request.host):
        what = f"Host {request.host[:100]!r} is not served here."
        return _json({"error": what, "next_step": "Use the address of the admin listener."}, 403)
    return await handler(request)


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body) + b"\n", status=status, content_type="application/json")
