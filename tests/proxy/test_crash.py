"""kill -9 under load: what a client received whole is in the store, once and byte for byte.

The client keeps its own ledger: the exchange's id, the bytes it received, and whether the last one came. A real relay
process and a real store writer are killed at random moments and started again; then the ledger is held against the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from capture import feed
from capture.database import open_database
from capture.exchange import COMPLETE, INTERRUPTED
from capture.filters import parse_filter
from capture.settings import Settings
from tests.proxy.scripting import Received, Upstream, chunk, chunked_head, free_port, http_answer, parse_head, relay_settings

ROUNDS = 6
CLIENTS = 16


@dataclass
class Entry:
    """What the client knows about one exchange."""

    number: int
    body: bytes = b""
    is_whole: bool = False


@dataclass
class Ledger:
    """Everything that the client saw, by exchange id."""

    entries: dict[str, Entry] = field(default_factory=dict)
    asked: int = 0

    @property
    def whole(self) -> int:
        return sum(entry.is_whole for entry in self.entries.values())


def answer_to(number: int) -> tuple[list[bytes], bool]:
    """The pieces of the answer to request `number`, always the same, and whether they are a stream."""
    generator = random.Random(number)
    if number % 3 == 0:
        words = [f"{number}-{at}-{'x' * generator.randint(0, 60)}" for at in range(generator.randint(2, 30))]
        events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
        finish = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        return [f"data: {json.dumps(event)}\n\n".encode() for event in [*events, finish]] + [b"data: [DONE]\n\n"], True
    content = f"{number} " + "y" * generator.choice((10, 1_000, 60_000))
    message = {"role": "assistant", "content": content}
    return [json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()], False


async def script(received: Received, writer: asyncio.StreamWriter) -> None:
    """Streams take some 30 ms, whole answers arrive in two halves."""
    pieces, is_stream = answer_to(json.loads(received.body)["n"])
    if is_stream:
        writer.write(chunked_head())
        for piece in pieces:
            writer.write(chunk(piece))
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")
    else:
        answer = http_answer(pieces[0])
        writer.write(answer[: len(answer) // 2])
        await asyncio.sleep(0.001)
        writer.write(answer[len(answer) // 2 :])


async def ask(port: int, number: int, ledger: Ledger) -> None:
    """One request; whatever is received goes into the ledger at once."""
    body = json.dumps({"n": number, "model": "m", "stream": answer_to(number)[1], "messages": []}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: [::1]\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answered = parse_head(await reader.readuntil(b"\r\n\r\n"))
        entry = ledger.entries.setdefault(answered.header("x-potstill-exchange-id"), Entry(number))
        if answered.header("transfer-encoding"):
            while size := int((await reader.readline()).strip() or b"-1", 16):
                await _read_into(entry, reader, size)
                await reader.readexactly(2)
            entry.is_whole = await reader.readexactly(2) == b"\r\n"
        else:
            length = int(answered.header("content-length"))
            await _read_into(entry, reader, length)
            entry.is_whole = len(entry.body) == length
    finally:
        writer.close()


async def _read_into(entry: Entry, reader: asyncio.StreamReader, size: int) -> None:
    if size < 0:
        raise ConnectionError("the connection ended inside a stream")
    left = size
    while left:
        piece = await reader.read(left)
        if not piece:
            raise ConnectionError("the connection ended inside a body")
        entry.body += piece
        left -= len(piece)


async def client(port: int, ledger: Ledger, stop: asyncio.Event) -> None:
    """Asks one request after the other; a connection that fails is no reason to stop."""
    while not stop.is_set():
        ledger.asked += 1
        try:
            await ask(port, ledger.asked, ledger)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            await asyncio.sleep(0.05)


def start(module: str, settings: Settings) -> subprocess.Popen[bytes]:
    with (settings.folder / f"{module}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, "--config", str(settings.path)], stdout=log, stderr=log, cwd=settings.folder
        )


async def served(count: int, ledger: Ledger) -> None:
    """Until `count` more answers came whole."""
    until = ledger.whole + count
    async with asyncio.timeout(30):
        while ledger.whole < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def run_rounds(settings: Settings, port: int, ledger: Ledger, generator: random.Random) -> None:
    """Load through `ROUNDS` deaths of the relay and some of the store writer, then an orderly end."""
    stop = asyncio.Event()
    worker, writer = start("proxy.worker", settings), start("capture.writer", settings)
    clients = [asyncio.ensure_future(client(port, ledger, stop)) for _ in range(CLIENTS)]
    try:
        for number in range(ROUNDS):
            await served(20, ledger)
            await asyncio.sleep(generator.uniform(0.05, 0.5))
            worker.kill()
            worker.wait()
            worker = start("proxy.worker", settings)
            if number % 2:
                await asyncio.sleep(generator.uniform(0, 0.3))
                writer.kill()
                writer.wait()
                writer = start("capture.writer", settings)
        await served(20, ledger)
        stop.set()
        await asyncio.gather(*clients)
        for process in (worker, writer):
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 60) == 0
    finally:
        for process in (worker, writer):
            if process.poll() is None:
                process.kill()
                process.wait()
        for each in clients:
            each.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*clients, return_exceptions=True)


async def test_no_exchange_that_a_client_received_whole_is_lost_doubled_or_changed(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script = script
    port = free_port()
    settings = relay_settings(tmp_path, upstream.url, port=port)
    ledger = Ledger()
    await run_rounds(settings, port, ledger, random.Random(11))
    database = open_database(settings.database_url)
    try:
        stored = {exchange.id: exchange for exchange in feed.page(database, parse_filter(""), limit=1_000_000)}
        bodies = {exchange.id: feed.body(database, exchange.response_body) for exchange in stored.values()}
        asked = Counter(json.loads(feed.body(database, exchange.request_body))["n"] for exchange in stored.values())
        assert feed.count(database, parse_filter(""), cap=1_000_000) == len(stored)
    finally:
        database.close()
    assert ledger.whole > 200
    lost = [id for id, entry in ledger.entries.items() if id not in stored]
    assert lost == []
    assert [number for number, times in asked.items() if times > 1] == [], "no request is stored twice"
    for id, entry in ledger.entries.items():
        exchange, body = stored[id], bodies[id]
        if entry.is_whole:
            assert exchange.state == COMPLETE
            assert exchange.response_sha256 == hashlib.sha256(entry.body).hexdigest()
            assert body == entry.body == b"".join(answer_to(entry.number)[0])
        else:
            assert exchange.state in (INTERRUPTED, COMPLETE)
            assert body.startswith(entry.body), "what had arrived at the client is kept"
            whole = b"".join(answer_to(entry.number)[0])
            assert exchange.state != COMPLETE or body in (whole, whole.removesuffix(b"data: [DONE]\n\n"))
    unseen = [exchange for exchange in stored.values() if exchange.id not in ledger.entries]
    assert {exchange.state for exchange in unseen} <= {INTERRUPTED, COMPLETE, "upstream_aborted", "client_closed"}
    assert any(exchange.state == INTERRUPTED for exchange in stored.values()), "the kills hit open exchanges"
    assert list((settings.data_folder / "spool").glob("sp_*/*.seg")) == []
