"""`potstill up` as a user starts it, with scripted upstreams behind it: tests see sockets and the store, nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from capture import feed
from capture.database import Database, open_database
from capture.errors import NotFoundError
from capture.exchange import Content, Conversation, Exchange
from capture.filters import parse_filter
from capture.settings import load_settings
from serve.flag_store import set_share
from serve.release_store import READY, add_release, settle_release
from tests.proxy.scripting import (
    Received,
    Reply,
    Script,
    Upstream,
    answer_whole,
    chunk,
    chunked_head,
    free_port,
    http_answer,
    talk,
)

KEY = "Authorization: Bearer sk-test\r\nContent-Type: application/json\r\n"
OURS = "x-potstill-"
TRIED = "triage"
"""The task whose every request goes to the student."""
LONGEST_S = 60.0
"""Deadline of anything that is waited for; what is expected takes milliseconds."""


@dataclass(frozen=True)
class Stored:
    """What the store holds of one exchange."""

    exchange: Exchange
    content: Content
    conversation: Conversation

    @property
    def answer(self) -> str:
        """The words of the answer."""
        assert self.conversation.answer is not None
        return self.conversation.answer.text


@dataclass
class House:
    """A running `potstill up`: the port of its relay, its upstream and its student, and its store."""

    folder: Path
    port: int
    upstream: Upstream
    student: Upstream
    process: subprocess.Popen[bytes]
    database: Database

    @property
    def address(self) -> str:
        """Where apps point their base URL, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """As if upstream and student had never been asked."""
        for upstream in (self.upstream, self.student):
            upstream.script = answer_whole
            upstream.received.clear()

    async def ask(self, line: str, headers: str = KEY, body: bytes = b"", *, version: str = "1.1") -> Reply:
        """One request to the relay over a fresh socket."""
        async with asyncio.timeout(LONGEST_S):
            return await talk(self.port, line, headers, body, version=version)

    async def stored(self, id: str) -> Stored:
        """The exchange once the store writer has stored it."""
        async with asyncio.timeout(LONGEST_S):
            while True:
                try:
                    exchange = feed.get(self.database, id)
                except NotFoundError:
                    await asyncio.sleep(0.01)
                    continue
                content = feed.content(self.database, exchange)
                return Stored(exchange, content, feed.conversation_of(exchange, content))

    async def stored_in(self, session: str) -> Stored:
        """The only exchange of `session`, once it is stored."""
        async with asyncio.timeout(LONGEST_S):
            while not (found := feed.page(self.database, parse_filter(f"session:{session}"))):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (exchange,) = found
        return await self.stored(exchange.id)

    async def stored_of(self, reply: Reply) -> Stored:
        """The exchange that `reply` names, whose stored bytes must be those that the client got."""
        found = await self.stored(reply.header("x-potstill-exchange-id"))
        assert found.content.response_body == reply.body
        assert found.content.response_sha256 == hashlib.sha256(reply.body).hexdigest()
        assert found.exchange.status == reply.status
        return found


@asynccontextmanager
async def house(folder: Path, more: str = "") -> AsyncIterator[House]:
    """A house in `folder` that takes requests; `more` stands at the end of its potstill.toml. Ended with the context."""
    async with serving() as upstream, serving() as student:
        port = free_port()
        path = folder / "potstill.toml"
        path.write_text(_configuration(port, upstream.port, student.port) + more.format(port=upstream.port), "utf-8")
        settings = load_settings(path, environ={})
        database = open_database(settings.database_url)
        release = add_release(database, TRIED, "ad_1", {})
        settle_release(database, release, READY, {}, 10, 10)
        set_share(database, TRIED, 10_000, who="tests", why="every unit")
        with (folder / "up.log").open("wb") as log:
            command = [sys.executable, "-m", "potstill", "--config", str(path), "up"]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=_environment())  # noqa: ASYNC220  starts at once
        try:
            await _takes_requests(process, port, folder)
            yield House(folder, port, upstream, student, process, database)
        finally:
            await asyncio.to_thread(_end, process)
            database.close()


@asynccontextmanager
async def serving(script: Script = answer_whole) -> AsyncIterator[Upstream]:
    """An upstream on a free port."""
    found = Upstream(script)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, limit=2**26)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


def _configuration(port: int, upstream: int, student: int) -> str:
    return f"""
[store]
data_folder = "data"
[relay]
port = {port}
admin_port = {free_port()}
[engine]
url = "http://127.0.0.1:{student}"
[upstreams.openai]
url = "http://127.0.0.1:{upstream}/v1"
[upstreams.anthropic]
url = "http://127.0.0.1:{upstream}"
protocol = "anthropic"
"""


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[3])
    return {**os.environ, "PYTHONPATH": root}


async def _takes_requests(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    async with asyncio.timeout(LONGEST_S):
        while True:
            assert process.poll() is None, (folder / "up.log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def streaming(pieces: list[bytes], head: bytes | None = None) -> Script:
    """A script that sends `pieces`, each as an HTTP chunk and a packet of its own."""

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(head or chunked_head())
        for piece in pieces:
            writer.write(chunk(piece))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    return script


def whole(body: bytes, status: str = "200 OK", **headers: str) -> Script:
    """A script that sends `body` with its length; in names of headers '_' stands for '-'."""

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        writer.write(http_answer(body, status=status, headers=named))

    return script


def theirs(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers without those that we add, names in lower case, sorted."""
    added = ("date", "x-accel-buffering", "cache-control")
    return sorted((name.lower(), value) for name, value in headers if not name.lower().startswith((OURS, *added)))


async def compared(house: House, path: str, script: Script, request: bytes, headers: str = KEY) -> Stored:
    """Asks once directly and once through the relay; both must give the same bytes, and the upstream the same request.

    The stored exchange, which holds those bytes.
    """
    house.upstream.script = script
    async with asyncio.timeout(LONGEST_S):
        direct = await talk(house.upstream.port, f"POST {path}", headers, request)
    relayed = await house.ask(f"POST {path}", headers, request)
    assert relayed.is_whole
    assert (relayed.status, relayed.body) == (direct.status, direct.body)
    assert theirs(relayed.headers) == theirs(direct.headers)
    asked, passed_on = house.upstream.received[-2:]
    assert passed_on.body == asked.body == request
    assert passed_on.line == asked.line
    found = await house.stored_of(relayed)
    assert found.content.request_body == request
    assert found.content.request_sha256 == hashlib.sha256(request).hexdigest()
    return found


def ask_of(path: str, **fields: object) -> bytes:
    """A streamed request as an app would send it to `path`."""
    said = "input" if path.endswith("responses") else "messages"
    asked: object = "hé 北" if said == "input" else [{"role": "user", "content": "hé 北"}]
    return json.dumps({"model": "m-1", "stream": True, said: asked, **fields}, ensure_ascii=False).encode()
