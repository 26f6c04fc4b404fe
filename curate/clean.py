"""Decides whether one exchange can teach, and prepares its text; the first reason that holds is the reason.

not_stored      the content was left out of the store on request, or only a beginning of it was kept
failed          no whole answer with a 2xx status
truncated       the answer was cut: by the token limit, or on the wire
refused         the provider or the model declined (its own flag; phrases only mark an example for review)
not_chat        no chat messages in the request (embeddings and the like)
prefilled       the request already begins the answer
has_media       images, audio or documents, which the recipes do not learn
has_tool_calls  tool calls, which the recipes do not learn yet
empty           the answer, or the question, has no text
encoding        broken characters
over_long       longer than [curate] allows
secret          a key, token or password was found, now or before it was stored
personal_data   personal data, where the policy says drop
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from capture import personal_data
from capture.assemble import EMBEDDINGS, form_of
from capture.exchange import CUT, OMITTED, TRUNCATED, Conversation, Exchange
from capture.messages import Message
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

    `personal` counts the personal data found, by kind. `looks_refused`: it reads like a refusal; a person should look.
    """

    reason: str
    messages: tuple[Message, ...] = ()
    target: str = ""
    personal: Mapping[str, int] = field(default_factory=dict)
    looks_refused: bool = False


def clean(exchange: Exchange, conversation: Conversation, settings: CurateSettings, edited: str | None = None) -> Cleaned:
    """`exchange` as an example, or why not. `edited` is a reviewer's target and stands in for the answer."""
    answer = conversation.answer if edited is None else Message("assistant", edited)
    asked = conversation.asked if form_of(exchange.protocol, exchange.path) != EMBEDDINGS else ()
    reason = _reason_of_outcome(exchange, answer, edited is not None) or _reason_of_form(asked, answer)
    if reason or answer is None:
        return Cleaned(reason or "failed")
    texts = [*(message.text for message in conversation.asked), answer.text]
    reason = _reason_of_text(exchange, texts, settings)
    if reason:
        return Cleaned(reason)
    pseudonymous, personal = personal_data.pseudonymise(texts)
    if personal and settings.personal_data == "drop":
        return Cleaned("personal_data")
    if personal and settings.personal_data == "pseudonymise":
        texts = pseudonymous
    messages = tuple(Message(message.role, text) for message, text in zip(conversation.asked, texts[:-1], strict=True))
    return Cleaned("", messages, texts[-1], personal, edited is None and _REFUSAL.match(texts[-1]) is not None)


def _reason_of_outcome(exchange: Exchange, answer: Message | None, is_edited: bool) -> str:
    finish = exchange.finish_reason.casefold()
    if exchange.content in (OMITTED, CUT):
        return "not_stored"
    if is_edited:
        return ""
    if exchange.state == TRUNCATED or (exchange.is_success and finish in _CUT):
        return "truncated"
    if not exchange.is_success:
        return "failed"
    return "refused" if finish in _DECLINED or (answer is not None and "refusal" in answer.other_parts) else ""


def _reason_of_form(asked: tuple[Message, ...], answer: Message | None) -> str:
    if not asked:
        return "not_chat"
    if answer is None:
        return "empty"
    everything = (*asked, answer)
    if any(message.other_parts for message in everything):
        return "has_media"
    if any(message.tool_calls or message.role == "tool" for message in everything):
        return "has_tool_calls"
    if asked[-1].role == "assistant":
        return "prefilled"
    return "" if answer.text.strip() and any(message.text.strip() for message in asked) else "empty"


def _reason_of_text(exchange: Exchange, texts: list[str], settings: CurateSettings) -> str:
    if any(_BROKEN.search(text) for text in texts):
        return "encoding"
    if sum(map(len, texts[:-1])) > settings.max_input_characters or len(texts[-1]) > settings.max_target_characters:
        return "over_long"
    if settings.max_input_tokens and (exchange.tokens_in or 0) > settings.max_input_tokens:
        return "over_long"
    return "secret" if exchange.redactions or any(redact_text(text)[1] or _REDACTED in text for text in texts) else ""
