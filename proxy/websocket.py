"""One WebSocket's life: identify, keep, ask the upstream, then messages both ways, and one exchange stays of it all.

Messages, pings and closes pass as they are, in order, each message kept before it is passed on. Nothing is parsed on the way,
and whoever reads slowly slows down the other side. Frames are joined to messages and never compressed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiohttp import web
from msgspec import structs
from multidict import CIMultiDict, CIMultiDictProxy

from capture.exchange import CLIENT_CLOSED, COMPLETE, INTERRUPTED
from capture.transcript import SWITCHED
from proxy import failures
from proxy.credentials import is_virtual
from proxy.failures import Failure
from proxy.forward import add_ours
from proxy.headers import for_client
from proxy.kept_headers import for_store
from proxy.outbound import UpstreamFailedError
from proxy.pipeline import NOT_ASSIGNED, NOT_KEPT, admit, begin_of, count
from proxy.reading import Asked, read_request
from proxy.recording import Recording
from proxy.relay import Config, Relay
from proxy.route import RAW, model_in_query
from proxy.settings import KEY_FROM_CLIENT, OPENAI, Upstream
from proxy.talk import Talk
from proxy.teacher import take_turn, upstream_headers
from proxy.websocket_upstream import Refusal, dial
from proxy.wire.limits import Problem

_KEY_PREFIX = "openai-insecure-api-key."
"""What the name of a subprotocol begins with by which a browser sends its key."""
_OF_HANDSHAKE = "sec-websocket-"
_PROTOCOLS = "sec-websocket-protocol"
_UNDERSTOOD = ("realtime", "responses")
_VERSION, _KEY_BYTES = "13", 16
_CLOSING_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Handshake:
    """The request that asks for a WebSocket, without what is said on this hop alone; its key is a header like any other's."""

    raw_path: str
    headers: CIMultiDict[str]
    protocols: tuple[str, ...]
    """The subprotocols that the client offers, those with a key left out."""
    keyed: tuple[str, ...]
    """The offered ones as they came, those with a virtual key left out."""
    is_key_named: bool
    """True when the key came in the name of a subprotocol alone."""
    method: str = "GET"
    body: bytes = b""
    problem: Problem | None = None


async def relay_websocket(relay: Relay, request: web.BaseRequest) -> web.StreamResponse:
    """Answers a request for a WebSocket, and leaves one exchange in the spool when it is over."""
    relay.requests += 1
    relay.counters.began()
    config = relay.config
    handshake = _read(request)
    asked = _session(read_request(handshake, config.relay, config.upstreams))
    recording = Recording(relay.spool, config.capture)
    asked, grant, key_id = admit(relay, asked, recording.raw_id)
    is_kept = False
    try:
        is_kept = recording.begin(begin_of(asked, NOT_ASSIGNED, config.omission.content_of(asked), key_id))
        if not is_kept and config.capture.rejects_when_full:
            grant.cancel()
            return await _refuse(relay, asked, recording, NOT_KEPT, COMPLETE)
        return await _serve(relay, config, request, handshake, asked, recording)
    except UpstreamFailedError as error:
        return await _refuse(relay, asked, recording, error.failure, error.state)
    except asyncio.CancelledError:
        recording.end(INTERRUPTED if relay.is_stopping else CLIENT_CLOSED)
        raise
    except ConnectionError:
        recording.end(CLIENT_CLOSED)
        raise
    except Exception:
        _log.exception("exchange %s failed inside the relay", recording.exchange_id)
        failure = Failure(500, "relay_error", "Potstill failed while relaying.", f"Report exchange {recording.exchange_id}.")
        return await _refuse(relay, asked, recording, failure, INTERRUPTED)
    finally:
        recording.end(INTERRUPTED)
        grant.end(is_kept)
        count(relay, asked, NOT_ASSIGNED, recording)


async def _serve(
    relay: Relay, config: Config, request: web.BaseRequest, handshake: _Handshake, asked: Asked, recording: Recording
) -> web.StreamResponse:
    failure = asked.failure or _malformed(request)
    if failure is not None:
        return await _refuse(relay, asked, recording, failure, COMPLETE)
    assert asked.route is not None
    upstream = asked.route.upstream
    sent = upstream_headers(relay, asked, upstream)
    if isinstance(sent, Failure):
        return await _refuse(relay, asked, recording, sent, COMPLETE)
    headers = sent.headers.copy()
    offered = handshake.keyed if upstream.key == KEY_FROM_CLIENT else handshake.protocols
    if handshake.is_key_named and offered is handshake.keyed:
        headers.popall("authorization", None)  # the key goes as it came
    async with _turn(relay, upstream, recording), dial(config, upstream, asked.route.url, headers, offered, recording) as found:
        if isinstance(found, Refusal):
            return await _pass_on_refusal(relay, recording, found, upstream.name)
        limit = config.relay.websocket_message_mib * 2**20
        client = web.WebSocketResponse(
            timeout=_CLOSING_S, autoclose=False, autoping=False, compress=False, max_msg_size=limit, decode_text=False,
            protocols=(found.protocol,) if found.protocol else (),
        )  # fmt: skip
        for name, value in for_client(found.headers).items():
            if not name.lower().startswith(_OF_HANDSHAKE):
                client.headers.add(name, value)
        recording.head(SWITCHED, for_store(found.headers.items()), upstream.name)
        add_ours(client.headers, NOT_ASSIGNED, recording, upstream.name)
        await client.prepare(_with_protocol(request, found.protocol))
        talk = Talk(recording, client, found.socket, upstream.name, config.relay)
        return await _hold(relay, talk, client)


@asynccontextmanager
async def _turn(relay: Relay, upstream: Upstream, recording: Recording) -> AsyncIterator[None]:
    """One of the turns at `upstream`, for as long as the WebSocket is open; UpstreamFailedError when none comes in time."""
    if not upstream.max_concurrent:
        yield
        return
    slots = await take_turn(relay, upstream, recording)
    try:
        yield
    finally:
        slots.give_back()


async def _hold(relay: Relay, talk: Talk, client: web.WebSocketResponse) -> web.StreamResponse:
    """Runs `talk` to its end. A client that hangs up cancels us at once, though what it said before is still to be passed on."""
    running = asyncio.ensure_future(talk.run())
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        if relay.is_stopping:
            talk.stop()
        await asyncio.wait({running}, timeout=talk.patience_s)
        raise
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return client


def _read(request: web.BaseRequest) -> _Handshake:
    keyed = tuple(name for each in request.headers.getall(_PROTOCOLS, []) for part in each.split(",") if (name := part.strip()))
    headers = CIMultiDict([(n, v) for n, v in request.headers.items() if not n.lower().startswith(_OF_HANDSHAKE)])
    keys = [name.removeprefix(_KEY_PREFIX) for name in keyed if name.startswith(_KEY_PREFIX)]
    is_key_named = bool(keys) and "authorization" not in headers
    if is_key_named:
        headers["Authorization"] = f"Bearer {keys[0]}"
    protocols = tuple(name for name in keyed if not name.startswith(_KEY_PREFIX))
    sent_up = tuple(name for name in keyed if not is_virtual(name.removeprefix(_KEY_PREFIX)))
    return _Handshake(request.raw_path, headers, protocols, sent_up, is_key_named)


def _session(asked: Asked) -> Asked:
    """`asked` as the session that it asks for: its model stands in the query, and what it will say is a stream."""
    peeked = structs.replace(asked.peeked, model=model_in_query(asked.target), is_stream=True)
    if (route := asked.route) is None:
        return structs.replace(asked, peeked=peeked)
    is_known = route.family == OPENAI and route.path.rstrip("/").rpartition("/")[2] in _UNDERSTOOD
    return structs.replace(asked, peeked=peeked, route=replace(route, protocol=OPENAI if is_known else RAW))


def _malformed(request: web.BaseRequest) -> Failure | None:
    """Why this is no handshake that can be answered."""
    headers = request.headers
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except binascii.Error:
        key = b""
    if request.method != "GET" or headers.get("upgrade", "").strip().lower() != "websocket" or len(key) != _KEY_BYTES:
        what = "The request asks for a WebSocket, and is no handshake by RFC 6455."
        return Failure(400, "bad_websocket", what, "Use a WebSocket client, or leave the Upgrade header out.")
    version = headers.get("sec-websocket-version", "")
    if version != _VERSION:
        return Failure(400, "bad_websocket", f"WebSocket version {version[:20]!r} is not served here.", "Use version 13.")
    return None


def _with_protocol(request: web.BaseRequest, chosen: str | None) -> web.BaseRequest:
    """`request` offering `chosen` alone: aiohttp logs what is offered in vain, and a key may be among it."""
    headers = CIMultiDict(request.headers)
    headers.popall(_PROTOCOLS, None)
    if chosen:
        headers[_PROTOCOLS] = chosen
    return request.clone(headers=CIMultiDictProxy(headers))


async def _pass_on_refusal(relay: Relay, recording: Recording, refusal: Refusal, upstream: str) -> web.StreamResponse:
    """The upstream's answer when it was no WebSocket, as it came."""
    recording.head(refusal.status, for_store(refusal.headers.items()), upstream)
    recording.part(refusal.body)
    recording.end(COMPLETE)
    await recording.settle()
    headers = for_client(refusal.headers)
    headers.popall("content-length", None)
    add_ours(headers, NOT_ASSIGNED, recording, upstream)
    response = web.Response(status=refusal.status, reason=refusal.reason, headers=headers, body=refusal.body)
    response.force_close()
    return response


async def _refuse(relay: Relay, asked: Asked, recording: Recording, failure: Failure, state: str) -> web.StreamResponse:
    """Answers with `failure` in the client's shape; once messages have passed, only breaks off."""
    relay.counters.refused(failure.kind)
    if recording.status:
        recording.end(state, failure.kind, failure.message)
        raise ConnectionResetError(failure.message)
    body = failures.body(asked.family, failure, recording.exchange_id)
    headers = CIMultiDict({"Content-Type": "application/json"})
    name = asked.route.upstream.name if asked.route is not None and failure.status >= 500 else ""
    recording.head(failure.status, dict(headers), name)
    add_ours(headers, NOT_ASSIGNED, recording, name)
    if failure.retry_after_s:
        headers["Retry-After"] = str(failure.retry_after_s)
    recording.part(body)
    recording.end(state, failure.kind, failure.message)
    await recording.settle()
    response = web.Response(status=failure.status, headers=headers, body=body)
    response.force_close()
    return response
