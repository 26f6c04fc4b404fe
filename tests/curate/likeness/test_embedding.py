from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from capture import feed
from capture.database import open_database
from capture.errors import UpstreamError
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.writer import StoreWriter
from curate.likeness.embedding import embed
from proxy.provider import ProviderOptions, serving
from proxy.worker import start_worker
from tests.proxy.scripting import relay_settings


def silent(stage: str, done: int, total: int) -> None:
    pass


async def test_texts_are_embedded_through_a_real_relay_and_kept_without_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    texts = [f"Where is parcel {number}?" for number in range(70)] + ["", "Where is parcel 3?"]
    seen: list[tuple[int, int]] = []
    async with serving(ProviderOptions(latency_ms=0, error_share=0)) as provider:
        settings = relay_settings(tmp_path, provider)
        relay = await start_worker(settings)
        try:
            url = f"http://127.0.0.1:{relay.port}"

            def work() -> np.ndarray:
                return embed(texts, url, "text-embedding-3-small", "mail", lambda stage, done, total: seen.append((done, total)))

            vectors = await asyncio.to_thread(work)
            with pytest.raises(UpstreamError, match="40"):
                await asyncio.to_thread(embed, ["x"], f"{url}/nowhere", "gpt", "mail", silent)
        finally:
            await relay.drain(0.0)
    assert len(vectors) == 72 and np.array_equal(vectors[3], vectors[71]) and not np.array_equal(vectors[3], vectors[4])
    assert seen == [(0, 72), (64, 72), (72, 72)]
    store = open_database(settings.database_url)
    writer = StoreWriter(store, settings.data_folder / "spool", PriceTable({}, 0.0))
    try:
        writer.drain()
        (first, *_) = kept = feed.page(store, parse_filter("purpose:judge task:mail status:200"))
        assert len(kept) == 2 and first.content == "omitted"
        assert feed.count(store, parse_filter("purpose:app task:mail"), 10) == 0
    finally:
        writer.close()
        store.close()


def test_a_relay_that_does_not_run_is_named_with_the_next_step() -> None:
    with pytest.raises(UpstreamError, match=r"http://\[::1 cannot be asked.*potstill up"):
        embed(["x"], "http://[::1", "m", "mail", silent)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e39", "NaN", "true"])
def test_an_answer_with_a_number_that_no_vector_holds_is_no_vector(number: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'{{"data":[{{"index":0,"embedding":[0.5,{number}]}}]}}'.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(UpstreamError, match="The answer holds no 1 vectors"):
            embed(["x"], f"http://127.0.0.1:{server.server_port}", "m", "mail", silent)
        thread.join()
