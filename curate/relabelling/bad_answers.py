"""Exchanges that cannot teach for their answer alone: what was asked is sound, and another teacher may answer it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from capture import feed
from capture.database import Database
from capture.errors import NotFoundError
from capture.messages import Message
from capture.offered import Offered
from curate.cleaning.clean import clean
from curate.selection import Candidate, input_key
from curate.settings import CurateSettings

REASONS = ("failed", "truncated", "refused", "empty", "broken_tool_arguments", "schema_invalid", "low_score")
"""Reasons of the bill that may lie with the answer."""
_ANY = Message("assistant", "any answer")


def badly_answered(database: Database, dropped: Mapping[str, str], settings: CurateSettings) -> Iterator[Candidate]:
    """The inputs of those of `dropped` (exchange id to reason) that would teach with another answer; their target is ''."""
    for exchange_id, reason in sorted(dropped.items()):
        if reason not in REASONS:
            continue
        try:
            exchange = feed.get(database, exchange_id)
            content = feed.content(database, exchange)
        except NotFoundError:
            continue  # erased meanwhile
        conversation, offered = feed.asked_of(exchange, content)
        cleaned = clean(exchange, conversation, settings, _ANY, Offered(offered.tools))
        if cleaned.reason:
            continue
        yield Candidate(
            exchange.id, exchange.started_us, exchange.protocol, exchange.model_served or exchange.model_asked, exchange.unit,
            exchange.session_name, cleaned.messages, "", input_key(conversation.asked, offered.tools), {}, False,
            tools=cleaned.tools,
        )  # fmt: skip
