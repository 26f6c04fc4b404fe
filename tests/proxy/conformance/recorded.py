"""Recorded exchanges of many providers out of `../shared/data`: method, address, both bodies, and how the answer was labelled."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data"
SUFFIXES = {
    "/chat/completions": "openai",
    "/completions": "openai",
    "/embeddings": "openai",
    "/responses": "openai",
    "/messages": "anthropic",
}
"""What a path of a known API ends with, and whose API that is."""
_FOREIGN = ("googleapis.com", "gemini", "bedrock-runtime", "cohere", "threads", "/api/embeddings", "/prompts/")
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}


@dataclass(frozen=True)
class Recorded:
    """One exchange as it was recorded; `encoding` is that of the response bytes, '' where they are plain."""

    name: str
    method: str
    host: str
    path: str
    query: str
    request: bytes
    status: int
    content_type: str
    encoding: str
    response: bytes

    @property
    def suffix(self) -> str:
        """The known end of its path; '' for an API that the relay passes on without understanding it."""
        if self.method != "POST" or any(part in self.host + self.path for part in _FOREIGN):
            return ""
        return next((suffix for suffix in SUFFIXES if self.path.endswith(suffix)), "")


def read_recorded() -> list[Recorded]:
    """Every exchange whose bytes were kept; skips where the recordings are not laid out."""
    if not (FOLDER / "cassettes_index.jsonl").is_file():
        pytest.skip("recorded exchanges are not in ../shared/data")
    lines = (FOLDER / "cassettes_index.jsonl").read_text("utf-8").splitlines()
    names = sorted({json.loads(line)["file"] for line in lines})
    return [each for name in names if name.endswith((".yaml", ".yml")) for each in _read(name)]


@cache
def _loader() -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Reads the bytes of Ruby's cassettes, too."""

    Loader.add_constructor("!binary", yaml.SafeLoader.construct_yaml_binary)
    return Loader


def _read(name: str) -> Iterator[Recorded]:
    import yaml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cassette = yaml.load((FOLDER / name).read_text("utf-8"), Loader=_loader())
    for entry in cassette.get("interactions") or cassette.get("http_interactions") or []:
        found = _recorded(name, entry["request"], entry["response"])
        if found is not None:
            yield found


def _recorded(name: str, request: dict[str, Any], response: dict[str, Any]) -> Recorded | None:
    sent, received = _body(request), _body(response)
    if received is None or "status" not in response:
        return None
    parts = urlsplit(request["uri"])
    status = response["status"]
    headers = {key.lower(): value[0] if isinstance(value, list) else value for key, value in (response["headers"] or {}).items()}
    return Recorded(
        name,
        request["method"].upper(),
        parts.netloc,
        "/" + parts.path.partition("/")[2],  # the host of some is a word in brackets
        parts.query,
        sent or b"",
        int(status if isinstance(status, int) else status["code"]),
        str(headers.get("content-type", "application/json")),
        _PACKED.get(received[:2], ""),
        received,
    )


def _body(side: dict[str, Any]) -> bytes | None:
    if "parsed_body" in side:
        return json.dumps(side["parsed_body"]).encode()
    body = side.get("body")
    if isinstance(body, dict):
        if "base64_string" in body:
            return base64.b64decode(body["base64_string"])
        body = body.get("string")
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return body if isinstance(body, bytes) else None
