"""Decides whether one exchange can teach, and prepares its text; the first reason that holds is the reason.

not_stored             the content was left out of the store on request, or only a beginning of it was kept
truncated              the answer was cut: by a limit of tokens or time, or on the wire
failed                 no whole answer with a 2xx status, or the provider said that it failed
refused                the provider or the model declined (its own flag; phrases only mark an example for review)
broken_tool_arguments  a tool call that the provider calls malformed, that breaks off, whose arguments are no JSON object, or of a
                       tool that was not offered
not_chat               no chat messages in the request (embeddings and the like)
has_media              images, audio, video or documents, which the recipes do not learn
provider_only          what only the provider can read or run: its own tools (web search, code), conversations and histories that
                       it keeps, prompts as token numbers
has_tool_calls         tools in the conversation, where [curate] with_tools is off
prefilled              the request already begins the answer
empty                  the answer, or the question, has no text
over_long              longer than [curate] max_input_tokens, max_input_characters or max_target_characters allow (0 allows all)
encoding               broken characters that could not be mended
schema_invalid         the answer is not what the request's JSON schema, or its wish for JSON, asked for; or the arguments of a
                       call are not what the tool's schema asks for
wrong_language         the last prose of the user is surely in none of [curate] languages
secret                 a key, token or password was found, now or before it was stored
personal_data          personal data, where the policy says drop
low_score              feedback scored the answer below [curate] minimum_score
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from capture import personal_data
from capture.assemble import EMBEDDINGS, form_of
from capture.exchange import CUT, OMITTED, TRUNCATED, Conversation, Exchange
from capture.loose_json import is_valid, parse
from capture.messages import Message, ToolCall
from capture.offered import NOTHING, Offered, Tool
from capture.redact import redact_text
from curate.cleaning.hiding import hide
from curate.cleaning.language import is_foreign
from curate.cleaning.mending import mend
from curate.cleaning.schemas import breaks
from curate.settings import CurateSettings

REASONS = (
    "not_stored", "truncated", "failed", "refused", "broken_tool_arguments", "not_chat", "has_media", "provider_only",
    "has_tool_calls", "prefilled", "empty", "over_long", "encoding", "schema_invalid", "wrong_language", "secret",
    "personal_data", "low_score",
)  # fmt: skip

# How an answer ended, in the words of OpenAI, Anthropic, Gemini, Bedrock, Cohere, Mistral, DeepSeek, Z.ai and vLLM, casefolded.
_ENDED = {
    "truncated": (
        "length max_tokens max_output_tokens model_length model_context_window_exceeded pause_turn incomplete error_limit "
        "timeout cancelled user_cancel abort insufficient_system_resource"
    ),
    "failed": "failed error network_error malformed_model_output malformed_response",
    "refused": (
        "content_filter content_filtered refusal safety guardrail_intervened model_armor recitation blocklist prohibited_content "
        "spii language sensitive error_toxic image_safety image_prohibited_content image_recitation"
    ),
    "broken_tool_arguments": (
        "malformed_function_call unexpected_tool_call too_many_tool_calls malformed_tool_use missing_thought_signature"
    ),
}
_MEDIA = frozenset({
    "image", "audio", "document", "video", "image_generation_call", "document_url", "video_url", "container_upload",
})  # fmt: skip
_REASON_OF_END = {finish: reason for reason, finishes in _ENDED.items() for finish in finishes.split()}
_REDACTED = "[redacted:"
_LONG_ENOUGH_TO_REMEMBER = 200
_BROKEN = re.compile("[\ufffd\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f]")
_REFUSAL = re.compile(
    r"\A\W*(?:i['’]?m sorry|sorry|i apologi[sz]e|i can(?:no|['’]?)t (?:help|assist|do|provide|comply)|as an ai\b"
    r"|i(?:['’]m| am) (?:unable|not able) to)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An exchange's input and target, or the reason why it cannot teach (`reason` is '' when it can).

    The target is text and `calls`; `tools` are those that the input offers. Wrongly decoded text is mended where settings say so.

    `personal` counts the personal data found, by kind. `looks_refused`: it reads like a refusal; a person should look.
    """

    reason: str
    messages: tuple[Message, ...] = ()
    target: str = ""
    personal: Mapping[str, int] = field(default_factory=dict)
    looks_refused: bool = False
    calls: tuple[ToolCall, ...] = ()
    tools: tuple[Tool, ...] = ()


def clean(
    exchange: Exchange,
    conversation: Conversation,
    settings: CurateSettings,
    given: Message | None = None,
    offered: Offered = NOTHING,
    score: float | None = None,
) -> Cleaned:
    """`exchange` as an example, or why not. `given` stands in for the answer: what a reviewer or another teacher said.

    `offered` is what the request offered beside its messages, `score` what feedback gave the answer; it says nothing of `given`.
    """
    answer = conversation.answer if given is None else given
    asked = conversation.asked if form_of(exchange.protocol, exchange.path) != EMBEDDINGS else ()
    reason = _reason_of_outcome(exchange, answer, given is not None) or _reason_of_form(asked, answer, settings)
    if reason or answer is None:
        return Cleaned(reason or "failed")
    texts = _texts(asked, answer, offered.tools)
    reason = _reason_of_length(exchange, answer, texts, settings)
    if reason:
        return Cleaned(reason)
    looks = [_look(text, settings.fix_encoding and is_prose) for text, is_prose in texts]
    turns, tools = _with_texts(asked, answer, offered.tools, [look.text for look in looks])
    reason = _reason_of_text(exchange, looks, turns, offered, settings)
    if reason:
        return Cleaned(reason)
    personal: Mapping[str, int] = {}
    if settings.presidio or any(look.is_personal for look in looks):
        hidden, personal = hide([look.text for look in looks], settings)
        if personal and settings.personal_data == "drop":
            return Cleaned("personal_data")
        if personal and settings.personal_data == "pseudonymise":
            turns, tools = _with_texts(asked, answer, offered.tools, hidden)
    if given is None and score is not None and score < settings.minimum_score:
        return Cleaned("low_score")
    *messages, said = turns
    looks_refused = given is None and not said.tool_calls and _REFUSAL.match(said.text) is not None
    return Cleaned("", tuple(messages), said.text, personal, looks_refused, said.tool_calls, tools)


def _texts(asked: tuple[Message, ...], answer: Message, tools: tuple[Tool, ...]) -> list[tuple[str, bool]]:
    """Every text that an example will hold, and whether it may be prose; the answer's come before those of the tools."""
    texts = []
    for turn in (*asked, answer):
        texts.append((turn.text, True))
        texts += [(call.arguments, False) for call in turn.tool_calls]
    for tool in tools:
        texts += [(tool.description, True), (tool.parameters, False)]
    return texts


def _with_texts(
    asked: tuple[Message, ...], answer: Message, tools: tuple[Tool, ...], texts: list[str]
) -> tuple[list[Message], tuple[Tool, ...]]:
    """Turns and tools with `texts` in the places that `_texts` took them from; reasoning and the like stay behind."""
    rest = iter(texts)
    turns = [
        Message(
            turn.role,
            next(rest),
            tuple(replace(call, arguments=next(rest)) for call in turn.tool_calls),
            tool_call_id=turn.tool_call_id,
        )
        for turn in (*asked, answer)
    ]
    left = list(rest)
    if left == [text for tool in tools for text in (tool.description, tool.parameters)]:
        return turns, tools  # the very same, so that thousands of examples share them
    rest = iter(left)
    return turns, tuple(Tool(tool.name, next(rest), next(rest)) for tool in tools)


def _reason_of_outcome(exchange: Exchange, answer: Message | None, is_given: bool) -> str:
    if exchange.content in (OMITTED, CUT):
        return "not_stored"
    if is_given:
        return ""
    if exchange.state == TRUNCATED:
        return "truncated"
    if not exchange.is_success:
        return "failed"
    ended = _REASON_OF_END.get(exchange.finish_reason.casefold(), "")
    return ended or ("refused" if answer is not None and "refusal" in answer.other_parts else "")


def _reason_of_form(asked: tuple[Message, ...], answer: Message | None, settings: CurateSettings) -> str:
    if not asked:
        return "not_chat"
    if answer is None:
        return "empty"
    everything = (*asked, answer)
    parts = {part.partition(":")[0] for message in everything for part in message.other_parts}
    if parts:
        return "has_media" if parts & _MEDIA else "provider_only"
    if not settings.with_tools and any(message.tool_calls or message.role == "tool" for message in everything):
        return "has_tool_calls"
    if asked[-1].role == "assistant":
        return "prefilled"
    is_answered = bool(answer.text.strip() or answer.tool_calls)
    return "" if is_answered and any(message.text.strip() for message in asked) else "empty"


def _reason_of_length(exchange: Exchange, answer: Message, texts: list[tuple[str, bool]], settings: CurateSettings) -> str:
    """Before anything looks at the texts, so that no text takes long."""
    target = len(answer.text) + sum(len(call.arguments) for call in answer.tool_calls)
    asked = sum(len(text) for text, _ in texts) - target
    limits = (
        (settings.max_input_characters, asked),
        (settings.max_target_characters, target),
        (settings.max_input_tokens, exchange.tokens_in or 0),
    )
    return "over_long" if any(0 < most < length for most, length in limits) else ""


def _reason_of_text(
    exchange: Exchange, looks: list[_Look], turns: list[Message], offered: Offered, settings: CurateSettings
) -> str:
    if any(look.is_broken for look in looks):
        return "encoding"
    reason = _reason_of_calls(turns[-1], offered.tools) or _reason_of_answer(turns[-1], offered)
    if reason:
        return reason
    if settings.languages and is_foreign(turns[:-1], settings.languages):
        return "wrong_language"
    return "secret" if exchange.redactions or any(look.has_secret for look in looks) else ""


def _reason_of_calls(answer: Message, tools: tuple[Tool, ...]) -> str:
    if not answer.tool_calls:
        return ""
    offered = {tool.name: tool for tool in tools}
    # A tool named by its type alone is built in, and may bring others (a search for tools, a server of MCP).
    is_known = bool(tools) and all(tool.description or tool.parameters for tool in tools)
    reason = ""
    for call in answer.tool_calls:
        if not call.is_complete or not call.name or (is_known and call.name not in offered):
            return "broken_tool_arguments"
        if call.is_custom:
            continue
        try:
            arguments = parse((call.arguments or "{}").encode("utf-8", "replace"))
        except ValueError:
            return "broken_tool_arguments"
        if not isinstance(arguments, dict):
            return "broken_tool_arguments"
        schema = offered[call.name].parameters if call.name in offered else ""
        if schema and breaks(schema, arguments):
            reason = "schema_invalid"
    return reason


def _reason_of_answer(answer: Message, offered: Offered) -> str:
    if answer.tool_calls or not (offered.answer_schema or offered.wants_json):
        return ""
    if not is_valid(answer.text):
        return "schema_invalid"
    value = parse(answer.text.encode("utf-8", "replace"))
    return "schema_invalid" if offered.answer_schema and breaks(offered.answer_schema, value) else ""


@dataclass(frozen=True, slots=True)
class _Look:
    """A text, mended, and what is wrong with it."""

    text: str
    is_broken: bool
    has_secret: bool
    is_personal: bool


def _look(text: str, mends: bool) -> _Look:
    return _remembered_look(text, mends) if len(text) >= _LONG_ENOUGH_TO_REMEMBER else _new_look(text, mends)


def _new_look(text: str, mends: bool) -> _Look:
    text = mend(text) if mends else text
    has_secret = bool(redact_text(text)[1]) or _REDACTED in text
    return _Look(text, _BROKEN.search(text) is not None, has_secret, bool(personal_data.find(text)) or "\\u" in text)


_remembered_look = lru_cache(maxsize=512)(_new_look)
"""System prompts, definitions of tools and earlier turns come again and again.

The last 512 stay in memory until the process ends, each as long as an example may be: captured words, which no erasure takes out
of a process that runs."""
