"""The scripted provider: OpenAI and Anthropic shapes without a key of theirs, for the demonstration and for tests.

    python -m proxy.provider --port 8487

It answers `POST /v1/chat/completions`, `/v1/embeddings`, `GET /v1/models` and `POST /v1/messages`, `/v1/messages/count_tokens`,
whole and streamed, with tools; anything else is a 404 in the shape of its family. Any key is good, none is a 401. A support
ticket, known by its system prompt, gets the scripted teacher's answer; anything else gets an echo. Equal requests get equal
answers, except for the teacher's slips: each time that a ticket is asked again they are decided anew, by how often it was
asked before.

The request header `x-script` orders faults, as a JSON object or as `key=value` pairs: `x-script: status=429,retry_after=2`.

    delay_ms=N            silence before the response headers        chunk_delay_ms=N    silence between two pieces of the body
    status=N              an error of the family                     retry_after=S       with this header (429, 503, 529: 1 s)
    cut_after_bytes=N     drops the connection in mid body           reset=1             ... by a TCP reset
    split=1               one byte per chunk                         gzip=1              a compressed body, flushed per piece
    in_band_error=1       an error inside a 200                      no_done=1           a stream without its last event
    usage=0|1             never, always                              finish=length       stop, length, refusal
    text=...              exactly this answer                        body_bytes=N        an answer of this size
    stall=headers|body    falls silent until the client goes         pings=N             Anthropic pings in a stream
    tools=1               uses the first tool unasked                nonce=...           decides the teacher's slips
    raw=[base64, ...]     exactly these pieces of a body             content_type=...    ... with this content type
    headers={...}         more response headers

`GET /_script/requests` counts what came in (`requests`), is being answered (`open`), and was left by the client (`abandoned`).
`GET /_script/last` is the last request as it arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from capture.clock import now_us
from capture.errors import PortTakenError
from proxy import provider_anthropic as anthropic
from proxy import provider_openai as openai
from proxy.provider_answer import Ask, answer, request_hash
from proxy.provider_openai import BadRequest
from proxy.provider_script import HEADER, Script, ScriptError, parse_script
from proxy.provider_wire import Reply, send
from proxy.ticket_teacher import ERROR_SHARE, warm_up
from serve.settings import HIGHEST_PORT

_REMEMBERED_REQUESTS = 500_000
_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_MESSAGES = {
    429: "Rate limit reached. Please try again later.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later.",
    529: "Overloaded",
}


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """`latency_ms` is the mean time before the first byte, spread by half of it either way; `seed` decides spread and ids."""

    latency_ms: float = 5.0
    seed: int = 0
    error_share: float = ERROR_SHARE
    max_body_mib: int = 64


@dataclass(slots=True)
class _Counts:
    """What the provider remembers."""

    rng: random.Random
    stopping: asyncio.Event
    requests: int = 0
    open: int = 0
    abandoned: int = 0
    asked: Counter[bytes] = field(default_factory=Counter)
    last: dict[str, Any] = field(default_factory=dict)

    def new_id(self, length: int) -> str:
        return "".join(self.rng.choices(_LETTERS, k=length))

    def nth_time(self, key: bytes) -> int:
        """How often `key` was asked before."""
        if len(self.asked) > _REMEMBERED_REQUESTS:
            self.asked.clear()
        self.asked[key] += 1
        return self.asked[key] - 1


_OPTIONS = web.AppKey("options", ProviderOptions)
_COUNTS = web.AppKey("counts", _Counts)


def make_provider_app(options: ProviderOptions | None = None) -> web.Application:
    """The provider as an aiohttp application; run it with `handler_cancellation=True`, to notice at once when a client leaves."""
    chosen = options or ProviderOptions()
    app = web.Application(client_max_size=chosen.max_body_mib * 2**20)
    app[_OPTIONS] = chosen
    app[_COUNTS] = _Counts(random.Random(chosen.seed), asyncio.Event())
    app.on_startup.append(_start)
    app.on_shutdown.append(_stop)
    app.router.add_get("/_script/requests", _show_counts)
    app.router.add_get("/_script/last", _show_last)
    app.router.add_route("*", "/{path:.*}", _serve)
    return app


@asynccontextmanager
async def serving(options: ProviderOptions | None = None, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The provider on `host` and `port` (0: a free one) while the context lasts; gives its address, such as http://127.0.0.1:8487.

    PortTakenError when somebody listens there.
    """
    runner = web.AppRunner(make_provider_app(options), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            what = f"The scripted provider cannot listen on {host}:{port}: {error.strerror or error}."
            raise PortTakenError(what, "Choose another port with --port.") from error
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _start(app: web.Application) -> None:
    warm_up()


async def _stop(app: web.Application) -> None:
    app[_COUNTS].stopping.set()


async def _show_counts(request: web.Request) -> web.Response:
    counts = request.app[_COUNTS]
    return web.json_response({"requests": counts.requests, "open": counts.open, "abandoned": counts.abandoned})


async def _show_last(request: web.Request) -> web.Response:
    return web.json_response(request.app[_COUNTS].last)


async def _serve(request: web.Request) -> web.StreamResponse:
    options, counts = request.app[_OPTIONS], request.app[_COUNTS]
    counts.requests += 1
    counts.open += 1
    spread = counts.rng.uniform(0.5, 1.5)
    try:
        body = await request.read()
        counts.last = {
            "method": request.method,
            "path": request.raw_path,
            "headers": [[name, value] for name, value in request.headers.items()],
            "body": body.decode("utf-8", "replace"),
        }
        try:
            script = parse_script(request.headers.get(HEADER, ""))
        except ScriptError as error:
            return await send(request, _refuse(request, counts, 400, str(error)), Script(), counts.stopping)
        await asyncio.sleep((options.latency_ms * spread + script.delay_ms) / 1000)
        if script.stall == "headers":
            await counts.stopping.wait()
        return await send(request, _reply(request, body, script, options, counts), script, counts.stopping)
    except (asyncio.CancelledError, ConnectionError):
        counts.abandoned += 1
        raise
    finally:
        counts.open -= 1


def _is_anthropic(request: web.Request) -> bool:
    return request.path.startswith("/v1/messages") or "anthropic-version" in request.headers


def _has_key(request: web.Request) -> bool:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer").strip()
    return bool(bearer or (_is_anthropic(request) and request.headers.get("x-api-key", "").strip()))


def _reply(request: web.Request, body: bytes, script: Script, options: ProviderOptions, counts: _Counts) -> Reply:
    if script.raw:
        headers = {"content-type": script.content_type} | dict(script.headers)
        return Reply(script.status or 200, headers, script.raw, is_stream=True)
    if not _has_key(request):
        missing = "x-api-key header is required" if _is_anthropic(request) else "You didn't provide an API key."
        return _refuse(request, counts, 401, missing)
    if script.status >= 400:
        return _fail(request, counts, script)
    route = (request.method, request.path)
    try:
        if route == ("POST", "/v1/chat/completions"):
            return _chat(request, _object(body), script, options, counts)
        if route == ("POST", "/v1/messages"):
            return _message(request, _object(body), script, options, counts)
        if route == ("POST", "/v1/embeddings"):
            return _whole(request, counts, openai.embeddings_body(_object(body)))
        if route == ("POST", "/v1/messages/count_tokens"):
            tokens = anthropic.read_messages(_object(body), is_count=True).tokens_in
            return _whole(request, counts, json.dumps({"input_tokens": tokens}).encode())
    except BadRequest as error:
        return _refuse(request, counts, 400, str(error))
    if request.method == "GET" and request.path.startswith("/v1/models"):
        return _models(request, counts)
    return _refuse(request, counts, 404, f"Invalid URL ({request.method} {request.path})")


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise BadRequest(f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(found, dict):
        raise BadRequest("The body of your request is not a JSON object.")
    return found


def _nonce(ask: Ask, script: Script, counts: _Counts, choice: int = 0) -> str:
    return script.nonce or f"{counts.nth_time(request_hash(ask))}.{choice}"


def _chat(request: web.Request, body: dict[str, Any], script: Script, options: ProviderOptions, counts: _Counts) -> Reply:
    ask = openai.read_chat(body)
    nonces = [_nonce(ask, script, counts, choice) for choice in range(ask.choices)]
    answers = [answer(ask, script, nonce, options.error_share) for nonce in nonces]
    answer_id, created = counts.new_id(29), now_us() // 1_000_000
    if ask.is_stream:
        return _stream(request, counts, openai.chat_events(ask, answers, script, answer_id, created))
    return _whole(request, counts, openai.chat_body(ask, answers, script, answer_id, created))


def _message(request: web.Request, body: dict[str, Any], script: Script, options: ProviderOptions, counts: _Counts) -> Reply:
    ask = anthropic.read_messages(body)
    said = answer(ask, script, _nonce(ask, script, counts), options.error_share)
    answer_id = counts.new_id(24)
    headers = _headers(request, counts)
    if ask.is_stream:
        events = anthropic.message_events(ask, said, script, answer_id, headers["request-id"])
        return _stream(request, counts, events, headers)
    return _whole(request, counts, anthropic.message_body(ask, said, script, answer_id, headers["request-id"]), headers)


def _models(request: web.Request, counts: _Counts) -> Reply:
    name = request.path.removeprefix("/v1/models").strip("/")
    is_anthropic = _is_anthropic(request)
    if name and name not in (anthropic.MODELS if is_anthropic else openai.MODELS):
        return _refuse(request, counts, 404, f"The model '{name}' does not exist")
    shown = anthropic.models_body(name) if is_anthropic else openai.models_body(1_720_000_000, name)
    return _whole(request, counts, json.dumps(shown).encode())


def _whole(request: web.Request, counts: _Counts, body: bytes, headers: dict[str, str] | None = None) -> Reply:
    return Reply(200, {"content-type": "application/json"} | (headers or _headers(request, counts)), [body])


def _stream(request: web.Request, counts: _Counts, events: Iterator[bytes], headers: dict[str, str] | None = None) -> Reply:
    kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Reply(200, kind | (headers or _headers(request, counts)), events, is_stream=True)


def _refuse(request: web.Request, counts: _Counts, status: int, message: str) -> Reply:
    headers = _headers(request, counts)
    if _is_anthropic(request):
        body = anthropic.error_body(status, message, headers["request-id"])
    else:
        body = openai.error_body(status, message)
    return Reply(status, {"content-type": "application/json"} | headers, [json.dumps(body).encode()])


def _fail(request: web.Request, counts: _Counts, script: Script) -> Reply:
    reply = _refuse(request, counts, script.status, _MESSAGES.get(script.status, f"Scripted error {script.status}."))
    seconds = script.retry_after if script.retry_after >= 0 else 1 if script.status in (429, 503, 529) else None
    return reply if seconds is None else Reply(reply.status, dict(reply.headers) | {"retry-after": f"{seconds:g}"}, reply.pieces)


def _headers(request: web.Request, counts: _Counts) -> dict[str, str]:
    """What the real ones send about themselves and the caller's limits."""
    left = str(9_999 - counts.requests % 5_000)
    if _is_anthropic(request):
        return {
            "request-id": f"req_01{counts.new_id(22)}",
            "anthropic-organization-id": "00000000-0000-4000-8000-000000000000",
            "anthropic-ratelimit-requests-limit": "10000",
            "anthropic-ratelimit-requests-remaining": left,
            "anthropic-ratelimit-tokens-limit": "2000000",
            "anthropic-ratelimit-tokens-remaining": "1990000",
        }
    return {
        "x-request-id": f"req_{counts.rng.getrandbits(128):032x}",
        "openai-processing-ms": str(counts.rng.randrange(3, 12)),
        "openai-version": "2020-10-01",
        "openai-organization": "org-scripted",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": left,
        "x-ratelimit-limit-tokens": "2000000",
        "x-ratelimit-remaining-tokens": "1990000",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "0s",
    }


def run(host: str = "127.0.0.1", port: int = 8487, latency_ms: float = 5.0, seed: int = 0) -> None:
    """Serves until SIGINT or SIGTERM; PortTakenError when somebody listens there."""
    asyncio.run(_run(ProviderOptions(latency_ms, seed), host, port))


async def _run(options: ProviderOptions, host: str, port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serving(options, host, port):
        await ended.wait()


def _port(given: str) -> int:
    if not (given.isascii() and given.isdecimal()) or int(given) > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{given!r} is not a port between 0 and {HIGHEST_PORT}")
    return int(given)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m proxy.provider`: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m proxy.provider", description="The scripted provider. Any key is good.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8487, help="port to listen on (default: %(default)s)")
    parser.add_argument("--latency-ms", type=float, default=5.0, help="mean time before the first byte (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides ids and the spread of latency (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        run(chosen.host, chosen.port, chosen.latency_ms, chosen.seed)
    except PortTakenError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
