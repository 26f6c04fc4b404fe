"""Ways to upstreams as the settings describe them: Azure, HTTP proxies, certificates, sockets, warm connections, reloads."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from capture.errors import SettingsError
from capture.settings import Settings, load_settings
from proxy.settings import translation_socket
from proxy.worker import Worker, start_worker
from tests.proxy.scripting import (
    CHAT_ANSWER,
    Received,
    Upstream,
    chunk,
    chunked_head,
    free_port,
    http_answer,
    kept,
    read_reply,
    talk,
    until,
)
from tests.proxy.wire.serving import resolving

CHAT = "POST /v1/chat/completions"
KEY = "Authorization: Bearer sk-client\r\nContent-Type: application/json\r\n"
ASK = b'{"model":"gpt-5","messages":[]}'
MESSAGES: Any = [{"role": "user", "content": "hi"}]

Start = Callable[[str], Awaitable[Worker]]


def written(folder: Path, upstreams: str) -> Settings:
    """Settings of a relay with these sections of upstreams."""
    text = f'[relay]\nport = 0\nadmin_port = 0\n[engine]\nurl = "http://127.0.0.1:{free_port()}"\n{upstreams}\n'
    path = folder / "potstill.toml"
    path.write_text(text, "utf-8")
    return load_settings(path, environ={})


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a relay with the given sections of upstreams."""
    workers: list[Worker] = []

    async def begin(upstreams: str) -> Worker:
        workers.append(await start_worker(written(tmp_path, upstreams)))
        return workers[-1]

    yield begin
    for worker in workers:
        await worker.drain(0.0)


AZURE = '[upstreams.azure]\nurl = "{url}"\napi_version = "2024-10-21"\nkey = "{key}"\naliases = {{"gpt-5" = "deployed-5"}}\n'


async def test_azures_own_client_reaches_a_deployment_with_its_own_key(start: Start, upstream: Upstream) -> None:
    worker = await start(AZURE.format(url=upstream.url, key="client"))
    endpoint = f"http://127.0.0.1:{worker.port}/task/triage"
    async with openai.AsyncAzureOpenAI(azure_endpoint=endpoint, api_version="2025-01-01", api_key="az-key", max_retries=0) as sdk:
        answer = await sdk.chat.completions.create(model="dep 1", messages=MESSAGES)
        await sdk.models.list()
    assert answer.choices[0].message.content == "billing"
    chat, models = upstream.received
    assert chat.line == "POST /openai/deployments/dep%201/chat/completions?api-version=2025-01-01 HTTP/1.1"
    assert models.line == "GET /openai/models?api-version=2025-01-01 HTTP/1.1"
    assert chat.header("api-key") == "az-key"


@pytest.mark.parametrize(
    ("base", "line"),
    [
        ("/v1", "POST /openai/deployments/deployed-5/chat/completions?api-version=2024-10-21 HTTP/1.1"),
        ("/openai/v1", "POST /openai/v1/chat/completions HTTP/1.1"),
    ],
)
async def test_openais_client_reaches_azure_with_our_key(
    base: str, line: str, start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AZURE_KEY", "az-ours")
    worker = await start(AZURE.format(url=upstream.url, key="env:AZURE_KEY"))
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{worker.port}{base}", api_key="sk-client", max_retries=0) as sdk:
        await sdk.chat.completions.create(model="gpt-5", messages=MESSAGES)
    (received,) = upstream.received
    assert received.line == line
    assert (received.header("api-key"), received.header("authorization")) == ("az-ours", "")
    assert (b'"deployed-5"' in received.body) is (base == "/openai/v1"), "the body names the model only where the path does not"
    (exchange,) = kept(load_settings(tmp_path / "potstill.toml", environ={}))
    assert exchange.begin is not None
    assert (exchange.begin.protocol, exchange.begin.model_asked) == ("openai", "gpt-5")


async def test_the_model_in_azures_path_is_the_one_that_was_asked_for(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    worker = await start(AZURE.format(url=upstream.url, key="client"))
    target = "POST /openai/deployments/large/chat/completions?api-version=2025-01-01"
    assert (await talk(worker.port, target, "api-key: k\r\n", b'{"model":"small"}')).status == 200
    assert upstream.received[0].body == b'{"model":"small"}'
    (exchange,) = kept(load_settings(tmp_path / "potstill.toml", environ={}))
    assert exchange.begin is not None
    assert exchange.begin.model_asked == "large", "what limits models must not be led astray by a body that nobody reads"


async def test_an_upstream_behind_an_http_proxy_is_asked_through_it(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_TEST_PROXY", upstream.url.replace("http://", "http://user:word@"))
    worker = await start('[upstreams.far]\nurl = "http://far.example/v1"\nproxy = "env:POTSTILL_TEST_PROXY"')
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
    (received,) = upstream.received
    assert received.line == "POST http://far.example/v1/chat/completions HTTP/1.1"
    assert received.header("host") == "far.example"
    assert received.header("proxy-authorization").startswith("Basic ")
    assert received.body == ASK


async def test_a_stream_through_an_http_proxy_that_falls_silent_is_ended(start: Start, upstream: Upstream) -> None:
    limits = "idle_timeout_s = 0.3\nfirst_byte_timeout_s = 60"
    worker = await start(f'[upstreams.far]\nurl = "http://far.example/v1"\nproxy = "{upstream.url}"\n{limits}')

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: {}\n\n"))
        await asyncio.Event().wait()

    upstream.script = script
    reply = await asyncio.wait_for(talk(worker.port, CHAT, KEY, ASK), 30)
    assert not reply.is_whole
    assert b"sent nothing for too long" in reply.pieces[-1]


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "potstill test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, private = folder / "ca.pem", folder / "key.pem"
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return certificate, private


@asynccontextmanager
async def with_tls(folder: Path) -> AsyncIterator[Upstream]:
    """An upstream that speaks TLS with a certificate of its own making."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(folder))
    found = Upstream()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=context)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


async def test_a_certificate_of_the_settings_is_trusted_and_no_other(start: Start, tmp_path: Path) -> None:
    async with with_tls(tmp_path) as upstream:
        url = f"https://localhost:{upstream.port}/v1"
        worker = await start(f'[upstreams.own]\nurl = "{url}"\nca_file = "ca.pem"\nwarm_connections = 1')
        assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        stranger = await start(f'[upstreams.own]\nurl = "{url}"')
        refused = await talk(stranger.port, CHAT, KEY, ASK)
        assert refused.status == 502
        assert b"CERTIFICATE_VERIFY_FAILED" in refused.body
        assert len(upstream.received) == 1, "nothing was sent to somebody who is not trusted"


async def test_a_file_that_holds_no_certificates_is_refused_with_its_name(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"\[upstreams.own\]: ca_file .*ca.pem cannot be read"):
        await start('[upstreams.own]\nurl = "https://localhost/v1"\nca_file = "ca.pem"')


async def test_what_must_be_translated_goes_over_the_socket_with_the_name_of_its_upstream_and_no_key(
    start: Start, tmp_path: Path
) -> None:
    path = translation_socket(written(tmp_path, ""))
    path.parent.mkdir(parents=True)
    translation = Upstream()
    server = await asyncio.start_unix_server(translation.serve, path)
    worker = await start('[upstreams.gemini]\nprotocol = "litellm"')
    for target, model in ((CHAT, "gemini/pro"), ("POST /v1/messages", "gemini/flash")):
        body = f'{{"model":"{model}"}}'.encode()
        reply = await talk(worker.port, target, KEY, body)
        assert (reply.body, reply.header("x-potstill-upstream")) == (CHAT_ANSWER, "gemini")
        assert translation.received[-1].body == body
    server.close()
    assert [each.line for each in translation.received] == ["POST /v1/chat/completions HTTP/1.1", "POST /v1/messages HTTP/1.1"]
    assert {each.header("x-potstill-upstream") for each in translation.received} == {"gemini"}
    assert {each.header("authorization") for each in translation.received} == {""}


async def test_warm_connections_are_there_before_the_first_request_and_again_after_it(start: Start) -> None:
    opened: list[int] = []
    upstream = Upstream()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(len(upstream.received))
        await upstream.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    worker = await start(f'[upstreams.near]\nurl = "{upstream.url}"\nwarm_connections = 2')
    await until(lambda: len(opened) == 2)
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 200
    assert opened == [0, 0], "the request took a connection that was there"

    async def close(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(CHAT_ANSWER, headers={"Connection": "close"}))

    upstream.script = close
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 200
    await until(lambda: len(opened) == 3)
    server.close()


async def test_a_cold_upstream_keeps_nobody_from_starting(start: Start, upstream: Upstream) -> None:
    gone = f'[upstreams.gone]\nurl = "http://127.0.0.1:{free_port()}"\nmodels = ["none"]\nwarm_connections = 1\n'
    worker = await start(gone + f'[upstreams.here]\nurl = "{upstream.url}"')
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 200


async def test_after_a_reload_requests_go_by_the_new_upstreams(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    worker = await start(f'[upstreams.old]\nurl = "http://127.0.0.1:{free_port()}"')
    assert (await talk(worker.port, CHAT, KEY, ASK)).status == 502
    worker.reload(written(tmp_path, f'[upstreams.new]\nurl = "{upstream.url}"'))
    assert (await talk(worker.port, CHAT, KEY, ASK)).header("x-potstill-upstream") == "new"
    with pytest.raises(SettingsError, match="url is missing"):
        worker.reload(written(tmp_path, "[upstreams.bad]"))
    assert (await talk(worker.port, CHAT, KEY, ASK)).header("x-potstill-upstream") == "new"


async def test_a_reload_holds_for_the_next_request_on_a_connection_that_stays_open(
    start: Start, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same head, same connection: what was concluded under the old settings must not outlive them."""
    monkeypatch.setenv("POTSTILL_TEST_KEY", "sk-ours")
    here = f'[upstreams.here]\nurl = "{upstream.url}"\n'
    worker = await start(here)
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    request = f"{CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{KEY}Content-Length: {len(ASK)}\r\n\r\n".encode() + ASK
    stages = [
        (here, "here", "Bearer sk-client"),
        (here + 'key = "none"', "here", ""),
        (here + 'key = "env:POTSTILL_TEST_KEY"', "here", "Bearer sk-ours"),
        (here + 'key = "env:POTSTILL_TEST_KEY"\nkey_header = "api-key"', "here", ""),
        (here.replace("here", "there"), "there", "Bearer sk-client"),
    ]
    for sections, name, authorization in stages:
        worker.reload(written(tmp_path, sections))
        for _ in range(2):
            writer.write(request)
            reply = await read_reply(reader)
            assert (reply.status, reply.header("x-potstill-upstream")) == (200, name)
            assert upstream.received[-1].header("authorization") == authorization
    writer.close()


PUBLIC = '[upstreams.far]\nurl = "http://llm.company.com:{port}/v1"\n'


@pytest.mark.abuse
async def test_a13_a_public_name_that_leads_into_a_private_network_is_told_with_what_to_set(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolving(monkeypatch, "127.0.0.1")
    worker = await start(PUBLIC.format(port=upstream.port) + "warm_connections = 1")
    reply = await talk(worker.port, CHAT, KEY, ASK)
    assert reply.status == 502
    assert b"its name leads to 127.0.0.1" in reply.body
    assert b"set allow_private = true in [upstreams.far]" in reply.body
    await until(lambda: "its name leads to 127.0.0.1" in caplog.text, 30)
    assert upstream.received == []


@pytest.mark.abuse
@pytest.mark.parametrize(
    "section",
    [PUBLIC + "allow_private = true", PUBLIC.replace("llm.company.com", "llm.corp"), PUBLIC.replace("llm.company.com", "llm")],
    ids=["allowed", "a private name", "a name without dots"],
)
async def test_a13_a_private_network_is_reached_by_leave_or_by_a_name_that_says_so(
    section: str, start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "127.0.0.1")
    worker = await start(section.format(port=upstream.port))
    assert (await talk(worker.port, CHAT, KEY, ASK)).body == CHAT_ANSWER


@pytest.mark.abuse
async def test_a13_a_websocket_is_dialled_no_more_than_a_request(
    start: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "127.0.0.1")
    handshake = KEY + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    handshake += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    worker = await start(PUBLIC.format(port=upstream.port))
    reply = await talk(worker.port, "GET /v1/realtime?model=m", handshake)
    assert reply.status == 502
    assert b"its name leads to 127.0.0.1" in reply.body
    assert b"set allow_private = true in [upstreams.far]" in reply.body
    assert upstream.received == []
    allowed = await start(PUBLIC.format(port=upstream.port) + "allow_private = true")
    await talk(allowed.port, "GET /v1/realtime?model=m", handshake)
    assert len(upstream.received) == 1
