"""A key for some upstreams never reaches another one by way of a fallback."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from capture.database import open_database
from capture.settings import load_settings
from proxy.keys.key_store import add_key
from proxy.keys.pepper import make_pepper, pepper_path
from proxy.worker import start_worker
from tests.proxy.scripting import Received, Upstream, http_answer, talk


@pytest.mark.parametrize(("allowed", "status"), [((), 200), (("first", "second"), 200), (("first",), 503)])
async def test_a_fallback_is_asked_only_when_the_key_is_for_it(
    tmp_path: Path, upstream: Upstream, allowed: tuple[str, ...], status: int
) -> None:
    async def serve(received: Received, writer: asyncio.StreamWriter) -> None:
        is_first = received.line.startswith("POST /first")
        writer.write(http_answer(b"{}", status="503 Service Unavailable" if is_first else "200 OK"))

    upstream.script = serve
    path = tmp_path / "potstill.toml"
    path.write_text(
        '[store]\ndata_folder = "data"\n[relay]\nport = 0\nadmin_port = 0\n'
        f'[upstreams.first]\nurl = "{upstream.url}/first/v1"\nkey = "none"\nfallbacks = ["second"]\n'
        f'[upstreams.second]\nurl = "{upstream.url}/second/v1"\nkey = "none"\n'
    )
    settings = load_settings(path, environ={})
    with closing(open_database(settings.database_url)) as database:
        key, _ = add_key(database, make_pepper(pepper_path(settings)), "app", upstreams=allowed)
    worker = await start_worker(settings)
    try:
        body = b'{"model":"m","messages":[]}'
        reply = await talk(worker.port, "POST /v1/chat/completions", f"x-api-key: {key}\r\n", body)
    finally:
        await worker.drain(0.0)
    assert reply.status == status
    assert len(upstream.received) == (2 if status == 200 else 1)
