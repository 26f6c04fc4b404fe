from __future__ import annotations

from capture.messages import Message
from curate.examples import ANSWER, EDIT, RELABEL
from curate.provenance import settle_provenance, terms_figures
from curate.selection import Candidate
from curate.settings import CurateSettings


def candidate(
    number: int, target: str = "a", source: str = ANSWER, model: str = "gpt-4o", question: str = "", tag: str = ""
) -> Candidate:
    messages = (Message("user", question or str(number)),)
    id = f"ex_{number}"
    return Candidate(id, number, "openai", model, "", "", messages, target, "b2:0", {}, False, target_source=source, terms=tag)


def test_a_target_comes_under_the_terms_of_whoever_gave_it_and_not_of_who_answered_first() -> None:
    rows = [
        candidate(1), candidate(2, source=RELABEL), candidate(3, source=EDIT), candidate(4, model="deepseek-chat"),
        candidate(5, model="import:us", tag="CC-BY-4.0"),
    ]  # fmt: skip
    found = settle_provenance(rows, {"ex_2": "deepseek-chat"}, CurateSettings())
    assert [(each.teacher_model, each.terms) for each in found.kept] == [
        ("gpt-4o", "restricted: OpenAI"), ("deepseek-chat", "allowed: DeepSeek"), ("gpt-4o", "allowed: a person"),
        ("deepseek-chat", "allowed: DeepSeek"), ("import:us", "allowed: CC-BY-4.0"),
    ]  # fmt: skip
    assert found.dropped == ()


def test_the_very_same_input_takes_the_teacher_and_the_terms_with_the_better_target() -> None:
    rows = [candidate(1, "old", question="same", tag="forbidden: x"), candidate(2, "new", RELABEL, question="same")]
    found = settle_provenance(rows, {"ex_2": "deepseek-chat"}, CurateSettings())
    assert [(each.target, each.teacher_model, each.terms) for each in found.kept] == [
        ("new", "deepseek-chat", "allowed: DeepSeek")
    ] * 2  # fmt: skip


def test_what_its_terms_drop_is_named_and_stays_where_it_is_forced() -> None:
    rows = [candidate(1), candidate(2, model="deepseek-chat")]
    strict = CurateSettings(terms="drop")
    found = settle_provenance(rows, {}, strict)
    assert (found.dropped, [each.exchange_id for each in found.kept]) == (("ex_1",), ["ex_2"])
    forced = settle_provenance(rows, {}, strict, "counsel agreed")
    assert [each.terms for each in forced.kept] == ["forced: counsel agreed (restricted: OpenAI)", "allowed: DeepSeek"]
    figures = terms_figures(forced.kept, forced, strict, "counsel agreed")
    assert figures["forced"] == {"rows": 1, "reason": "counsel agreed"}
    assert figures["verdicts"] == {"allowed": 1, "restricted": 1}
    assert terms_figures(found.kept, found, strict)["verdicts"] == {"allowed": 1}
