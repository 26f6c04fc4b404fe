from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture import feed
from capture.assemble import OTHER, assemble, form_of
from capture.exchange import Conversation, Exchange
from capture.filters import parse_filter
from capture.messages import Message, ToolCall
from capture.offered import Offered, Tool, read_offered
from curate.cleaning.clean import REASONS, Cleaned, clean
from curate.settings import CurateSettings
from tests import cassettes
from tests.curate.sending import SYSTEM, Sent, Traffic

TOOL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
BROKEN_CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Ro'}}
IMAGE = {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}


WEATHER = Tool("weather", "Looks it up.", '{"properties":{"city":{"type":"string"}},"required":["city"],"type":"object"}')
TIME = Tool("time", "Tells the time.")


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
        ("truncated", {"finish": "MAX_TOKENS"}),
        ("truncated", {"finish": "insufficient_system_resource"}),
        ("refused", {"finish": "SAFETY"}),
        ("refused", {"finish": "MODEL_ARMOR"}),
        ("refused", {"finish": "guardrail_intervened"}),
        ("failed", {"finish": "error"}),
        ("broken_tool_arguments", {"finish": "UNEXPECTED_TOOL_CALL"}),
        ("broken_tool_arguments", {"finish": "MALFORMED_FUNCTION_CALL"}),
        ("broken_tool_arguments", {"answer_message": {**TOOL, "tool_calls": [BROKEN_CALL]}}),
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


def test_a_limit_of_0_is_none_and_one_that_is_reached_still_fits(traffic: Traffic) -> None:
    long = Sent("x" * 40_000, "y" * 9_000)
    free = {"max_input_characters": 0, "max_target_characters": 0, "max_input_tokens": 0}
    assert cleaned(traffic, long, CurateSettings(**free)).reason == ""
    asked = len(SYSTEM) + 40_000
    for fits, is_short in (
        ({"max_input_characters": asked}, {"max_input_characters": asked - 1}),
        ({"max_target_characters": 9_000}, {"max_target_characters": 8_999}),
        ({"max_input_tokens": 50}, {"max_input_tokens": 49}),
    ):
        assert cleaned(traffic, long, CurateSettings(**{**free, **fits})).reason == ""
        assert cleaned(traffic, long, CurateSettings(**{**free, **is_short})).reason == "over_long"


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


def judged(answer: Message, offered: Offered, settings: CurateSettings | None = None, **changes: Any) -> Cleaned:
    conversation = Conversation((Message("user", "What is the weather in Rome, please?"),), answer)
    score = changes.pop("score", None)
    return clean(an_exchange(**changes), conversation, settings or CurateSettings(), None, offered, score)


def calling(*arguments: str, name: str = "weather", **of_call: Any) -> Message:
    return Message("assistant", "", tuple(ToolCall(name, each, **of_call) for each in arguments))


@pytest.mark.parametrize(
    ("answer", "tools", "reason"),
    [
        (calling('{"city": "Rome"}'), (WEATHER,), ""),
        (calling('{"city": "Rome"}', '{"city": 5}'), (WEATHER,), "schema_invalid"),
        (calling('{"city": 5}', '{"city'), (WEATHER,), "broken_tool_arguments"),
        (calling("{}"), (WEATHER,), "schema_invalid"),
        (calling('["Rome"]'), (WEATHER,), "broken_tool_arguments"),
        (calling('{"city": "Rome"}', is_complete=False), (WEATHER,), "broken_tool_arguments"),
        (calling("{}", name="wether"), (WEATHER,), "broken_tool_arguments"),
        (calling("", name="time"), (WEATHER, TIME), ""),
        (calling("{}", name="time"), (), ""),
        (calling("{}", name="found_later"), (WEATHER, Tool("tool_search")), ""),
        (calling("SELECT 1", name="sql", is_custom=True), (Tool("sql", "Runs it."),), ""),
    ],
)
def test_a_call_is_held_to_the_tools_that_were_offered(answer: Message, tools: tuple[Tool, ...], reason: str) -> None:
    found = judged(answer, Offered(tools))
    assert found.reason == reason
    if not reason:
        assert (found.calls, found.tools) == (answer.tool_calls, tools)


@pytest.mark.parametrize(
    ("text", "offered", "reason"),
    [
        ('{"city": "Rome"}', Offered((), WEATHER.parameters), ""),
        ('{"city": 5}', Offered((), WEATHER.parameters), "schema_invalid"),
        ('{"city": "Rome"}\n{"city": "Rome"}', Offered((), WEATHER.parameters), "schema_invalid"),
        ("Rome", Offered((), WEATHER.parameters), "schema_invalid"),
        ("Rome", Offered((), "", True), "schema_invalid"),
        ('{"any": 1}', Offered((), "", True), ""),
        ("Rome", Offered((), '{"type": "strng"}'), "schema_invalid"),
        ('"Rome"', Offered((), '{"type": "strng"}'), ""),
    ],
)
def test_an_answer_is_held_to_the_json_that_was_asked_for(text: str, offered: Offered, reason: str) -> None:
    assert judged(Message("assistant", text), offered).reason == reason


def test_a_call_need_not_follow_the_schema_of_the_answer() -> None:
    assert judged(calling('{"city": "Rome"}'), Offered((WEATHER,), '{"type": "array"}')).reason == ""


def test_wrongly_decoded_prose_is_mended_but_neither_arguments_nor_json(traffic: Traffic) -> None:
    sent = Sent("I donâ€™t know", "Itâ€™s there")
    found = cleaned(traffic, sent)
    assert (found.messages[-1].text, found.target) == ("I don’t know", "It’s there")
    assert cleaned(traffic, sent, CurateSettings(fix_encoding=False)).target == "Itâ€™s there"
    call = judged(calling('{"city": "donâ€™t"}'), Offered((WEATHER,)))
    assert call.calls[0].arguments == '{"city": "donâ€™t"}'


def test_another_language_than_the_team_wants_is_dropped() -> None:
    answer = Message("assistant", "Sunny.")
    assert judged(answer, Offered(), CurateSettings(languages="de,fr")).reason == "wrong_language"
    assert judged(answer, Offered(), CurateSettings(languages="en")).reason == ""


def test_a_low_score_drops_an_answer_but_not_what_stands_in_for_it() -> None:
    answer, settings = Message("assistant", "Sunny."), CurateSettings(minimum_score=0.5)
    assert judged(answer, Offered(), settings, score=0.4).reason == "low_score"
    assert judged(answer, Offered(), settings, score=0.5).reason == ""
    assert judged(answer, Offered(), settings).reason == ""
    conversation = Conversation((Message("user", "Weather?"),), answer)
    assert clean(an_exchange(), conversation, settings, Message("assistant", "Rain."), score=0.1).target == "Rain."


def test_personal_data_goes_from_calls_results_and_tools_with_one_token_each() -> None:
    tool = Tool("mail", "Ask ann@x.org before.", '{"properties":{"to":{"default":"ann@x.org"}},"type":"object"}')
    asked = (
        Message("user", "Write to ann@x.org"),
        Message("assistant", "", (ToolCall("mail", '{"to": "bob@x.org"}', "c1"),)),
        Message("tool", '{"sent": "\\nbob@x.org"}', tool_call_id="c1"),
    )
    answer = Message("assistant", "", (ToolCall("mail", '{"to": "ann@x.org"}', "c2"),))
    found = clean(an_exchange(), Conversation(asked, answer), CurateSettings(), None, Offered((tool,)))
    assert "@" not in repr(found)
    assert json.loads(found.calls[0].arguments) == {"to": "<EMAIL_1>"}
    assert json.loads(found.messages[2].text) == {"sent": "\n<EMAIL_2>"}
    assert (found.messages[2].tool_call_id, found.personal) == ("c1", {"email": 2})
    assert found.tools[0].description == "Ask <EMAIL_1> before."


def test_a_secret_in_the_definition_of_a_tool_is_a_secret() -> None:
    tool = Tool("weather", "Uses sk-proj-abcdefghijklmnopqrstuvwxyz0123456789")
    assert judged(calling("{}"), Offered((tool,))).reason == "secret"


@pytest.mark.parametrize(
    ("answer", "changes", "reason"),
    [
        (Message("assistant", "short"), {"tokens_in": 200_000}, "over_long"),
        (calling('{"a": "' + "x" * 10_000_000 + '"}'), {}, "over_long"),
        (Message("assistant", "half \ud800 a pair"), {}, "encoding"),
        (Message("assistant", "", other_parts=("image",)), {}, "has_media"),
        (Message("assistant", "It rains.", other_parts=("web_search_call",)), {}, "provider_only"),
        (Message("assistant", "", reasoning="Only thoughts."), {}, "empty"),
    ],
)
def test_bad_input_has_its_reason_at_once(answer: Message, changes: dict[str, Any], reason: str) -> None:
    start = time.process_time()
    assert judged(answer, Offered((WEATHER,)), **changes).reason == reason
    assert time.process_time() - start < 1


pieces = st.text(max_size=20) | st.sampled_from(['{"a": 1}', "{", "ann@x.org", "\ud800", "\\u0040", "â€™", "4111111111111111"])
calls = st.builds(ToolCall, st.sampled_from(["weather", "f", ""]), pieces, is_complete=st.booleans(), is_custom=st.booleans())


@settings(max_examples=100, deadline=None)
@given(
    pieces, pieces, st.lists(calls, max_size=2), st.sampled_from(["stop", "length", "refusal", "whatever", ""]),
    st.builds(Offered, st.sampled_from([(), (WEATHER,)]), st.sampled_from(["", "{", '{"type": "object"}']), st.booleans()),
)  # fmt: skip
def test_whatever_comes_there_is_one_reason_or_a_whole_example(
    question: str, answer: str, called: list[ToolCall], finish: str, offered: Offered
) -> None:
    said = Message("assistant", answer, tuple(called))
    found = clean(
        an_exchange(finish_reason=finish), Conversation((Message("user", question),), said), CurateSettings(), None, offered
    )
    assert found.reason in ("", *REASONS)
    assert bool(found.reason) != bool(found.messages and (found.target.strip() or found.calls))
    for call in found.calls:
        assert call.is_custom or isinstance(json.loads(call.arguments or "{}"), dict)


def test_of_recorded_exchanges_each_teaches_or_says_why() -> None:
    reasons: Counter[str] = Counter()
    doubled = 0
    for exchange, conversation, offered in recorded():
        found = clean(exchange, conversation, CurateSettings(), None, offered)
        reasons[found.reason] += 1
        doubled += found.reason == "schema_invalid" and conversation.answer is not None and "}\n{" in conversation.answer.text
    assert reasons[""] > 0.6 * sum(reasons.values())
    assert doubled, "GPT-4o wrote its object twice where a strict schema allows one; that was not seen"
    assert {"refused", "has_media", "provider_only"} <= set(reasons) <= {"", *REASONS}
    assert "broken_tool_arguments" not in reasons  # real calls have empty arguments, and name tools that were found on the way


def recorded() -> list[tuple[Exchange, Conversation, Offered]]:
    """Recorded exchanges that asked for JSON, called tools, found tools on the way, or were refused."""
    wanted = ("structured_output_with_tools", "chat_parse", "tool_search", "test_tools", "image_url")
    names = [entry["file"] for entry in cassettes.index() if any(word in entry["file"] for word in wanted)]
    names = [name for name in names if cassettes.is_cassette(name)]
    found = []
    for name in dict.fromkeys(names):
        for request, response in cassettes.interactions(name):
            asked, answered = cassettes.body_of(request), cassettes.body_of(response)
            path = urlsplit(request["uri"]).path
            protocol = "anthropic" if path.endswith("/messages") else "openai"
            if asked is None or answered is None or form_of(protocol, path) == OTHER:
                continue
            status = response["status"]["code"]
            headers = {name.casefold(): str(value) for name, value in response["headers"].items()}
            is_stream = "event-stream" in headers.get("content-type", "")
            encoding = headers.get("content-encoding", "").strip("[]'")
            read = assemble(protocol, path, is_stream, asked, answered, encoding, status)
            exchange = an_exchange(
                protocol=protocol,
                path=path,
                status=status,
                state="complete" if read.is_terminal or status >= 400 else "truncated",
                finish_reason=read.finish_reason,
            )
            found.append((exchange, read.conversation, read_offered(asked)))
    return found


def an_exchange(**changes: Any) -> Exchange:
    values: dict[str, Any] = {"status": 200, "state": "complete"}
    for name, kind in Exchange.__annotations__.items():
        values.setdefault(name, {} if kind.startswith("Mapping") else "" if kind == "str" else 0)
    return Exchange(**{**values, **changes})
