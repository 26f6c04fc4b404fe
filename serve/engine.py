"""A client of the engine: health, models, loading and unloading adapters, chat.

The engine loads whatever path it is told, so names and folders are checked here before it hears of them. Adapters on
disk are immutable and every release has a name of its own: the engine's prefix cache goes by name and path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from capture.errors import EngineError, UpstreamError
from serve.adapter_check import refuse_unloadable

BASE = "base"
"""The name under which the engine serves the base model itself."""
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,200}")


@dataclass(frozen=True, slots=True)
class EngineModel:
    """A name that the engine answers to; `root` is the folder or hub name behind it, `parent` is '' for the base model."""

    name: str
    root: str
    parent: str


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """One answer of the engine, with tokens as it counted them."""

    text: str
    finish_reason: str
    tokens_in: int
    tokens_out: int


class EngineClient:
    """Talks with the engine at `url`, such as http://127.0.0.1:8486. Safe to share between threads; close it when done.

    UpstreamError when the engine cannot be reached, EngineError when it refuses.
    """

    def __init__(self, url: str, timeout_s: float = 120.0) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=httpx.Timeout(timeout_s, connect=5.0), trust_env=False)

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections; may be called twice."""
        self._client.close()

    def health(self, timeout_s: float = 5.0) -> bool:
        """True when the engine says that it can serve; never raises for an engine that is down."""
        try:
            return self._client.get("/health", timeout=timeout_s).status_code == 200
        except httpx.HTTPError:
            return False

    def models(self) -> list[EngineModel]:
        """What the engine serves now: the base model and the adapters that were loaded since it started."""
        data = self._ask("GET", "/v1/models").json()["data"]
        return [EngineModel(one["id"], one.get("root") or "", one.get("parent") or "") for one in data]

    def load(self, name: str, folder: Path, max_rank: int) -> None:
        """Serves the adapter in `folder` as `name`; nothing happens when it already does.

        GateError when the engine could not serve it, EngineError when `name` stands for another folder.
        """
        _check_name(name)
        path = folder.resolve()
        refuse_unloadable(path, max_rank)
        for model in self.models():
            if model.name == name:
                if model.parent and Path(model.root) == path:
                    return
                raise EngineError(
                    f"The engine already serves {model.root} as {name!r}.",
                    "Make a new release; a name never changes its weights.",
                )
        self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload(self, name: str) -> None:
        """Stops serving `name`; EngineError when the engine does not serve it."""
        _check_name(name)
        self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def warm_up(self, name: str) -> None:
        """One short answer under `name`, with log-probabilities: their first use compiles code and costs seconds."""
        _check_name(name)
        body = {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 1}
        self._ask("POST", "/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "Hello"}], **body})

    def chat(
        self, name: str, messages: Sequence[Mapping[str, str]], *, max_tokens: int | None = None, temperature: float = 0.0
    ) -> EngineAnswer:
        """The answer of `name` to `messages`; greedy unless a temperature is given."""
        _check_name(name)
        body: dict[str, Any] = {"model": name, "messages": list(messages), "temperature": temperature}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        answer = self._ask("POST", "/v1/chat/completions", body).json()
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        return EngineAnswer(
            choice["message"].get("content") or "",
            choice.get("finish_reason") or "",
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
        )

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise UpstreamError(
                f"The engine at {self.url} does not answer: {str(error) or type(error).__name__}.",
                "Start it with `potstill engine` or `potstill up`.",
            ) from error
        if response.status_code >= 400:
            raise EngineError(f"The engine refused {path} with status {response.status_code}: {_reason(response)}.", "")
        return response


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or set(name) == {"."}:
        raise EngineError(f"{name!r} cannot be a model's name.", "Use letters, digits, dots, underscores, @ and hyphens.")


def _reason(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.text[:500].strip()
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"].get("message", body)
    return str(body)[:500].strip().rstrip(".")
