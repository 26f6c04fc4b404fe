"""No request chooses a host, leaves the path of its upstream, or is led away by an answer."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.worker import Worker
from tests.abuse.wire import ASK, CHAT, KEY, Listener, request, said, send
from tests.faults.relay_process import RelayProcess, relay_process
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, http_answer, kept, relay_settings, relaying, talk

pytestmark = pytest.mark.abuse


@pytest.fixture
async def evil() -> AsyncIterator[Listener]:
    """A server that no request may reach."""
    found = Listener()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


HEADERS = (
    *("x-portkey-custom-host", "x-portkey-config", "helicone-target-url", "helicone-openai-api-base", "x-litellm-api-base"),
    *("x-forwarded-host", "x-original-url", "x-rewrite-url", "x-original-host", "x-host", "forwarded", "x-forwarded-server"),
    *("destination", "base-url", "api-base", "x-api-base", "x-target-url", "x-upstream", "azure-endpoint", "referer"),
)
FIELDS = ("api_base", "base_url", "api_url", "host", "endpoint", "proxy", "azure_endpoint", "aws_bedrock_runtime_endpoint")


@pytest.mark.parametrize("name", HEADERS)
async def test_a10_no_header_chooses_the_host(name: str, relay: Worker, upstream: Upstream, evil: Listener) -> None:
    address = f"http://127.0.0.1:{evil.port}/v1"
    value = {"forwarded": f"host=127.0.0.1:{evil.port}", "x-portkey-config": f'{{"custom_host": "{address}"}}'}.get(name, address)
    (reply,) = await send(relay.port, request(CHAT, f"{KEY}{name}: {value}\r\n", ASK))
    assert reply.status == 200
    assert evil.connections == 0
    (received,) = upstream.received
    assert received.header("host") == f"127.0.0.1:{upstream.port}"
    assert received.line == f"{CHAT} HTTP/1.1"


@pytest.mark.parametrize("field", FIELDS)
async def test_a10_no_field_of_a_body_chooses_the_host(field: str, relay: Worker, upstream: Upstream, evil: Listener) -> None:
    address = f"http://127.0.0.1:{evil.port}/v1"
    for model in ("m", f"openai/{address}", address):
        body = f'{{"model": "{model}", "messages": [], "{field}": "{address}"}}'.encode()
        await send(relay.port, request(CHAT, KEY, body))
    assert evil.connections == 0
    assert upstream.received, "what the upstream gets is for the upstream to judge"
    assert all(received.body.startswith(b'{"model"') for received in upstream.received)


@pytest.mark.parametrize(
    "line",
    [
        "POST http://127.0.0.1:{port}/v1/chat/completions",
        "POST https://127.0.0.1:{port}/v1/chat/completions",
        "POST http://sk-user:pass@127.0.0.1:{port}/v1/chat/completions",
        "POST //127.0.0.1:{port}/v1/chat/completions",
        "POST /http://127.0.0.1:{port}/v1/chat/completions",
        "POST /v1/http://127.0.0.1:{port}/v1/chat/completions",
        "POST /v1/@127.0.0.1:{port}/",
        "POST /upstream/127.0.0.1:{port}/v1/chat/completions",
        "POST /upstream/http:%2f%2f127.0.0.1:{port}/v1/chat/completions",
        "POST /upstream/@127.0.0.1:{port}/v1/chat/completions",
        "POST /v1/chat/completions?base_url=http://127.0.0.1:{port}",
    ],
)
async def test_a10_no_target_chooses_the_host(line: str, relay: Worker, upstream: Upstream, evil: Listener) -> None:
    (reply,) = await send(relay.port, request(line.format(port=evil.port), KEY, ASK))
    assert evil.connections == 0
    assert reply.status in (200, 400, 404)
    for received in upstream.received:
        assert received.header("host") == f"127.0.0.1:{upstream.port}"
        assert received.line.split(" ")[1].startswith("/v1/")


@pytest.mark.parametrize("host", ["{evil}", "{evil}/v1/chat/completions?", "127.0.0.1@{evil}", "127.0.0.1:{port}@{evil}"])
async def test_a10_the_host_header_chooses_nothing(host: str, relay: Worker, upstream: Upstream, evil: Listener) -> None:
    name = f"localhost:{evil.port}"
    line = f"Host: {host.format(evil=name, port=relay.port)}\r\n"
    (reply,) = await send(relay.port, request(CHAT, KEY, ASK, host=line))
    assert evil.connections == 0
    assert reply.status in (200, 400, 403)
    assert all(received.header("host") == f"127.0.0.1:{upstream.port}" for received in upstream.received)


OUTSIDE = [
    "/v1/..%2f..%2fadmin",
    "/v1/../admin",
    "/v1/%2e%2e/admin",
    "/v1/.%2e/admin",
    "/v1/%2e/../admin",
    "/v1/x/..%5c..%5cadmin",
    "/v1/..\\admin",
    "/v1/%252e%252e%252fadmin",
    "/v1/..%252fadmin",
    "/v1/..;/admin",
    "/v1/%2e%2e;a=b/admin",
    "/v1/%c0%ae%c0%ae/admin",
    "/v1/%00/../admin",
    "/v1/chat%00/completions",
    "/upstream/openai/../../admin",
    "/upstream/openai/%2e%2e/admin",
    "/upstream/openai/v1/..%2f..%2f..%2fadmin",
    "/upstream/..%2fanthropic/v1/messages",
    "/task/..%2f..%2f/v1/models",
    "/task/a/../../v1/models",
    "/v1/v1/../../admin",
    "//evil.example/",
    "///evil.example/v1",
    "/\\evil.example/v1",
    "/..",
    "/.",
    "",
    "*",
    "/admin",
    "/%2fadmin",
    "?x=/v1/models",
    "/V1/../admin",
]


@pytest.mark.parametrize("target", OUTSIDE)
async def test_a11_a_path_that_leads_out_of_its_upstream_is_refused(target: str, relay: Worker, upstream: Upstream) -> None:
    (reply,) = await send(relay.port, request(f"GET {target}", KEY))
    assert reply.status in (400, 404)
    assert said(reply, "anthropic" if "/v1/messages" in target else "openai")
    assert upstream.received == []


async def test_a11_the_root_leads_to_no_upstream_and_tells_nothing_of_any(relay: Worker, upstream: Upstream) -> None:
    (reply,) = await send(relay.port, request("GET /", KEY))
    assert (reply.status, reply.body) == (200, b'{"relay": "potstill"}\n')
    assert upstream.received == []


@pytest.mark.parametrize("target", ["/v1/models;a=b", "/v1/models%3B", "/v1//models", "/v1/files/a%2fb", "/v1/files/a%20b"])
async def test_a11_an_odd_path_below_its_upstream_goes_there_as_it_was_written(
    target: str, tmp_path: Path, upstream: Upstream
) -> None:
    relay_settings(tmp_path, f"{upstream.url}/base/v1")
    async with relaying(tmp_path) as worker:
        (reply,) = await send(worker.port, request(f"GET {target}", KEY))
    for received in upstream.received:
        assert received.line.split(" ")[1] == "/base" + target
    assert reply.status in (200, 400, 404)


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
)
async def test_a12_a_redirect_is_the_clients_to_follow(status: str, relay: Worker, upstream: Upstream, evil: Listener) -> None:
    place = f"http://127.0.0.1:{evil.port}/latest/meta-data/"

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(b"moved", status=status, headers={"Location": place}))

    upstream.script = script
    (reply,) = await send(relay.port, request(CHAT, KEY, ASK))
    assert reply.status == int(status[:3])
    assert reply.header("location") == place
    assert reply.body == b"moved"
    assert evil.connections == 0
    assert len(upstream.received) == 1


async def test_a12_an_answer_that_offers_another_protocol_or_address_changes_nothing(
    relay: Worker, upstream: Upstream, evil: Listener
) -> None:
    offers = {
        "Alt-Svc": f'h2="127.0.0.1:{evil.port}"',
        "Refresh": f"0; url=http://127.0.0.1:{evil.port}/",
        "Link": f"<http://127.0.0.1:{evil.port}/>; rel=preload",
        "Content-Location": f"http://127.0.0.1:{evil.port}/",
    }

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(CHAT_ANSWER, headers=offers))

    upstream.script = script
    for _ in range(3):
        assert (await talk(relay.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
    assert evil.connections == 0
    assert len(upstream.received) == 3


def certificate(folder: Path, *names: str) -> Path:
    """Key and self-signed certificate for `names` in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{names[0]}.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def ask_over_tls(folder: Path, upstream: Upstream, shown: Path, monkeypatch: pytest.MonkeyPatch, trusted: Path) -> object:
    """One request to https://localhost, where a server shows `shown` to a relay that trusts `trusted`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    try:
        relay: RelayProcess
        async with relay_process(folder, f"https://localhost:{port}") as relay:
            return await talk(relay.port, CHAT, KEY, ASK)
    finally:
        server.close()


@pytest.mark.parametrize(
    ("shown", "trusted", "is_answered"),
    [("localhost", "localhost", True), ("api.openai.com", "api.openai.com", False), ("localhost", "other", False)],
    ids=["the name's own certificate", "a certificate for another name", "a certificate that nobody trusts"],
)
async def test_a13_a_name_that_leads_elsewhere_is_found_out_before_the_key_is_sent(
    shown: str, trusted: str, is_answered: bool, tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    pems = {name: certificate(tmp_path, name) for name in {shown, trusted}}
    reply = await ask_over_tls(tmp_path, upstream, pems[shown], monkeypatch, pems[trusted])
    if is_answered:
        assert (reply.status, reply.body) == (200, CHAT_ANSWER)  # type: ignore[attr-defined]
        return
    assert reply.status == 502  # type: ignore[attr-defined]
    assert "upstream openai" in said(reply, "openai").lower()  # type: ignore[arg-type]
    assert upstream.received == [], "not even the request line"


async def test_a10_the_record_names_the_upstream_that_was_asked_whatever_the_request_claims(
    relay: Worker, upstream: Upstream, relay_config: object
) -> None:
    forged = "X-Upstream: evil\r\nx-litellm-api-base: http://evil.example\r\n"
    (reply,) = await send(relay.port, request(CHAT, KEY + forged, b'{"model": "m", "upstream": "evil"}'))
    assert reply.header("x-potstill-upstream") == "openai"
    (exchange,) = kept(relay_config)  # type: ignore[arg-type]
    assert exchange.begin is not None
    assert exchange.begin.upstream == "openai"
