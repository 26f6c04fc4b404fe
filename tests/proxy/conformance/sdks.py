"""The official SDKs, and what a stream is to them: its events as they read them, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
ASKED: Any = [{"role": "user", "content": "hé 北"}]


@dataclass(frozen=True)
class Sdks:
    """Both SDKs at one address, without retries of their own."""

    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic

    async def stream(self, path: str) -> AsyncIterator[Any]:
        """The events of a streamed answer at `path`."""
        found: Any
        if path == CHAT:
            found = await self.openai.chat.completions.create(model="m-1", messages=ASKED, stream=True)
        elif path == RESPONSES:
            found = await self.openai.responses.create(model="m-1", input="hé 北", stream=True)
        else:
            found = await self.anthropic.messages.create(model="m-1", max_tokens=9, messages=ASKED, stream=True)
        async with found:
            async for event in found:
                yield event

    async def said(self, path: str) -> tuple[list[str], str]:
        """Each event as JSON, and the name and text of the error that ended the stream, '' without one."""
        events: list[str] = []
        try:
            async for event in self.stream(path):
                events.append(event.model_dump_json(warnings=False))  # noqa: PERF401  what came before an error counts
        except Exception as error:  # whatever the SDK makes of the bytes, it must make of ours too
            return events, f"{type(error).__name__}: {error}"
        return events, ""


@asynccontextmanager
async def sdks_at(address: str) -> AsyncIterator[Sdks]:
    """The SDKs with base URLs as users set them."""
    async with (
        openai.AsyncOpenAI(base_url=address + "/v1", api_key="sk-test", max_retries=0) as one,
        anthropic.AsyncAnthropic(base_url=address, api_key="sk-test", max_retries=0) as other,
    ):
        yield Sdks(one, other)
