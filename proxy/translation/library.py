"""The only place that imports litellm: loads it without anything that phones home, and asks it.

`load` takes seconds and thousands of modules, once; call it in a thread, at the first request. Nothing that litellm would
fetch for itself (prices, headers, notes, tokenizers), no telemetry, no callback, no log: its lines may hold content. What
it does not know of a provider it must say, not drop.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from proxy.translation import question

_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_MODE": "PRODUCTION",  # else it reads a file .env
    "LITELLM_RUST": "false",  # one way to a provider, which can be cancelled and watched
    "LITELLM_LOG": "CRITICAL",
    "LITELLM_DROP_PARAMS": "false",
    "LITELLM_MODIFY_PARAMS": "",
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",
    "HF_HUB_OFFLINE": "1",
    "AIOHTTP_CONNECTOR_LIMIT": "100000",  # max_concurrent of the upstream is the limit; a second one would queue unseen
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "0",
    "AIOHTTP_TRUST_ENV": "True",  # HTTPS_PROXY
    "AIOHTTP_KEEPALIVE_TIMEOUT": "15",  # shorter than a provider's own, as in the relay
}
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")
_WAYS_IN = ("_anthropic_wrapper", "litellm_custom_stream_wrapper", "completion_stream", "_stream")
_PASSED_HEADERS = ("x-ratelimit-", "anthropic-ratelimit-", "retry-after", "request-id", "x-request-id", "x-amzn-requestid")
_HEADER_PREFIX = "llm_provider-"
_GEMINI_MODULE = "vertex_and_google_ai_studio_gemini"


class ProviderStream(Protocol):
    """The innermost stream of litellm's: one provider's chunks, before they are dressed for a protocol."""

    received_finish_reason: str | None
    intermittent_finish_reason: str | None

    async def fetch_stream(self) -> Any:
        """Sends the request and waits for the head of the answer."""

    async def aclose(self) -> None:
        """Closes the connection to the provider."""


@dataclass(frozen=True, slots=True)
class Library:
    """litellm's calls by the name of the operation."""

    calls: Mapping[str, Callable[..., Awaitable[Any]]]

    async def ask(self, asked: question.Question, key: str, url: str) -> Any:
        """litellm's answer: an object, or an iterator over pieces when a stream was asked for. Raises whatever it raises."""
        arguments: dict[str, Any] = {**asked.arguments, "model": asked.model}
        if key:
            arguments["api_key"] = key
        if url:
            arguments["api_base"] = url
        if asked.operation != question.COUNT:
            arguments |= {"max_retries": 0, "num_retries": 0}
        return await self.calls[asked.operation](**arguments)


def load() -> Library:
    """Imports litellm and makes it quiet. Idempotent, and slow the first time."""
    os.environ.update(_ENVIRONMENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of its dependencies
        import litellm
        from litellm.llms.anthropic.pass_through.adapters.handler import (
            LiteLLMMessagesToCompletionTransformationHandler as Messages,
        )

    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydantic\.")
    settings: Any = litellm
    for name in ("input_callback", "success_callback", "failure_callback", "service_callback", "callbacks"):
        setattr(settings, name, [])
    settings.telemetry = settings.set_verbose = settings.drop_params = settings.modify_params = False
    settings.suppress_debug_info = settings.disable_hf_tokenizer_download = settings.user_url_validation = True
    settings.redact_messages_in_exceptions = True
    # Looked for at every message to Anthropic's API, and not installed whole: tens of milliseconds, each time in vain.
    sys.modules.setdefault("litellm.proxy.proxy_server", cast(Any, None))
    settings.disable_streaming_logging = True
    settings.include_cost_in_streaming_usage = False
    settings.cache = None
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.disabled = True
    return Library(
        {
            question.CHAT: settings.acompletion,
            question.COMPLETION: settings.atext_completion,
            question.EMBEDDING: settings.aembedding,
            question.IMAGE: settings.aimage_generation,
            question.RESPONSES: settings.aresponses,
            # The way by chat for every provider: litellm's others need its proxy's packages.
            question.MESSAGES: cast(Any, Messages).async_anthropic_messages_handler,
            question.COUNT: settings.acount_tokens,
        }
    )


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream whose first bytes are there: the provider has said yes. Ends with `close`, whatever happens."""

    result: Any
    inner: ProviderStream | None
    _is_finished: Callable[[], bool]

    def pieces(self) -> AsyncIterator[Any]:
        """The pieces in the protocol that was asked for, as litellm makes them."""
        return cast(AsyncIterator[Any], aiter(self.result))

    def chunks(self) -> AsyncIterator[Any]:
        """The pieces as chat chunks, whatever the protocol."""
        return cast(AsyncIterator[Any], aiter(cast(Any, self.inner)))

    @property
    def is_finished(self) -> bool:
        """True when the provider has said why its answer ended; litellm makes a reason up where it has not."""
        return self._is_finished()

    @property
    def tool_names(self) -> Mapping[str, str]:
        """The client's names of tools by those that had to be sent instead."""
        return dict(getattr(getattr(self.result, "_anthropic_wrapper", None), "tool_name_mapping", None) or {})

    async def close(self) -> None:
        """Closes the connection to the provider."""
        for each in (self.inner, self.result):
            if each is not None and hasattr(each, "aclose"):
                await each.aclose()


async def open_stream(result: Any) -> OpenStream:
    """Waits for the provider's head of the answer; raises what the provider said when it said no."""
    inner = provider_stream(result)
    if inner is None:
        return OpenStream(result, None, lambda: True)
    await inner.fetch_stream()
    return OpenStream(result, inner, _end_watch(inner))


def _end_watch(inner: ProviderStream) -> Callable[[], bool]:
    """Tells whether the provider gave a reason to end; litellm reads one into every chunk of Gemini's, so there we look."""
    source: Any = getattr(inner, "completion_stream", None)
    parse = getattr(source, "chunk_parser", None)
    if parse is None or not type(source).__module__.endswith(_GEMINI_MODULE):
        return lambda: inner.received_finish_reason is not None or inner.intermittent_finish_reason is not None
    reasons: list[object] = []

    def watching(chunk: Mapping[str, Any]) -> Any:
        reasons.extend(reason for each in chunk.get("candidates") or () if (reason := each.get("finishReason")))
        if chunk.get("promptFeedback"):
            reasons.append("blocked")
        return parse(chunk)

    source.chunk_parser = watching
    return lambda: bool(reasons)


def provider_stream(stream: Any) -> ProviderStream | None:
    """The provider's own stream inside what litellm handed out; None where it hands out the provider's pieces as they are."""
    seen = stream
    for _ in range(len(_WAYS_IN) + 2):
        if hasattr(seen, "fetch_stream"):
            return cast(ProviderStream, seen)
        seen = next((found for name in _WAYS_IN if (found := getattr(seen, name, None)) is not None), None)
        if seen is None:
            return None
    return None


def provider_headers(answer: Any) -> dict[str, str]:
    """What the provider's answer said about limits and its own id of the request."""
    hidden = getattr(answer, "_hidden_params", None)
    found = hidden.get("additional_headers") if isinstance(hidden, Mapping) else None
    return passed_headers(found) if isinstance(found, Mapping) else {}


def passed_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Those headers of a provider that a client may act on, under their own names."""
    plain = {str(name).lower().removeprefix(_HEADER_PREFIX): str(value) for name, value in headers.items()}
    return {name: value for name, value in plain.items() if name.startswith(_PASSED_HEADERS) and value.isprintable()}
