"""A real translation process behind its Unix socket, with scripted providers behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.proxy.scripting import Upstream, answer_whole
from tests.proxy.translation.providers import provider_thread

PATIENCE_S = 120
KEY = "sentinel-key-of-gemini-0123456789"
AWS_SECRET = "sentinel-secret-of-aws-0123456789"


@dataclass
class Translation:
    """A running process, its socket, its provider, and what it wrote to standard error."""

    process: subprocess.Popen[bytes]
    socket: Path
    provider: Upstream
    folder: Path
    log: Path


def write_config(folder: Path, url: str) -> Path:
    """Settings with one upstream for each way to hold a key."""
    (folder / "key.txt").write_text(KEY + "\n")
    path = folder / "potstill.toml"
    path.write_text(
        f"""
[store]
data_folder = "data"
[relay]
max_body_mib = 2
drain_timeout_s = 5
[upstreams.gemini]
protocol = "litellm"
url = "{url}/v1beta"
key = "env:TEST_GEMINI_KEY"
[upstreams.filed]
protocol = "litellm"
url = "{url}/v1beta"
models = ["gemini/*"]
key = "file:key.txt"
[upstreams.theirs]
protocol = "litellm"
url = "{url}/v1beta"
models = ["gemini/*"]
key = "client"
[upstreams.unset]
protocol = "litellm"
url = "{url}/v1beta"
models = ["gemini/*"]
key = "env:TEST_NOT_SET"
[upstreams.nowhere]
protocol = "litellm"
url = "http://127.0.0.1:9/v1beta"
models = ["gemini/*"]
key = "env:TEST_GEMINI_KEY"
[upstreams.proxied]
protocol = "litellm"
url = "http://provider.invalid/v1beta"
models = ["gemini/*"]
key = "env:TEST_GEMINI_KEY"
[upstreams.bedrock]
protocol = "litellm"
url = "{url}"
[upstreams.vertex]
protocol = "litellm"
url = "{url}"
models = ["vertex_ai/*"]
[upstreams.claude]
protocol = "litellm"
url = "{url}"
models = ["anthropic/*"]
key = "env:TEST_GEMINI_KEY"
[upstreams.gpt]
protocol = "litellm"
url = "{url}/v1"
models = ["openai/*"]
key = "env:TEST_GEMINI_KEY"
[upstreams.mistral]
protocol = "litellm"
url = "{url}/v1"
key = "env:TEST_GEMINI_KEY"
""",
        "utf-8",
    )
    return path


def google_account(folder: Path, url: str) -> Path:
    """A service account whose tokens come from the scripted provider."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "google.json"
    account = {"type": "service_account", "project_id": "p1", "private_key_id": "k1", "private_key": pem}
    account |= {"client_email": "relay@p1.iam.gserviceaccount.com", "client_id": "1", "token_uri": f"{url}/token"}
    path.write_text(json.dumps(account))
    return path


def environment(folder: Path, url: str) -> dict[str, str]:
    """What litellm finds by itself: credentials of AWS and Google; nothing of the machine that the tests run on."""
    foreign = ("AWS_", "GOOGLE_", "VERTEX", "GEMINI", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(foreign)}
    return kept | {
        "TEST_GEMINI_KEY": KEY,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
        "AWS_REGION_NAME": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": str(google_account(folder, url)),
        "VERTEXAI_PROJECT": "p1",
        "VERTEXAI_LOCATION": "us-central1",
        "NO_GCE_CHECK": "true",
        "HTTP_PROXY": url,
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture(scope="session")
def translation() -> Iterator[Translation]:
    """One process for all tests of a session: loading litellm takes seconds."""
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as name, provider_thread() as provider:
        folder = Path(name)
        config = write_config(folder, provider.url)
        socket, log = folder / "data" / "run" / "translation.sock", folder / "log.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "proxy.translation.process", "--config", str(config)],
                env=environment(folder, provider.url),
                stdout=output,
                stderr=output,
            )
            try:
                wait_for(socket, process, log)
                yield Translation(process, socket, provider, folder, log)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)


def wait_for(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the process listens."""
    deadline = time.monotonic() + PATIENCE_S
    while not socket.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture
def provider(translation: Translation) -> Upstream:
    """The provider behind the process, with nothing received yet."""
    translation.provider.script = answer_whole
    translation.provider.received.clear()
    translation.provider.closed.clear()
    return translation.provider


@pytest.fixture
async def client(translation: Translation) -> AsyncIterator[aiohttp.ClientSession]:
    """A client on the socket, as the relay is one."""
    connector = aiohttp.UnixConnector(str(translation.socket))
    async with aiohttp.ClientSession("http://translation", connector=connector) as session:
        yield session


HEADER = "x-potstill-upstream"
