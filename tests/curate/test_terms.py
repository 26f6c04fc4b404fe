from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.errors import SettingsError
from capture.settings import load_settings
from curate.settings import CurateSettings
from curate.terms import KNOWN, TERMS_VERDICTS, card_text, figures, goes, read_terms, row_terms, terms_of, warnings


@pytest.mark.parametrize(
    ("model", "upstream", "name", "verdict"),
    [
        ("gpt-4.1-mini-2025-04-14", "openai", "OpenAI", "restricted"),
        ("openai/gpt-4o", "openrouter", "OpenAI", "restricted"),
        ("gpt-oss-120b", "openai", "gpt-oss", "allowed"),
        ("us.anthropic.claude-sonnet-4", "bedrock", "Anthropic", "restricted"),
        ("models/gemini-2.5-pro", "google", "Google", "restricted"),
        ("mistral-large-latest", "mistral", "Mistral", "restricted"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "together", "Mistral, open weights", "allowed"),
        ("meta-llama/Llama-3.3-70B-Instruct", "together", "Llama", "allowed"),
        ("Meta-Llama-3-8B", "", "Llama", "restricted"),
        ("deepseek-reasoner", "", "DeepSeek", "allowed"),
        ("Qwen/Qwen3-32B", "", "Qwen", "unknown"),
        ("", "anthropic", "Anthropic", "restricted"),
        ("", "", "unknown teacher", "unknown"),
        ("house-model-7", "openai", "house-model-7", "unknown"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc", "openai", "OpenAI", "restricted"),
        ("openai/ft:gpt-4o:acme:x:1", "openrouter", "OpenAI", "restricted"),
        ("ft:davinci-002:acme::abc", "", "OpenAI", "restricted"),
        ("codex-mini-latest", "", "OpenAI", "restricted"),
        ("global.anthropic.claude-sonnet-4", "bedrock", "Anthropic", "restricted"),
    ],
)
def test_the_name_of_a_teacher_tells_whose_terms_hold(model: str, upstream: str, name: str, verdict: str) -> None:
    found = terms_of(model, upstream)
    assert (found.name, found.verdict) == (name, verdict)


def test_the_word_of_the_team_goes_before_what_is_known_and_before_any_tag() -> None:
    said = {"gpt-4.1*": "allowed: contract 2026-03", "claude*": "forbidden: legal said no"}
    assert terms_of("gpt-4.1-mini", "openai", {"terms": "forbidden"}, said).words == "allowed: contract 2026-03"
    assert terms_of("anthropic/claude-opus-4", teacher_terms=said).words == "forbidden: legal said no"
    assert terms_of("gpt-4o", teacher_terms=said).verdict == "restricted"


def test_a_tag_that_came_with_a_request_can_only_make_things_stricter() -> None:
    assert terms_of("gpt-4o", tags={"terms": "allowed: trust me"}).verdict == "restricted"
    assert terms_of("deepseek-chat", tags={"terms": "forbidden: client contract"}).words == "forbidden: client contract"


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("CC-BY-4.0", "allowed: CC-BY-4.0"),
        ("allowed: written by us", "allowed: written by us"),
        ("CC BY-NC 4.0", "unknown: CC BY-NC 4.0"),
        ("", "unknown: import"),
    ],
)
def test_an_import_comes_under_the_terms_that_were_given_with_it(tag: str, words: str) -> None:
    assert terms_of("import:banking77", tags={"terms": tag}).words == words


@pytest.mark.parametrize("source", ["edit", "demonstration"])
def test_what_a_person_wrote_is_theirs_whoever_answered_first(source: str) -> None:
    assert terms_of("gpt-4o", target_source=source).words == "allowed: a person"


def test_what_an_import_brought_as_the_better_answer_comes_under_the_terms_of_the_import() -> None:
    for source in ("demonstration", "import", "answer"):
        assert terms_of("import:us", tags={"terms": "CC-BY-4.0"}, target_source=source).words == "allowed: CC-BY-4.0"


def test_forbidden_rows_always_go_restricted_ones_by_policy_and_a_reason_keeps_both() -> None:
    forbidden, restricted, unknown = (read_terms(f"{verdict}: X", "") for verdict in ("forbidden", "restricted", "unknown"))
    assert [goes(terms, "warn") for terms in (forbidden, restricted, unknown)] == [True, False, False]
    assert [goes(terms, "drop") for terms in (forbidden, restricted, unknown)] == [True, True, False]
    assert row_terms(forbidden, "warn") is None
    assert row_terms(forbidden, "warn", "counsel\nagreed") == "forced: counsel agreed (forbidden: X)"
    assert row_terms(forbidden, "warn", "  ") is None, "a reason is a reason"
    assert row_terms(restricted, "warn", "counsel agreed") == "restricted: X", "nothing had to be forced"


def test_manifest_card_and_warnings_say_how_many_rows_came_under_which_terms() -> None:
    forbidden, restricted = read_terms("forbidden: X", "w"), read_terms("restricted: <b>|Y", "w")
    rows = [(forbidden, row_terms(forbidden, "warn", "why") or ""), (restricted, row_terms(restricted, "warn") or "")] * 2
    found = figures(rows, "warn", "why")
    assert found["verdicts"] == {"restricted": 2, "forbidden": 2}
    assert found["forced"] == {"rows": 2, "reason": "why"}
    assert json.loads(json.dumps(found)) == found
    assert figures(reversed(rows), "warn", "why") == found, "the order of rows is no difference"
    card = card_text(found)
    assert "no legal advice" in card
    assert "| restricted: &lt;b>\\|Y | 2 |" in card, "names from outside are no markup"
    assert len(warnings(found)) == 2


def test_a_warning_of_unknown_terms_shows_the_line_that_says_them() -> None:
    unknown = terms_of("import:intents")
    (told,) = warnings(figures([(unknown, unknown.words)], "warn"), "import:intents")
    assert told.endswith('[curate.teacher_terms] of potstill.toml: "import:intents" = "allowed: why"')


def test_rows_that_nobody_restricts_give_no_warning() -> None:
    allowed = terms_of("deepseek-chat")
    found = figures([(allowed, allowed.words)], "drop")
    assert warnings(found) == []
    assert "forced" not in found


def test_the_table_names_a_public_page_for_each_entry() -> None:
    assert all(each.url.startswith("https://") and each.verdict in TERMS_VERDICTS and each.models for each in KNOWN)


def test_the_terms_of_teachers_are_read_from_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text('[curate.teacher_terms]\n"gpt-*" = "allowed: contract 2026-03"\n', "utf-8")
    assert load_settings(path, environ={}).section("curate", CurateSettings).teacher_terms == {
        "gpt-*": "allowed: contract 2026-03"
    }
    path.write_text('[curate.teacher_terms]\n"gpt-*" = "fine"\n', "utf-8")
    with pytest.raises(SettingsError, match="does not begin with one of allowed"):
        load_settings(path, environ={}).section("curate", CurateSettings)


@given(st.text(), st.text(), st.text(), st.sampled_from(["warn", "drop"]))
def test_any_names_and_tags_give_one_verdict_on_one_line_of_the_card(model: str, upstream: str, tag: str, policy: str) -> None:
    found = terms_of(model, upstream, {"terms": tag})
    assert found.verdict in TERMS_VERDICTS
    assert goes(found, policy) == (row_terms(found, policy) is None)
    lines = card_text(figures([(found, found.words)], policy)).splitlines()
    assert sum(line.startswith("| ") for line in lines) == 2
