"""A provider that says what a test wants, behind a real relay whose exchanges end in the test's own store."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from capture.database import Database
from capture.pricing import PriceTable
from capture.writer import StoreWriter
from proxy.worker import start_worker
from tests.proxy.scripting import relay_settings

Reply = Callable[[str, dict[str, Any]], tuple[int, Any]]
"""Takes path and body of a question; gives a status and the answer: a text, or a message in OpenAI's form."""


@contextmanager
def answering(reply: Reply) -> Iterator[str]:
    """A server that speaks OpenAI Chat and Anthropic Messages; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = reply(self.path, body)
            data = json.dumps(_wire(self.path, status, answer, body["model"])).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@asynccontextmanager
async def relaying_to(reply: Reply, folder: Path, database: Database) -> AsyncIterator[str]:
    """A relay before such a server; gives the relay's address. At the end what it captured is in `database`."""
    folder.mkdir()
    with answering(reply) as upstream:
        settings = relay_settings(folder, upstream)
        relay = await start_worker(settings)
        try:
            yield f"http://127.0.0.1:{relay.port}"
        finally:
            await relay.drain(0.0)
    writer = StoreWriter(database, settings.data_folder / "spool", PriceTable({}, 0.0))
    try:
        writer.drain()
    finally:
        writer.close()


def _wire(path: str, status: int, answer: Any, model: str) -> dict[str, Any]:
    if status != 200:
        return {"error": {"message": answer}}
    message = answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}
    if path == "/v1/messages":
        usage = {"input_tokens": 100, "output_tokens": 10}
        content = [{"type": "text", "text": message["content"]}]
        return {
            "type": "message", "role": "assistant", "model": model, "content": content, "stop_reason": "end_turn", "usage": usage,
        }  # fmt: skip
    finish = message.pop("finish", "stop")
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}
