"""Recorded exchanges of many providers out of `../shared/data`: method, address, both bodies, and how the answer was labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests import cassettes

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


def read_recorded(hosts: tuple[str, ...] = ("",)) -> list[Recorded]:
    """Every exchange whose bytes were kept, of files with one of a host that has one of `hosts` in its name.

    Skips where the recordings are not laid out.
    """
    names = sorted({entry["file"] for entry in cassettes.index() if any(part in entry["host"] for part in hosts)})
    read = (
        _recorded(name, request, response)
        for name in names
        if cassettes.is_cassette(name)
        for request, response in cassettes.interactions(name)
    )
    return [each for each in read if each is not None]


def _recorded(name: str, request: dict[str, Any], response: dict[str, Any]) -> Recorded | None:
    sent, received = cassettes.body_of(request), cassettes.body_of(response)
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
