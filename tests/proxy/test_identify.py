"""Identity: every source of a tag, its precedence, and what is malformed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identify import BadTagError, Identity, identify
from proxy.peek import Peek, peek

NOTHING = Peek()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("x-potstill-task", "triage", "task", "triage"),
        ("X-Potstill-Task", " triage ", "task", "triage"),
        ("x-potstill-user", "ünal@example.com", "user", "ünal@example.com"),
        ("x-potstill-session", "s 1", "session", "s 1"),
        ("x-potstill-environment", "staging", "environment", "staging"),
        ("x-potstill-purpose", "eval", "purpose", "eval"),
        ("Helicone-User-Id", "u7", "user", "u7"),
        ("Helicone-Session-Id", "s7", "session", "s7"),
        ("Helicone-Prompt-Id", "my prompt / v2", "task", "my-prompt-v2"),
        ("x-litellm-end-user-id", "u8", "user", "u8"),
        ("x-litellm-session-id", "s8", "session", "s8"),
        ("x-portkey-trace-id", "t9", "session", "t9"),
        ("x-portkey-metadata", '{"_user": "u9", "team": "a"}', "user", "u9"),
        ("x-portkey-metadata", '{"_environment": "prod"}', "environment", "prod"),
        ("x-inference-task-id", "triage", "task", "triage"),
        ("x-inference-environment", "dev", "environment", "dev"),
        ("x-claude-code-session-id", "cc", "session", "cc"),
        ("session_id", "cx", "session", "cx"),
        ("Session-Id", "cx", "session", "cx"),
        ("langfuse_trace_user_id", "u10", "user", "u10"),
        ("langfuse_session_id", "s10", "session", "s10"),
        ("Langfuse-Environment", "prod", "environment", "prod"),
        ("x-portkey-metadata", '{"_prompt": "my prompt"}', "task", "my-prompt"),
        ("baggage", "langfuse_user_id=u%2011;p=1, x=y", "user", "u 11"),
        ("baggage", "a=b,session.id=s11", "session", "s11"),
    ],
)
def test_a_header_names_a_field(name: str, value: str, field: str, expected: str) -> None:
    assert getattr(identify([(name, value)], "", NOTHING), field) == expected


@pytest.mark.parametrize(
    ("name", "value", "tags"),
    [
        ("x-potstill-tag-team", "Search", {"team": "Search"}),
        ("Helicone-Property-App", "mobile", {"app": "mobile"}),
        ("x-inference-metadata-chain", "c1", {"chain": "c1"}),
        ("x-portkey-metadata", '{"Team": "a", "n": 3}', {"team": "a", "n": "3"}),
        ("x-litellm-spend-logs-metadata", '{"k": "v"}', {"k": "v"}),
        ("x-litellm-tags", "batch, Night Run", {"batch": "true", "night-run": "true"}),
        ("langfuse_tags", "batch", {"batch": "true"}),
        ("Helicone-Session-Path", "/a/b", {"session_path": "/a/b"}),
        ("Helicone-Session-Name", "trip", {"session_name": "trip"}),
        ("baggage", "langfuse_metadata_Team=search", {"team": "search"}),
        ("x-claude-code-agent-id", "a1", {"agent": "a1"}),
        ("x-openai-subagent", "review", {"agent": "review"}),
        ("X-Title", "Aider", {"app": "Aider"}),
    ],
)
def test_a_header_names_tags(name: str, value: str, tags: dict[str, str]) -> None:
    assert identify([(name, value)], "", NOTHING).tags == tags


def test_the_most_explicit_source_wins() -> None:
    body = peek(b'{"user": "body", "metadata": {"team": "body", "other": "body"}}')
    aliases = [("helicone-user-id", "alias"), ("helicone-prompt-id", "alias"), ("helicone-property-team", "alias")]
    ours = [("x-potstill-user", "ours"), ("x-potstill-task", "ours"), ("x-potstill-tag-team", "ours")]
    assert identify([], "path", body).user == "body"
    assert identify(aliases, "path", body).task == "path"
    assert identify(aliases, "", body).task == "alias"
    assert identify(aliases, "", body).tags == {"team": "alias", "other": "body"}
    everything = identify([*aliases, *ours], "path", body)
    assert (everything.user, everything.task, everything.tags["team"]) == ("ours", "ours", "ours")


@pytest.mark.parametrize(
    "body",
    [
        b'{"user": "u1"}',
        b'{"metadata": {"user_id": "u1"}}',
        b'{"safety_identifier": "u1"}',
    ],
)
def test_a_body_names_the_user(body: bytes) -> None:
    found = identify([], "", peek(body))
    assert found.user == "u1"
    assert found.units == {"user": "u1"}
    assert found.tags == {}


def test_units_come_with_their_kind_and_the_conversation_first() -> None:
    found = identify([("x-potstill-session", "s"), ("x-potstill-user", "u")], "", peek(b'{"conversation": {"id": "c"}}'))
    assert found.units == {"conversation": "c", "user": "u", "session": "s"}
    assert found.unit == ("c", "conversation")
    assert Identity().unit == ("", "")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("x-potstill-task", "a/b", "1 to 100"),
        ("x-potstill-task", "../x", "no dot in front"),
        ("x-potstill-task", "x" * 101, "1 to 100"),
        ("x-potstill-user", "u" * 513, "at most 512"),
        ("x-potstill-user", "a\x07b", "control characters"),
        ("x-potstill-user", "a\udcffb", "not UTF-8"),
        ("x-potstill-purpose", "fun", "one of app"),
        ("x-potstill-taks", "triage", "Did you mean x-potstill-task"),
        ("x-potstill-tag-", "v", "name must have"),
        ("x-potstill-tag-a!b", "v", "name must have"),
    ],
)
def test_a_malformed_tag_is_refused_with_the_reason(name: str, value: str, reason: str) -> None:
    with pytest.raises(BadTagError, match=reason):
        identify([(name, value)], "", NOTHING)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Helicone-Prompt-Id", "../x" * 100, Identity(task=("x.." + "-x.." * 99)[:100])),
        ("Helicone-User-Id", "u" * 513, Identity(user="u" * 512, units={"user": "u" * 512})),
        ("x-litellm-session-id", "a\x07b", Identity(session="a\ufffdb", units={"session": "a\ufffdb"})),
        ("x-inference-environment", "a\udcffb", Identity(environment="a\ufffdb")),
        ("Helicone-Property-a!b", "v", Identity()),
        ("Helicone-Property-a", "v" * 600, Identity(tags={"a": "v" * 512})),
        ("x-portkey-metadata", "{oops", Identity()),
        ("x-portkey-metadata", "[1]", Identity()),
        ("x-portkey-metadata", '{"a": ' + "[" * 9_000 + "]" * 9_000 + "}", Identity()),
        ("x-portkey-metadata", '{"a!": "1", "b": "\\u0007"}', Identity(tags={"b": "\ufffd"})),
        ("x-litellm-tags", "t" * 200, Identity(tags={"t" * 64: "true"})),
    ],
)
def test_a_malformed_alias_is_cleaned_or_left_out(name: str, value: str, expected: Identity) -> None:
    assert identify([(name, value)], "", NOTHING) == expected


def test_repeated_and_too_many_aliases_are_no_error_and_our_tags_stay() -> None:
    assert identify([("Helicone-Property-a", "1"), ("Helicone-Property-a", "2")], "", NOTHING).tags == {"a": "1"}
    crowd = [("x-litellm-tags", ",".join(f"t{number}" for number in range(100))), ("x-potstill-tag-team", "search")]
    found = identify(crowd, "", NOTHING).tags
    assert len(found) == 64
    assert found["team"] == "search"


def test_a_malformed_task_in_the_path_is_refused() -> None:
    with pytest.raises(BadTagError, match="path prefix"):
        identify([], "no spaces", NOTHING)


def test_the_same_tag_with_two_values_is_refused() -> None:
    with pytest.raises(BadTagError, match="given twice"):
        identify([("x-potstill-user", "a"), ("x-potstill-user", "b")], "", NOTHING)
    with pytest.raises(BadTagError, match="given twice"):
        identify([("x-potstill-tag-a", "a"), ("x-potstill-tag-a", "b")], "", NOTHING)


def test_too_many_tags_are_refused() -> None:
    with pytest.raises(BadTagError, match="at most 64"):
        identify([(f"x-potstill-tag-t{number}", "v") for number in range(65)], "", NOTHING)


def test_an_empty_tag_counts_as_absent() -> None:
    assert identify([("x-potstill-user", " "), ("x-potstill-tag-a", "")], "", peek(b'{"user": "u"}')).user == "u"


UUID = "57a121ec-f78c-48c3-a745-e3036a3ecc33"


@pytest.mark.parametrize(
    ("user_id", "user"),
    [
        (f"user_{'a1' * 32}_account_{UUID[::-1]}_session_{UUID}", UUID[::-1]),
        (f"user_{'a1' * 32}_account__session_{UUID}", f"user_{'a1' * 32}"),
        (json.dumps({"device_id": "d1", "account_uuid": "", "session_id": UUID}), "d1"),
        (json.dumps({"device_id": "d1", "account_uuid": "acc", "session_id": UUID}), "acc"),
    ],
)
def test_the_session_of_claude_code_is_its_unit(user_id: str, user: str) -> None:
    body = peek(json.dumps({"metadata": {"user_id": user_id}}).encode())
    found = identify([], "", body)
    assert (found.user, found.session, found.units, found.tags) == (user, UUID, {"session": UUID}, {})
    header = identify([("X-Claude-Code-Session-Id", "newer"), ("x-claude-code-agent-id", "a1")], "", body)
    assert (header.user, header.units, header.tags) == (user, {"session": "newer"}, {"agent": "a1"})
    assert identify([("x-potstill-user", "ann")], "", body).unit == ("ann", "user")


def test_the_session_of_codex_is_its_unit() -> None:
    body = peek(json.dumps({"prompt_cache_key": UUID, "store": False}).encode())
    assert identify([], "", body).units == {"session": UUID}
    assert identify([("originator", "codex_cli_rs"), ("session_id", "newer")], "", body).units == {"session": "newer"}


def test_a_cache_key_of_a_whole_app_is_a_tag() -> None:
    found = identify([], "", peek(b'{"prompt_cache_key": "support-bot-v2"}'))
    assert (found.session, found.tags) == ("", {"prompt_cache_key": "support-bot-v2"})


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        ({"litellm_session_id": "s"}, "session", "s"),
        ({"metadata": {"session_id": "s", "a": "b"}}, "session", "s"),
        ({"metadata": {"langfuse_session_id": "s", "a": "b"}}, "session", "s"),
        ({"litellm_metadata": {"session_id": "s"}}, "session", "s"),
        ({"metadata": {"langfuse_user_id": "u"}}, "user", "u"),
        ({"metadata": {"langfuse_user_id": "v"}, "user": "u"}, "user", "u"),
        ({"metadata": {"prompt_id": "sort tickets"}}, "task", "sort-tickets"),
        ({"tags": ["batch", 3, "Night Run"]}, "tags", {"batch": "true", "night-run": "true"}),
        ({"metadata": {"tags": ["batch"], "a": "b"}}, "tags", {"a": "b", "batch": "true"}),
        ({"litellm_metadata": {"tags": ["batch"]}}, "tags", {"batch": "true"}),
        ({"metadata": {"gen_ai.conversation.id": "c"}}, "units", {"conversation": "c"}),
        ({"user": '{"session_id": 3}'}, "units", {"session": "3"}),
        ({"user": "{oops"}, "user", "{oops"),
        ({"user": "user_1"}, "units", {"user": "user_1"}),
        ({"tags": "batch", "metadata": [], "litellm_metadata": 3, "prompt_cache_key": 4}, "tags", {}),
    ],
)
def test_a_body_says_what_other_products_write_into_it(body: dict[str, object], field: str, expected: object) -> None:
    assert getattr(identify([], "", peek(json.dumps(body).encode())), field) == expected


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}", ""),
        ("x", ""),
    ],
)
def test_a_valid_traceparent_names_the_trace_and_an_invalid_one_is_passed_over(value: str, expected: str) -> None:
    assert identify([("traceparent", value)], "", NOTHING).trace_id == expected


HEADER_NAMES = st.sampled_from(
    ["x-potstill-task", "x-potstill-user", "x-potstill-tag-a", "x-portkey-metadata", "x-litellm-tags", "baggage"]
)


@given(st.lists(st.tuples(HEADER_NAMES, st.text(max_size=40)), max_size=4), st.text(max_size=200))
def test_any_headers_and_any_body_give_text_that_can_be_kept_or_a_reason(headers: list[tuple[str, str]], user: str) -> None:
    try:
        found = identify(headers, "", Peek(user=user, metadata={"k": user}, session=user, cache_key=user, labels=(user,)))
    except BadTagError as error:
        assert str(error)
        return
    for value in (found.task, found.user, *found.tags.values(), *found.units.values()):
        assert len(value.encode()) < 4_000
        assert not any(ord(letter) < 32 for letter in value)
