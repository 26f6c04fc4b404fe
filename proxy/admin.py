"""The admin listener, on a port of its own, for people, probes and Prometheus; `proxy.admin_routes` is all that it serves.

Health is open to everybody. All else asks for the token where one is set (`admin_token_file`), and where none is set answers
to callers on this machine alone. It holds no content of exchanges and no credential.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from capture.errors import PotstillError
from proxy.admin_openapi import describe
from proxy.admin_routes import ROUTES
from proxy.admin_token import is_authorised
from proxy.hosts import is_known_host, is_loopback, is_own_origin


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What reading the configuration again came to: what changed, and what of it needs a restart of `potstill up`."""

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class House:
    """What the admin listener asks. `look` gives the status; its keys `is_ready` and `ailing` are what health shows.

    `metrics` gives Prometheus's text and its content type. `reload` raises SettingsError when the new configuration is
    refused. `token` and `hosts` may change with a reload.
    """

    look: Callable[[], dict[str, Any]]
    metrics: Callable[[], Awaitable[tuple[bytes, str]]]
    reload: Callable[[], Awaitable[Reloaded]]
    token: Callable[[], str]
    hosts: Callable[[], tuple[str, ...]]


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_admin_app(house: House) -> web.Application:
    """The application; `house` is asked at every request."""

    async def live(_request: web.Request) -> web.Response:
        return _json({"is_live": True})

    async def ready(_request: web.Request) -> web.Response:
        status = house.look()
        shown = {"is_ready": status["is_ready"], "is_degraded": bool(status["ailing"]), "ailing": status["ailing"]}
        return _json(shown, 200 if status["is_ready"] else 503)

    async def status(_request: web.Request) -> web.Response:
        return _json(house.look())

    async def metrics(_request: web.Request) -> web.Response:
        text, content_type = await house.metrics()
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def openapi(_request: web.Request) -> web.Response:
        return _json(describe(ROUTES, has_token=bool(house.token())))

    async def reload(_request: web.Request) -> web.Response:
        try:
            done = await house.reload()
        except PotstillError as error:
            return refusal(422, error.what, error.next_step)
        return _json({"changed": done.changed, "needs_restart": done.needs_restart})

    handlers = {one.__name__: one for one in (live, ready, status, metrics, openapi, reload)}
    app = web.Application(middlewares=[_in_our_words, _guard(house)])
    for route in ROUTES:
        app.router.add_route(route.method, route.path, handlers[route.name])
    return app


async def start_admin(house: House, listener: socket.socket) -> web.AppRunner:
    """Serves on `listener` until `cleanup` of what is returned."""
    runner = web.AppRunner(make_admin_app(house), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


def refusal(status: int, what: str, next_step: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error as the admin listener says it."""
    return _json({"error": what, "next_step": next_step}, status, headers)


@web.middleware
async def _in_our_words(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Says in JSON what aiohttp would say in plain text: no such path, no such method."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        what = f"{request.method} {request.path[:100]} is not served here: {error.reason}."
        return refusal(error.status, what, "GET /openapi.json lists what is.", kept)


def _guard(house: House) -> Middleware:
    open_paths = {route.path for route in ROUTES if route.is_open}

    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Names are refused, so that no web page reaches us through a name of its own that points here (DNS rebinding)."""
        names = house.hosts()
        if not is_known_host(request.host, names):
            what = f"Host {request.host[:100]!r} is not served here."
            return refusal(403, what, "Use the admin listener's address, or add the name to hosts in [relay] of potstill.toml.")
        origin = request.headers.get("Origin", "")
        if origin and not is_own_origin(origin, request.host, names):
            return refusal(403, f"Pages of {origin[:100]!r} may not ask here.", "Ask from a program, not from a web page.")
        if request.path in open_paths:
            return await handler(request)
        token = house.token()
        if token and not is_authorised(request.headers.get("Authorization", ""), token):
            what = "The admin listener asks for its token."
            asks = {"WWW-Authenticate": 'Bearer realm="potstill admin"'}
            return refusal(401, what, "Send Authorization: Bearer with the token in admin_token_file.", asks)
        if not token and not is_loopback(request.remote or ""):
            what = "Without a token the admin listener answers to this machine alone."
            return refusal(403, what, "Set admin_token_file in [relay] of potstill.toml.")
        return await handler(request)

    return guard


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    encoded = msgspec.json.encode(body) + b"\n"
    return web.Response(body=encoded, status=status, content_type="application/json", headers=headers)
