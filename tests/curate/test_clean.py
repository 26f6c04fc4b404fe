from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import feed
from capture.exchange import Conversation, Exchange
from capture.filters import parse_filter
from capture.messages import Message
from curate.clean import REASONS, Cleaned, clean
from curate.settings import CurateSettings
from tests.curate.sending import SYSTEM, Sent, Traffic

TOOL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
IMAGE = {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}


def cleaned(traffic: Traffic, sent: Sent, settings: CurateSettings | None = None, edited: str | None = None) -> Cleaned:
    given = None if edited is None else Message("assistant", edited)
    traffic.send([sent])
    (exchange,) = feed.page(traffic.database, parse_filter(""), limit=1)
    return clean(exchange, feed.conversation(traffic.database, exchange), settings or CurateSettings(), given)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("not_stored", {"content": "omit"}),
        ("failed", {"status": 500}),
        ("failed", {"status": 429}),
        ("failed", {"state": "upstream_aborted"}),
        ("truncated", {"finish": "length"}),
        ("truncated", {"finish": "max_tokens", "protocol": "anthropic", "path": "/v1/messages"}),
        ("refused", {"finish": "content_filter"}),
        ("refused", {"finish": "refusal", "protocol": "anthropic", "path": "/v1/messages"}),
        ("refused", {"answer_message": {"role": "assistant", "content": None, "refusal": "I cannot."}}),
        ("empty", {"answer": "  \n"}),
        ("", {"answer_message": {**TOOL, "content": '{"queue": "parcel"}'}}),
        ("has_media", {"messages": (IMAGE,)}),
        ("prefilled", {"messages": ({"role": "user", "content": "Say"}, {"role": "assistant", "content": "It is"})}),
        ("not_chat", {"path": "/v1/embeddings"}),
        ("encoding", {"question": "broken \ufffd letter"}),
        ("over_long", {"question": "x" * 40_000}),
        ("over_long", {"answer": "x" * 9_000}),
        ("secret", {"question": "my key is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"}),
        ("", {}),
        ("", {"protocol": "anthropic", "path": "/v1/messages", "upstream": "anthropic"}),
    ],
)
def test_every_reason_to_drop_is_seen_in_captured_bytes(reason: str, changes: dict[str, Any], traffic: Traffic) -> None:
    found = cleaned(traffic, replace(Sent("Where is it?", '{"queue": "parcel"}'), **changes))
    assert found.reason == reason
    if not reason:
        assert found.messages == (Message("system", SYSTEM), Message("user", "Where is it?"))
        assert json.loads(found.target) == {"queue": "parcel"}


def test_embeddings_are_no_chat_whatever_they_were_asked(traffic: Traffic) -> None:
    traffic.send([Sent("Where is it?", "on its way")])
    (exchange,) = feed.page(traffic.database, parse_filter(""), limit=1)
    embedded = replace(exchange, path="/openai/deployments/small/embeddings")
    assert clean(embedded, Conversation((Message("user", "a text"),), None), CurateSettings()).reason == "not_chat"


def test_personal_data_follows_the_policy(traffic: Traffic) -> None:
    sent = Sent("I am a@x.org", "Dear a@x.org")
    assert cleaned(traffic, sent).target == "Dear <EMAIL_1>"
    assert cleaned(traffic, sent, CurateSettings(personal_data="drop")).reason == "personal_data"
    kept = cleaned(traffic, sent, CurateSettings(personal_data="keep"))
    assert (kept.target, kept.personal) == ("Dear a@x.org", {"email": 1})


def test_a_phrase_of_refusal_is_for_a_person_to_judge(traffic: Traffic) -> None:
    found = cleaned(traffic, Sent("Hack it", "I'm sorry, but I can't help with that."))
    assert (found.reason, found.looks_refused) == ("", True)


def test_a_reviewers_target_mends_a_cut_answer_but_not_a_secret(traffic: Traffic) -> None:
    assert cleaned(traffic, Sent("Where?", "Ov", finish="length"), edited="Over there.").target == "Over there."
    leaking = "Use sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
    assert cleaned(traffic, Sent("Where?", "There"), edited=leaking).reason == "secret"


@given(st.text(), st.text(), st.sampled_from(["stop", "length", "refusal", "whatever", ""]))
def test_whatever_the_text_there_is_one_reason_or_a_whole_example(question: str, answer: str, finish: str) -> None:
    exchange = an_exchange(finish_reason=finish)
    found = clean(exchange, Conversation((Message("user", question),), Message("assistant", answer)), CurateSettings())
    assert found.reason in ("", *REASONS)
    assert bool(found.reason) != bool(found.messages and found.target.strip())


def an_exchange(**changes: Any) -> Exchange:
    values: dict[str, Any] = {"status": 200, "state": "complete"}
    for name, kind in Exchange.__annotations__.items():
        values.setdefault(name, {} if kind.startswith("Mapping") else "" if kind == "str" else 0)
    return Exchange(**{**values, **changes})
