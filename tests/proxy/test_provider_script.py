"""The faults that a request can order from the scripted provider."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import fields

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import provider
from proxy.provider import ProviderOptions, serving
from proxy.provider_answer import pieces_of
from proxy.provider_script import Script, ScriptError, parse_script

BODY = {"model": "m", "max_tokens": 200, "messages": [{"role": "user", "content": "東京 é 👩‍🚀"}]}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(ProviderOptions(latency_ms=0)) as address:
        yield address


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as made:
        yield made


class Got:
    """What came back: status, headers, chunks as they arrived, and the error that ended them."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.error: Exception | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


async def ask(session: aiohttp.ClientSession, address: str, script: str, *, is_stream: bool = True) -> Got:
    got = Got()
    headers = {"authorization": "Bearer any", "x-script": script}
    try:
        async with session.post(address, json=BODY | {"stream": is_stream}, headers=headers) as response:
            got.status, got.headers = response.status, {name.lower(): value for name, value in response.headers.items()}
            async for chunk, _ in response.content.iter_chunks():
                got.chunks.append(chunk)
    except aiohttp.ClientError as error:
        got.error = error
    return got


FAMILIES = pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])


def test_both_ways_of_writing_a_script_mean_the_same() -> None:
    expected = Script(status=429, retry_after=2.5, split=True, stall="body", cut_after_bytes=7)
    assert parse_script("status=429,retry_after=2.5; split stall=body cut_after_bytes=7") == expected
    assert parse_script('{"status": 429, "retry_after": 2.5, "split": true, "stall": "body", "cut_after_bytes": 7}') == expected
    assert parse_script("") == parse_script("  ") == parse_script("{}") == Script()


@pytest.mark.parametrize(
    "text",
    [
        "stats=429",
        '{"stats": 1}',
        "status=x",
        "split=maybe",
        "stall=tail",
        "finish=x",
        "status=200",
        "status=700",
        "{",
        'raw={"a"}',
        '{"raw": ["!"]}',
        '{"headers": 3}',
    ],
)
def test_what_a_script_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(ScriptError, match="x-script"):
        parse_script(text)


def test_a_misspelt_field_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ScriptError, match="did you mean 'delay_ms'"):
        parse_script("delay=5")


@given(st.text(max_size=80))
def test_any_header_text_is_a_script_or_refused(text: str) -> None:
    try:
        assert isinstance(parse_script(text), Script)
    except ScriptError as error:
        assert "x-script" in str(error)


@given(st.text(max_size=200))
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(pieces_of(text)) == text


def test_the_documentation_names_every_field() -> None:
    assert provider.__doc__ is not None
    assert [each.name for each in fields(Script) if f"{each.name}=" not in provider.__doc__] == []


async def test_a_bad_script_is_a_400_that_says_why(url: str, session: aiohttp.ClientSession) -> None:
    got = await ask(session, f"{url}/v1/messages", "stal=body")
    assert got.status == 400 and b"did you mean 'stall'" in got.body


@FAMILIES
async def test_one_byte_chunks_tear_characters_and_change_nothing_else(
    url: str, session: aiohttp.ClientSession, path: str
) -> None:
    whole = await ask(session, url + path, "")
    torn = await ask(session, url + path, "split=1")
    assert torn.error is None and len(torn.body) == len(whole.body)
    assert all(len(chunk) == 1 for chunk in torn.chunks)
    assert torn.body.count("京".encode()) == 1


@FAMILIES
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("more", ["", " reset=1"])
async def test_a_cut_leaves_so_many_bytes_and_an_unfinished_body(
    url: str, session: aiohttp.ClientSession, path: str, is_stream: bool, more: str
) -> None:
    for cut in (0, 1, 57, 130):
        got = await ask(session, url + path, f"cut_after_bytes={cut}{more}", is_stream=is_stream)
        assert got.status == 200 and isinstance(got.error, aiohttp.ClientPayloadError)
        assert len(got.body) == cut


async def test_a_cut_at_the_very_end_of_a_stream_still_leaves_it_unfinished(url: str, session: aiohttp.ClientSession) -> None:
    size = len((await ask(session, f"{url}/v1/messages", "")).body)
    got = await ask(session, f"{url}/v1/messages", f"cut_after_bytes={size}")
    assert len(got.body) == size and got.body.endswith(b'{"type":"message_stop"}\n\n') and got.error is not None
    assert (await ask(session, f"{url}/v1/messages", f"cut_after_bytes={size + 1}")).error is None


async def test_an_error_may_come_inside_a_200(url: str, session: aiohttp.ClientSession) -> None:
    chat = await ask(session, f"{url}/v1/chat/completions", "in_band_error=1")
    assert chat.status == 200 and b'data: {"error":' in chat.body and b"[DONE]" not in chat.body and b'"delta"' in chat.body
    message = await ask(session, f"{url}/v1/messages", "in_band_error=1")
    assert message.status == 200 and b"event: error\n" in message.body and b"message_stop" not in message.body
    for path in ("/v1/chat/completions", "/v1/messages"):
        got = await ask(session, url + path, "in_band_error=1", is_stream=False)
        assert got.status == 200 and "error" in json.loads(got.body)


async def test_a_stream_may_lack_its_last_event(url: str, session: aiohttp.ClientSession) -> None:
    chat = await ask(session, f"{url}/v1/chat/completions", "no_done=1")
    assert chat.error is None and b"[DONE]" not in chat.body and b'"finish_reason":"stop"' in chat.body
    message = await ask(session, f"{url}/v1/messages", "no_done=1")
    assert message.error is None and b"message_stop" not in message.body and b"message_delta" in message.body


@FAMILIES
async def test_usage_can_be_left_out(url: str, session: aiohttp.ClientSession, path: str) -> None:
    for is_stream in (False, True):
        assert b'"usage"' not in (await ask(session, url + path, "usage=0", is_stream=is_stream)).body


@FAMILIES
async def test_a_gzip_stream_is_flushed_per_event(url: str, session: aiohttp.ClientSession, path: str) -> None:
    plain = await ask(session, url + path, "")
    packed = await ask(session, url + path, "gzip=1 chunk_delay_ms=1")
    assert packed.headers["content-encoding"] == "gzip"
    unpack = zlib.decompressobj(wbits=31)
    texts = [unpack.decompress(chunk) for chunk in packed.chunks]
    assert len(b"".join(texts)) == len(plain.body) and unpack.eof
    assert sum(text.endswith(b"\n\n") for text in texts) == plain.body.count(b"\n\n")


async def test_a_body_can_be_made_big_and_a_text_and_a_finish_given(url: str, session: aiohttp.ClientSession) -> None:
    big = await ask(session, f"{url}/v1/chat/completions", "body_bytes=300000", is_stream=False)
    assert 299_990 <= len(json.loads(big.body)["choices"][0]["message"]["content"].encode()) <= 300_010
    script = json.dumps({"text": "naïve 🐈", "finish": "refusal"})
    said = json.loads((await ask(session, f"{url}/v1/messages", script, is_stream=False)).body)
    assert said["content"] == [{"type": "text", "text": "naïve 🐈"}] and said["stop_reason"] == "refusal"


async def test_raw_pieces_are_sent_as_they_are_whatever_was_asked(url: str, session: aiohttp.ClientSession) -> None:
    pieces = [b"data: {\r", b"\n\xff\xfe", b": x\r\n\r\n"]
    script = {
        "raw": [base64.b64encode(piece).decode() for piece in pieces],
        "content_type": "text/plain",
        "headers": {"x-odd": "1"},
    }
    got = await ask(session, f"{url}/v1/whatever", json.dumps(script))
    assert (got.status, got.body, got.headers["x-odd"], got.headers["content-type"]) == (200, b"".join(pieces), "1", "text/plain")


async def test_delays_come_before_the_headers_and_between_the_pieces(url: str, session: aiohttp.ClientSession) -> None:
    began = time.monotonic()
    async with session.post(f"{url}/v1/messages", json=BODY, headers={"x-api-key": "a", "x-script": "delay_ms=80"}) as response:
        assert time.monotonic() - began >= 0.08 and response.status == 200
    began = time.monotonic()
    got = await ask(session, f"{url}/v1/messages", "chunk_delay_ms=5")
    assert time.monotonic() - began >= 0.005 * (got.body.count(b"\n\n") - 1)


@pytest.mark.parametrize("where", ["headers", "body"])
async def test_a_stall_lasts_until_the_client_leaves_and_is_counted(url: str, session: aiohttp.ClientSession, where: str) -> None:
    waiting = asyncio.create_task(ask(session, f"{url}/v1/messages", f"stall={where}"))
    await counted(session, url, open=1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    counts = await counted(session, url, open=0, abandoned=1)
    assert counts["requests"] == 1


async def test_the_last_request_can_be_looked_at(url: str, session: aiohttp.ClientSession) -> None:
    await ask(session, f"{url}/v1/messages?beta=true", "")
    async with session.get(f"{url}/_script/last") as response:
        last = await response.json()
    assert last["method"] == "POST" and last["path"] == "/v1/messages?beta=true"
    assert json.loads(last["body"]) == BODY | {"stream": True}
    assert ["authorization", "Bearer any"] in [[name.lower(), value] for name, value in last["headers"]]


async def counted(session: aiohttp.ClientSession, url: str, **expected: int) -> dict[str, int]:
    """The provider's counts once they are as expected, within five seconds."""
    async with asyncio.timeout(5):
        while True:
            async with session.get(f"{url}/_script/requests") as response:
                counts: dict[str, int] = await response.json()
            if expected.items() <= counts.items():
                return counts
            await asyncio.sleep(0.01)
