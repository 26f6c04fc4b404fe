"""What the proxy's tests share: an upstream that does exactly what a test says, and a look into the spool."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from capture import records
from capture.records import Begin, End, Head
from capture.settings import Settings, load_settings
from capture.spool import read_records
from proxy.worker import Worker, start_worker

CHAT_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"teacher-1","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"billing"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,'
    b'"total_tokens":6}}'
)


@dataclass
class Received:
    """A request as it came off the wire."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header; '' when it is absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


Script = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def http_answer(body: bytes, *, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole HTTP answer with Content-Length."""
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    return "\r\n".join(head).encode() + body


def chunked_head(content_type: str = "text/event-stream", extra: str = "") -> bytes:
    """The head of a chunked answer."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n{extra}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def answer_whole(_received: Received, writer: asyncio.StreamWriter) -> None:
    """The default script."""
    writer.write(http_answer(CHAT_ANSWER))


@dataclass
class Upstream:
    """A server on a free port; `script` writes the raw answer to each request, `received` keeps the requests."""

    script: Script = answer_whole
    received: list[Received] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        """Address without /v1."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection; `closed` is set when the other side closes while a script runs or after it."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                received = await read_request(head, reader)
                self.received.append(received)
                script = asyncio.ensure_future(self.script(received, writer))
                gone = asyncio.ensure_future(_closed(reader))
                await asyncio.wait({script, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not script.done():
                    self.closed.set()
                    script.cancel()
                    return
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
                script.result()
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):  # uvloop says the last for a closed transport
            self.closed.set()
        finally:
            writer.close()


async def _closed(reader: asyncio.StreamReader) -> None:
    """Returns when the other side has closed; a reader at rest holds no bytes in these tests."""
    while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def parse_head(head: bytes) -> Received:
    """First line and headers of a request or an answer, without a body."""
    line, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return Received(line, [(name, value.strip()) for name, _, value in (each.partition(":") for each in rest)], b"")


async def read_request(head: bytes, reader: asyncio.StreamReader) -> Received:
    """The request that begins with `head`."""
    received = parse_head(head)
    if received.header("transfer-encoding"):
        while size := int((await reader.readline()).strip() or b"0", 16):
            received.body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif length := received.header("content-length"):
        received.body = await reader.readexactly(int(length))
    return received


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def relay_settings(folder: Path, upstream_url: str, **relay: object) -> Settings:
    """Settings with both families at `upstream_url`, the engine nowhere, and everything under `folder`."""
    lines = [
        "[store]",
        'data_folder = "data"',
        "[relay]",
        *(f"{key} = {value}" for key, value in {"port": 0, "admin_port": 0, **relay}.items()),
        "[upstreams.openai]",
        f'url = "{upstream_url}"',
        "[upstreams.anthropic]",
        f'url = "{upstream_url}"',
        'protocol = "anthropic"',
        "[engine]",
        f'url = "http://127.0.0.1:{free_port()}"',
    ]
    path = folder / "potstill.toml"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return load_settings(path, environ={})


@dataclass
class Kept:
    """What the spool holds of one exchange."""

    begin: Begin | None = None
    head: Head | None = None
    body: bytes = b""
    end: End | None = None
    order: list[int] = field(default_factory=list)


def kept(settings: Settings) -> list[Kept]:
    """Every exchange in the spools, in the order of their BEGINs."""
    found: dict[bytes, Kept] = {}
    for path in sorted((settings.data_folder / "spool").glob("sp_*/*.seg")):
        for record in read_records(path):
            exchange = found.setdefault(record.exchange_id, Kept())
            exchange.order.append(record.type)
            if record.type == records.BEGIN:
                exchange.begin = records.decode(record.payload, Begin)
            elif record.type == records.HEAD:
                exchange.head = records.decode(record.payload, Head)
            elif record.type == records.PART:
                exchange.body += bytes(record.payload)
            elif record.type == records.END:
                exchange.end = records.decode(record.payload, End)
    return list(found.values())


@asynccontextmanager
async def relaying(folder: Path) -> AsyncIterator[Worker]:
    """A relay with the settings in `folder`."""
    worker = await start_worker(load_settings(folder / "potstill.toml", environ={}))
    try:
        yield worker
    finally:
        await worker.drain(0.0)


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Waits until `condition` holds; fails when it does not in time."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@dataclass
class Reply:
    """An answer as it came off the wire; `is_whole` is False when the connection ended before the answer did."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool
    pieces: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str:
        """The value of a header; '' when it is absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


async def talk(
    port: int, line: str, headers: str = "", body: bytes = b"", *, version: str = "1.1", host: str = "127.0.0.1"
) -> Reply:
    """One request with `line` (method and target) over a fresh socket, and its whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    writer.write(f"{line} HTTP/{version}\r\nHost: {host}\r\n{headers}{length}\r\n".encode() + body)
    try:
        return await read_reply(reader, has_body=not line.startswith("HEAD"))
    finally:
        writer.close()


async def read_reply(reader: asyncio.StreamReader, *, has_body: bool = True) -> Reply:
    """The next answer on a connection."""
    head = parse_head(await reader.readuntil(b"\r\n\r\n"))
    reply = Reply(int(head.line.split()[1]), head.headers, b"", True)
    if not has_body or reply.status in (204, 304):
        return reply
    try:
        if reply.header("transfer-encoding"):
            while size := int((await reader.readline()).strip(), 16):
                reply.pieces.append(await reader.readexactly(size))
                reply.body += reply.pieces[-1]
                await reader.readexactly(2)
            await reader.readexactly(2)
        elif length := reply.header("content-length"):
            reply.body = await reader.readexactly(int(length))
        else:
            reply.body = await reader.read()
    except asyncio.IncompleteReadError as error:
        reply.body += error.partial
        reply.is_whole = False
    except (ValueError, ConnectionError):
        reply.is_whole = False
    return reply
