"""Raw sockets: bytes as an attacker sends them, and what comes back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from tests.proxy.scripting import Reply, read_reply

PATIENCE_S = 60
"""How long a busy machine may take for an answer."""
KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model": "m", "messages": []}'
HOST = "Host: 127.0.0.1\r\n"


async def send(port: int, data: bytes) -> list[Reply]:
    """Sends `data` over a fresh connection; every answer up to its end, which the server has to bring about."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    replies = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            try:
                writer.write(data)
                while True:
                    replies.append(await read_reply(reader))
            except (asyncio.IncompleteReadError, ConnectionError):
                return replies
    finally:
        writer.close()


def request(line: str, headers: str = "", body: bytes = b"", *, host: str = HOST) -> bytes:
    """A request with `line` (method and target), Content-Length and `body`, the only one on its connection."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{line} HTTP/1.1\r\n{host}{headers}{length}Connection: close\r\n\r\n".encode("utf-8", "surrogateescape") + body


def said(reply: Reply, family: str) -> str:
    """The message of an error of ours in the shape of `family`; fails when it has another shape."""
    assert reply.header("content-type").startswith("application/json"), reply
    shown = json.loads(reply.body)
    error = shown["error"]
    if family == "anthropic":
        assert shown["type"] == "error", shown
        assert set(error) == {"type", "message"}, shown
    else:
        assert set(error) >= {"message", "type", "code"}, shown
    assert isinstance(error["message"], str), shown
    return str(error["message"])


@dataclass
class Listener:
    """A server that must not be asked: it counts connections and keeps their first bytes."""

    port: int = 0
    seen: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.seen.append(await reader.read(65_536))
        writer.close()
