"""Recorded exchanges of real providers, and helpers to write spools and drain them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from capture import ids
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from tests import cassettes

PATHS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages")
OTHERS = ("googleapis.com", "gemini", "bedrock-runtime", "cohere", "threads", "/api/embeddings")


@dataclass(frozen=True)
class Recording:
    """One recorded exchange: protocol, path and both bodies as bytes."""

    name: str
    host: str
    protocol: str
    path: str
    status: int
    is_stream: bool
    request: bytes
    response: bytes
    encoding: str = ""


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """Exchanges with OpenAI, its imitators and Anthropic out of recorded cassettes; skips where they are not laid out."""
    kept = [entry for entry in cassettes.index() if (entry.get("path") or "").endswith(PATHS)]
    names = sorted({entry["file"] for entry in kept if cassettes.is_cassette(entry["file"])})
    read = (_recording(name, request, response) for name in names for request, response in cassettes.interactions(name))
    return [each for each in read if each is not None]


def _recording(name: str, request: dict[str, Any], response: dict[str, Any]) -> Recording | None:
    url = request["uri"].split("?")[0]
    host, _, path = url.rpartition("//")[2].partition("/")
    sent, received = cassettes.body_of(request), cassettes.body_of(response)
    is_known = path.endswith(PATHS) and not any(part in url for part in OTHERS)
    if not is_known or sent is None or received is None or "status" not in response:
        return None
    protocol = "anthropic" if path.endswith("/messages") else "openai"
    status = response["status"]
    code = status if isinstance(status, int) else status["code"]
    headers = {key.lower(): value for key, value in (response.get("headers") or {}).items()}
    encoding = headers.get("content-encoding", "")
    encoding = encoding[0] if isinstance(encoding, list) else encoding
    is_packed = received[:2] == b"\x1f\x8b"
    is_stream = b'"stream":true' in sent.replace(b" ", b"")
    return Recording(name, host, protocol, "/" + path, int(code), is_stream, sent, received, encoding if is_packed else "")


CHAT = b'{"model":"gpt-4o","messages":[{"role":"user","content":"Where is my parcel?"}]}'
ANSWER = b'{"id":"c1","model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"On its way."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}'  # noqa: E501


@dataclass
class Relay:
    """Stands where the relay stands: writes whole exchanges, or their beginnings, into a real spool."""

    spool: SpoolWriter
    sent: list[str] = field(default_factory=list)

    def exchange(
        self, *, body: bytes = CHAT, answer: bytes = ANSWER, parts: int = 1, state: str = "complete", **begin: Any
    ) -> str:
        raw_id = self.open(body=body, **begin)
        step = max(1, -(-len(answer) // parts))
        self.spool.head(raw_id, Head(200, {"content-type": "application/json"}))
        for start in range(0, len(answer), step):
            self.spool.part(raw_id, answer[start : start + step])
        self.spool.end(raw_id, End(200, state, latency_us=1500))
        return ids.format_id("ex", raw_id)

    def open(self, *, body: bytes = CHAT, **begin: Any) -> bytes:
        raw_id = ids.new_raw_id()
        fields = {"task": "parcels", "model_asked": "gpt-4o", "upstream": "openai", **begin}
        path = fields.pop("path", "/v1/chat/completions")
        protocol = fields.pop("protocol", "openai")
        self.spool.begin(raw_id, Begin("POST", path, "", protocol, body=body, **fields))
        self.sent.append(ids.format_id("ex", raw_id))
        return raw_id


@pytest.fixture
def spool_root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def make_relay() -> type[Relay]:
    """Makes a relay around a spool of the test's own."""
    return Relay


@pytest.fixture
def relay(spool_root: Path) -> Iterator[Relay]:
    """A relay with a spool of its own under `spool_root`."""
    spool = SpoolWriter(spool_root)
    yield Relay(spool)
    spool.close()
