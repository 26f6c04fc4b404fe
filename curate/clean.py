"""Decides whether one exchange can teach, and prepares its text; the first reason that holds is the reason.

not_stored      the content was left out of the store on request, or only a beginning of it was kept
failed          no whole answer with a 2xx status
truncated       the answer was cut: by the token limit, or on the wire
refused         the provider or the model declined (its own flag; phrases only mark an example for review)
not_chat        no chat messages in the request (embeddings and the like)
prefilled       the request already begins the answer
has_media       images, audio or documents, which the recipes do not learn
has_tool_calls  tools in the conversation, where [curate] with_tools is off
empty           the answer, or the question, has no text
encoding        broken characters
over_long       longer than [curate] allows
secret          a key, token or password was found, now or before it was stored
personal_data   personal data, where the policy says drop
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from capture import personal_data
from capture.assemble import EMBEDDINGS, form_of
from capture.exchange import CUT, OMITTED, TRUNCATED, Conversation, Exchange
from capture.messages import Message, ToolCall
from capture.offered import NOTHING, Offered, Tool
from capture.redact import redact_text
from curate.settings import CurateSettings

REASONS = (
    "not_stored", "failed", "truncated", "refused", "not_chat", "prefilled", "has_media", "has_tool_calls", "empty", "encoding",
    "over_long", "secret", "personal_data",
)  # fmt: skip

_CUT = frozenset(("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded", "pause_turn"))
_DECLINED = frozenset((
    "content_filter", "refusal", "safety", "guardrail_intervened", "model_armor", "recitation", "blocklist", "prohibited_content",
    "spii",
))  # fmt: skip
_REDACTED = "[redacted:"
_BROKEN = re.compile("[\ufffd\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f]")
_REFUSAL = re.compile(
    r"\A\W*(?:i['’]?m sorry|sorry|i apologi[sz]e|i can(?:no|['’]?)t (?:help|assist|do|provide|comply)|as an ai\b"
    r"|i(?:['’]m| am) (?:unable|not able) to)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An exchange's input and target, or the reason why it cannot teach (`reason` is '' when it can).

    The target is text and `calls`; `tools` are those that the input offers.

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
) -> Cleaned:
    """`exchange` as an example, or why not. `given` stands in for the answer: what a reviewer or another teacher said.

    `offered` is what the request offered beside its messages.
    """
    answer = conversation.answer if given is None else given
    asked = conversation.asked if form_of(exchange.protocol, exchange.path) != EMBEDDINGS else ()
    reason = _reason_of_outcome(exchange, answer, given is not None) or _reason_of_form(asked, answer, settings)
    if reason or answer is None:
        return Cleaned(reason or "failed")
    turns = [*conversation.asked, answer]
    texts = [text for turn in turns for text in _texts(turn)]
    reason = _reason_of_text(exchange, turns, texts, settings)
    if reason:
        return Cleaned(reason)
    pseudonymous, personal = personal_data.pseudonymise(texts)
    if personal and settings.personal_data == "drop":
        return Cleaned("personal_data")
    if personal and settings.personal_data == "pseudonymise":
        texts = pseudonymous
    *messages, said = _with_texts(turns, texts)
    looks_refused = given is None and not said.tool_calls and _REFUSAL.match(said.text) is not None
    return Cleaned("", tuple(messages), said.text, personal, looks_refused, said.tool_calls, offered.tools)


def _texts(message: Message) -> list[str]:
    return [message.text, *(call.arguments for call in message.tool_calls)]


def _with_texts(turns: list[Message], texts: list[str]) -> list[Message]:
    """`turns` with `texts` in the places that `_texts` took them from; reasoning and the like stay behind."""
    rest = iter(texts)
    return [
        Message(
            turn.role,
            next(rest),
            tuple(replace(call, arguments=next(rest)) for call in turn.tool_calls),
            tool_call_id=turn.tool_call_id,
        )
        for turn in turns
    ]


def _reason_of_outcome(exchange: Exchange, answer: Message | None, is_given: bool) -> str:
    finish = exchange.finish_reason.casefold()
    if exchange.content in (OMITTED, CUT):
        return "not_stored"
    if is_given:
        return ""
    if exchange.state == TRUNCATED or (exchange.is_success and finish in _CUT):
        return "truncated"
    if not exchange.is_success:
        return "failed"
    return "refused" if finish in _DECLINED or (answer is not None and "refusal" in answer.other_parts) else ""


def _reason_of_form(asked: tuple[Message, ...], answer: Message | None, settings: CurateSettings) -> str:
    if not asked:
        return "not_chat"
    if answer is None:
        return "empty"
    everything = (*asked, answer)
    if any(message.other_parts for message in everything):
        return "has_media"
    if not settings.with_tools and any(message.tool_calls or message.role == "tool" for message in everything):
        return "has_tool_calls"
    if asked[-1].role == "assistant":
        return "prefilled"
    is_answered = bool(answer.text.strip() or answer.tool_calls)
    return "" if is_answered and any(message.text.strip() for message in asked) else "empty"


def _reason_of_text(exchange: Exchange, turns: list[Message], texts: list[str], settings: CurateSettings) -> str:
    if any(_BROKEN.search(text) for text in texts):
        return "encoding"
    target = sum(map(len, _texts(turns[-1])))
    if sum(map(len, texts)) - target > settings.max_input_characters or target > settings.max_target_characters:
        return "over_long"
    if settings.max_input_tokens and (exchange.tokens_in or 0) > settings.max_input_tokens:
        return "over_long"
    return "secret" if exchange.redactions or any(redact_text(text)[1] or _REDACTED in text for text in texts) else ""
