"""Untagged traffic falls into the templates that the apps wrote, whatever was filled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.tasks.untagged import name_of, suggest_tasks
from tests.curate.sending import Sent, Traffic, mails

TRIAGE = "You are a support agent who sorts tickets of parcel {number} from {day}. Choose one queue and say nothing else at all."
SUMMARY = "Summarise the following article in three sentences, in the language in which it was written, without an opinion."


def test_traffic_without_a_task_is_grouped_by_what_the_app_wrote(both_traffic: Traffic) -> None:
    days = [f"2026-01-0{number}T10:00:00Z" for number in range(1, 8)]
    both_traffic.send([
        *(Sent(f"where is {n}", "billing", task="", system=TRIAGE.format(number=n, day=day)) for n, day in enumerate(days)),
        *(Sent(f"article {n}", "short", task="", system=SUMMARY) for n in range(5)),
        *(Sent(f"Translate into French: word {n}", "mot", task="", system="You are helpful.") for n in range(4)),
        *(Sent(f"tagged {n}", "x", task="mail", system=SUMMARY) for n in range(9)),
        *(Sent(f"evaluated {n}", "x", task="", purpose="eval", system=SUMMARY) for n in range(9)),
        Sent("alone", "x", task="", system="You write poems about the sea and about the moon above it."),
    ])  # fmt: skip
    found = suggest_tasks(both_traffic.database, newest=100, least=4)
    assert (found.looked_at, found.apart) == (17, 1)
    assert [(each.name, each.exchanges) for each in found.suggestions] == [
        ("support-agent-sorts", 7),
        ("summarise-article-three", 5),
        ("translate-into-french", 4),
    ]
    first = found.suggestions[0]
    assert first.opening.startswith("You are a support agent")
    assert first.example_id == both_traffic.ids[6]
    assert first.first_us < first.last_us
    assert len({each.fingerprint for each in found.suggestions}) == 3
    newest = suggest_tasks(both_traffic.database, newest=6, least=4)
    assert [(each.name, each.exchanges) for each in newest.suggestions] == [("translate-into-french", 4)]


def test_forms_under_one_system_prompt_are_named_after_the_form(traffic: Traffic) -> None:
    forms = (
        "Translate the sentence for our catalogue of garden tools into French",
        "Rate the review of a customer from one to five stars",
    )
    mail = mails(20)
    traffic.send([Sent(f"{forms[n % 2]}:\n{mail[n].question}", "x", task="", system=SUMMARY) for n in range(20)])
    found = suggest_tasks(traffic.database, newest=100, least=4)
    assert {each.name for each in found.suggestions} == {"translate-sentence-catalogue", "rate-review-customer"}


def test_damaged_exchanges_are_in_no_template(traffic: Traffic) -> None:
    ids = traffic.send([Sent(f"article {n}", "short", task="", system=SUMMARY) for n in range(6)])
    traffic.damage(ids[2])
    found = suggest_tasks(traffic.database, newest=100, least=4)
    assert (found.looked_at, [each.exchanges for each in found.suggestions]) == (5, [5])


def test_where_everything_has_a_task_nothing_is_suggested(traffic: Traffic) -> None:
    traffic.send([Sent("hi", "x")])
    assert suggest_tasks(traffic.database, newest=100, least=1).looked_at == 0


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("you", "are", "a", "helpful", "assistant"), ""),
        (("sort", "mail", "by", "queue", "and", "sender"), "sort-mail-queue"),
        (("übersetze", "0", "texte"), "bersetze-texte"),
        (("a" * 60, "b" * 60), "a" * 40),
    ],
)
def test_a_name_is_made_of_words_that_say_something(words: tuple[str, ...], name: str) -> None:
    assert name_of(words) == name


@given(st.lists(st.text(max_size=80), max_size=30))
def test_any_words_give_a_usable_name(words: list[str]) -> None:
    name = name_of(words)
    assert len(name) <= 40
    assert name.replace("-", "").isalnum() or name == ""
