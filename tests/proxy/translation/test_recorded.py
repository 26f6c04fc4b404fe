"""Recorded answers of Gemini, Vertex AI and Bedrock, replayed byte for byte: what they said is what the client reads.

What an answer says is worked out here from the recording itself, apart from litellm.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from botocore.eventstream import EventStreamBuffer

from tests.proxy.conformance.recorded import Recorded, read_recorded
from tests.proxy.scripting import Upstream
from tests.proxy.translation.conftest import HEADER
from tests.proxy.translation.providers import EVENTS, answering, streaming

SAY = [{"role": "user", "content": "Say what you said."}]
BINARY = "application/vnd.amazon.eventstream"
_THOUGHT = re.compile(r"^<thinking>.*?</thinking>", re.DOTALL)
"""How Nova says what it thinks; litellm tells it as reasoning."""

HOSTS = ("bedrock", "googleapis")
OPERATIONS = ("generateContent", "streamGenerateContent", "converse", "converse-stream")


@dataclass(frozen=True)
class Answer:
    """One recorded answer to one of the four operations."""

    recorded: Recorded
    upstream: str
    model: str
    is_stream: bool

    @property
    def plain(self) -> bytes:
        """The body as it was before it was packed."""
        return gzip.decompress(self.recorded.response) if self.recorded.encoding else self.recorded.response

    @property
    def kind(self) -> str:
        """Its content type; some recordings have lost theirs."""
        if not self.is_stream or self.recorded.status != 200:
            return "application/json"
        return BINARY if self.upstream == "bedrock" else EVENTS


@dataclass(frozen=True)
class Said:
    """What an answer says: its text and its tool calls with their arguments."""

    text: str
    calls: tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    """All answers to the four operations; skips where the recordings are not laid out."""
    return [found for each in read_recorded(HOSTS) if (found := _answer(each)) is not None]


def _answer(recorded: Recorded) -> Answer | None:
    operation = recorded.path.rpartition("/")[2].rpartition(":")[2]
    if operation not in OPERATIONS or not recorded.response:
        return None
    is_stream = "tream" in operation
    if "bedrock" in recorded.host:
        return Answer(recorded, "bedrock", "bedrock/us.amazon.nova-lite-v1:0", is_stream)
    return Answer(recorded, "gemini", "gemini/gemini-2.5-flash", is_stream) if "googleapis" in recorded.host else None


def said(answer: Answer) -> Said | None:
    """What the recording says, or None when it is of no form that we know."""
    if answer.upstream == "bedrock":
        return _said_by_bedrock(answer)
    if answer.is_stream:
        text = answer.plain.decode("utf-8").replace("\r\n", "\n")
        pieces = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
    else:
        pieces = [json.loads(answer.plain)]
    parts = [
        part
        for piece in pieces
        for candidate in piece.get("candidates", ())[:1]
        for part in candidate.get("content", {}).get("parts", ())
    ]
    if not parts or any(part.keys() & {"executableCode", "codeExecutionResult", "toolCall"} for part in parts):
        return None
    texts = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    return Said(texts, _calls((call["name"], call.get("args", {})) for call in calls))


def _said_by_bedrock(answer: Answer) -> Said | None:
    if not answer.is_stream:
        found = json.loads(answer.plain)
        if "output" not in found:
            return None
        blocks = found["output"]["message"]["content"]
        if any("citationsContent" in block for block in blocks):  # litellm never asks Bedrock to cite, and loses the order of it
            return None
        calls = _calls((block["toolUse"]["name"], block["toolUse"]["input"]) for block in blocks if "toolUse" in block)
        return Said(_THOUGHT.sub("", "".join(block.get("text", "") for block in blocks), count=1), calls)
    buffer = EventStreamBuffer()
    buffer.add_data(answer.plain)
    text, names, arguments = "", dict[int, str](), dict[int, str]()
    for message in buffer:
        data = json.loads(message.payload)
        index = data.get("contentBlockIndex", 0)
        if "toolUse" in data.get("start", {}):
            names[index], arguments[index] = data["start"]["toolUse"]["name"], ""
        delta = data.get("delta", {})
        text += delta.get("text", "")
        if "toolUse" in delta:
            arguments[index] += delta["toolUse"]["input"]
    return Said(text, _calls((names[index], json.loads(arguments[index] or "{}")) for index in sorted(names)))


def _calls(calls: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name, json.dumps(arguments, sort_keys=True)) for name, arguments in calls)


async def read_chat(answer: aiohttp.ClientResponse, is_stream: bool) -> Said:
    """What a client of OpenAI's reads."""
    if not is_stream:
        message = (await answer.json())["choices"][0]["message"]
        calls = _calls(
            (c["function"]["name"], json.loads(c["function"]["arguments"] or "{}")) for c in message.get("tool_calls") or ()
        )
        return Said(message["content"] or "", calls)
    text, names, arguments = "", dict[int, str](), dict[int, str]()
    async for event in _data(answer):
        assert "error" not in event, event
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls") or ():
                names.setdefault(call["index"], call["function"].get("name") or "")
                arguments[call["index"]] = arguments.get(call["index"], "") + (call["function"].get("arguments") or "")
    return Said(text, _calls((names[index], json.loads(arguments[index] or "{}")) for index in sorted(names)))


async def read_messages(answer: aiohttp.ClientResponse, is_stream: bool) -> Said:
    """What a client of Anthropic's reads."""
    if not is_stream:
        blocks = (await answer.json())["content"]
        calls = _calls((block["name"], block["input"]) for block in blocks if block["type"] == "tool_use")
        return Said("".join(block["text"] for block in blocks if block["type"] == "text"), calls)
    text, names, arguments = "", dict[int, str](), dict[int, str]()
    async for event in _data(answer):
        assert event["type"] != "error", event
        delta = event.get("delta", {})
        text += delta.get("text", "")
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            names[event["index"]] = event["content_block"]["name"]
        if "partial_json" in delta:
            arguments[event["index"]] = arguments.get(event["index"], "") + delta["partial_json"]
    return Said(text, _calls((names[index], json.loads(arguments.get(index) or "{}")) for index in sorted(names)))


async def _data(answer: aiohttp.ClientResponse) -> Any:
    async for line in answer.content:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


READERS: Mapping[str, Any] = {"/v1/chat/completions": read_chat, "/v1/messages": read_messages}


@pytest.mark.parametrize("path", READERS)
async def test_what_a_provider_said_is_what_the_client_reads(
    client: aiohttp.ClientSession, provider: Upstream, answers: list[Answer], path: str
) -> None:
    compared = 0
    wrong: list[str] = []
    for each in answers:
        recorded = each.recorded
        expected = said(each) if recorded.status == 200 else None
        if expected is None:
            continue
        if each.is_stream and not recorded.encoding:
            provider.script = streaming(_pieces(recorded.response), each.kind)
        else:
            packed = {"Content-Encoding": recorded.encoding} if recorded.encoding else {}
            provider.script = answering(recorded.response, headers={"Content-Type": each.kind, **packed})
        body = {"model": each.model, "max_tokens": 1_000, "messages": SAY, "stream": each.is_stream}
        async with client.post(path, json=body, headers={HEADER: each.upstream}) as answer:
            if answer.status != 200:
                wrong.append(f"{recorded.name}: {answer.status} {await answer.text()}")
                continue
            found = await READERS[path](answer, each.is_stream)
        compared += 1
        if found != expected:
            wrong.append(f"{recorded.name}: {found} is not {expected}")
    assert not wrong, "\n".join(wrong)
    assert compared > 500


def _pieces(body: bytes) -> list[bytes]:
    """The body in pieces that respect nothing."""
    return [body[start : start + 997] for start in range(0, len(body), 997)]


async def test_what_a_provider_refused_is_refused_with_its_status_and_words(
    client: aiohttp.ClientSession, provider: Upstream, answers: list[Answer]
) -> None:
    refused = [each for each in answers if each.recorded.status >= 400]
    assert len(refused) > 10
    for each in refused:
        status = each.recorded.status
        provider.script = answering(each.plain, status=f"{status} No")
        told = json.loads(each.plain)
        told = told[0] if isinstance(told, list) else told
        words = told["error"]["message"] if "error" in told else told.get("message") or told["Message"]
        for path in READERS:
            body = {"model": each.model, "max_tokens": 1_000, "messages": SAY, "stream": each.is_stream}
            async with client.post(path, json=body, headers={HEADER: each.upstream}) as answer:
                assert answer.status == status, each.recorded.name
                assert (await answer.json())["error"]["message"] == words[:2_000], each.recorded.name
