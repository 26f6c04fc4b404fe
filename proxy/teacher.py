"""Asks the upstream that a request is for."""

from __future__ import annotations

import os

from multidict import CIMultiDict

from proxy.failures import Failure
from proxy.headers import for_upstream
from proxy.outbound import Answer
from proxy.reading import Asked
from proxy.recording import Recording
from proxy.relay import Config
from proxy.settings import KEY_FROM_CLIENT, OPENAI


async def ask_teacher(config: Config, asked: Asked, headers: CIMultiDict[str], recording: Recording) -> Answer:
    """The upstream's answer as soon as its head is there; UpstreamFailedError."""
    assert asked.route is not None
    upstream = asked.route.upstream
    reply = await config.outbound.ask(upstream, asked.method, asked.route.url, headers, asked.body, recording)
    return Answer(reply, upstream.name)


def upstream_headers(asked: Asked) -> CIMultiDict[str] | Failure:
    """The headers for the teacher, or why its key is missing."""
    assert asked.route is not None
    upstream = asked.route.upstream
    headers = for_upstream(asked.headers, upstream, os.environ)
    if headers is not None:
        return headers
    if upstream.key == KEY_FROM_CLIENT:
        variable = "OPENAI_API_KEY" if upstream.protocol == OPENAI else "ANTHROPIC_API_KEY"
        return Failure(
            401,
            "missing_key",
            f"The request has no API key, and upstream {upstream.name} takes the client's.",
            f'Set {variable} in the app, or key = "env:NAME" in [upstreams.{upstream.name}] of potstill.toml.',
        )
    return Failure(
        401,
        "missing_key",
        f"Environment variable {upstream.key_variable}, the key of upstream {upstream.name}, is not set in the relay.",
        f"Set {upstream.key_variable} where Potstill starts, then start it again.",
    )
