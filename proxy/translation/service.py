"""Answers the relay's requests: reads one, asks litellm, writes the answer down piece by piece as it comes.

When the relay hangs up, the request to the provider is cancelled with ours. A provider's failure before its first byte is
an HTTP status; later it is an event that ends the stream, and a stream that the provider cut never looks finished.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from multidict import CIMultiDictProxy

from capture.settings import Settings
from proxy.settings import KEY_FROM_CLIENT, LITELLM, UpstreamSettings, read_upstreams
from proxy.translation import answer, library, question
from proxy.translation.library import Library, OpenStream
from proxy.translation.messages_stream import MessagesStream
from proxy.translation.question import Question, Refusal
from proxy.translation.trouble import CutError, Trouble, error_body, error_event, explain

UPSTREAM_HEADER = "x-potstill-upstream"
"""Request header that names the section [upstreams.NAME]; the relay sets it, a client's own is never passed on."""

ESTIMATED_HEADER = "x-token-count"
"""Answer header of count_tokens: `estimated` when a tokenizer of ours counted, and not the provider."""

_LOG = logging.getLogger("proxy.translation")
_EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_CLIENT_KEYS = ("x-api-key", "api-key", "x-goog-api-key")


@dataclass(frozen=True, slots=True)
class Provider:
    """An upstream of protocol litellm: its name, its address if it is not the usual one, and where its key comes from."""

    name: str
    url: str
    is_key_from_client: bool
    key_variable: str
    key_file: str


def read_providers(settings: Settings) -> dict[str, Provider]:
    """The upstreams that are translated to, by name. SettingsError."""
    urls = {name: given.url for name, given in settings.named_sections("upstreams", UpstreamSettings).items()}
    return {
        name: Provider(name, urls[name].rstrip("/"), each.key == KEY_FROM_CLIENT, each.key_variable, each.key_file)
        for name, each in read_upstreams(settings).items()
        if each.protocol == LITELLM
    }


class Service:
    """The web application's handler. `providers` may be replaced at any time; open requests keep theirs."""

    def __init__(self, providers: Mapping[str, Provider], load: Callable[[], Library] = library.load) -> None:
        self.providers = providers
        self._load = load
        self._loading: asyncio.Future[Library] | None = None

    def application(self, max_body_bytes: int) -> web.Application:
        """What aiohttp serves: every path, so that a wrong one is refused in the client's own shape too."""
        app = web.Application(client_max_size=max_body_bytes)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        family = question.family_of(request.path, request.headers)
        provider = self.providers.get(request.headers.get(UPSTREAM_HEADER, ""))
        if provider is None:
            what = f"{UPSTREAM_HEADER} names no [upstreams.NAME] with protocol litellm."
            return _refused(family, Trouble(404, what, "unknown_upstream"))
        try:
            asked = question.read_question(request.method, request.path, await request.read())
        except web.HTTPRequestEntityTooLarge:
            return _refused(family, Trouble(413, "The body is larger than max_body_mib in [relay] allows.", "too_large"))
        if isinstance(asked, Refusal):
            return _refused(family, Trouble(asked.status, asked.message, "not_translated", asked.field))
        key = _client_key(request.headers) if provider.is_key_from_client else _own_key(provider)
        if key is None:
            return _refused(family, Trouble(401 if provider.is_key_from_client else 503, _no_key(provider), "no_key"))
        try:
            ready = await self._library()
            result = await ready.ask(asked, key, provider.url)
            if not asked.is_stream:
                return _answered(asked, result)
            stream = await library.open_stream(result)
        except Exception as error:
            return _refused(family, _seen(error, provider, key))
        return await _relay_stream(request, asked, stream, provider, key)

    async def _library(self) -> Library:
        """litellm, loaded once; a client that goes away meanwhile does not stop it. A load that failed is tried again."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        return await asyncio.shield(self._loading)


async def _relay_stream(
    request: web.Request, asked: Question, stream: OpenStream, provider: Provider, key: str
) -> web.StreamResponse:
    events = _events(asked, stream)
    try:
        try:
            first = await anext(events)
        except StopAsyncIteration:
            return _refused(asked.family, _seen(CutError(), provider, key))
        except Exception as error:
            return _refused(asked.family, _seen(error, provider, key))
        response = web.StreamResponse(headers=_EVENT_STREAM | library.provider_headers(stream.result))
        await response.prepare(request)
        written = 0
        try:
            await response.write(first)
            written = 1
            async for event in events:
                await response.write(event)
                written += 1
        except ConnectionError:  # the relay has gone; whatever closes the provider's stream is below
            raise
        except Exception as error:
            trouble = _seen(error, provider, key)
            await response.write(error_event(asked.family, asked.operation == question.RESPONSES, trouble, written))
        await response.write_eof()
        return response
    finally:
        await events.aclose()
        await asyncio.shield(stream.close())


def _events(asked: Question, stream: OpenStream) -> AsyncGenerator[bytes, None]:
    """The answer's events in the client's protocol; CutError where the provider ended without saying why."""
    if asked.operation == question.MESSAGES and stream.inner is not None:
        return _messages_events(asked, stream)
    return _piece_events(asked, stream)


async def _messages_events(asked: Question, stream: OpenStream) -> AsyncGenerator[bytes, None]:
    writer = MessagesStream(f"msg_{uuid.uuid4().hex}", asked.model.rpartition("/")[2], stream.tool_names)
    async for chunk in stream.chunks():
        events = writer.feed(answer.as_data(chunk))
        if events:
            yield events
    if not stream.is_finished:
        raise CutError
    yield writer.end()


async def _piece_events(asked: Question, stream: OpenStream) -> AsyncGenerator[bytes, None]:
    number = 0
    async for piece in stream.pieces():
        match asked.operation:
            case question.MESSAGES:
                event = answer.messages_event(piece)
            case question.RESPONSES:
                event = answer.responses_event(piece, number)
            case _:
                event = answer.chat_event(piece)
        if answer.says_finished(asked, event) and not stream.is_finished:
            raise CutError
        yield event
        number += 1
    if not stream.is_finished:
        raise CutError
    if asked.operation in (question.CHAT, question.COMPLETION):
        yield answer.DONE


def _answered(asked: Question, result: Any) -> web.Response:
    headers = library.provider_headers(result)
    if asked.operation == question.COUNT and getattr(result, "tokenizer_type", "") == "local_tokenizer":
        headers[ESTIMATED_HEADER] = "estimated"
    return web.Response(body=answer.whole(asked, result), headers=headers, content_type="application/json")


def _refused(family: str, trouble: Trouble) -> web.Response:
    body = error_body(family, trouble)
    return web.Response(status=trouble.status, body=body, headers=dict(trouble.headers), content_type="application/json")


def _seen(error: Exception, provider: Provider, key: str) -> Trouble:
    """The failure as the client will see it, and a line about it in the log: never its words, which may hold content."""
    trouble = explain(error, provider.name, key)
    _LOG.warning("%s: %d (%s)", provider.name, trouble.status, type(error).__name__)
    return trouble


def _client_key(headers: CIMultiDictProxy[str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return next((value for name in _CLIENT_KEYS if (value := headers.get(name, "").strip())), None)


def _own_key(provider: Provider) -> str | None:
    """The key we hold, '' where litellm finds credentials by itself, None when it is not where the settings say.

    Read for each request, so that a new one in the file counts at once.
    """
    if provider.key_variable:
        return os.environ.get(provider.key_variable) or None
    if provider.key_file:
        try:
            return Path(provider.key_file).read_text("utf-8").strip() or None
        except (OSError, UnicodeDecodeError) as error:
            _LOG.warning("%s: key file %s cannot be read: %s", provider.name, provider.key_file, error)
            return None
    return ""


def _no_key(provider: Provider) -> str:
    if provider.is_key_from_client:
        what = f"There is no key for {provider.name} in the request."
        return f"{what} Send it as Authorization: Bearer, or set key in [upstreams.{provider.name}]."
    place = f"environment variable {provider.key_variable}" if provider.key_variable else f"file {provider.key_file}"
    return f"There is no key for {provider.name} in {place}. Set it."
