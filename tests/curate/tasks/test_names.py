"""Untagged traffic of a template gets a task, at once and later, and loses it again."""

from __future__ import annotations

import pytest

from capture import feed
from capture.errors import NotFoundError, SettingsError
from capture.filters import parse_filter
from curate.tasks.aliases import add_alias
from curate.tasks.names import Named, apply_names, name_task, rules, unname_task
from curate.tasks.untagged import suggest_tasks
from tests.curate.sending import Sent, Traffic

OPENING = "You are the agent of the shop who reads what customers write. Be brief and never promise anything to anybody."
TRIAGE = f"{OPENING}\nToday is {{day}}, the customer is {{name}}.\nChoose one of the three queues and reply in JSON."
LETTER = f"{OPENING}\nWrite a polite letter of at most two paragraphs that answers all questions, and sign it with our name."
DAYS, NAMES = ("Monday", "Friday", "Sunday"), ("Anna Meyer", "Bert Novak", "Carla Rossi", "Dirk Dubois", "Eva Larsen")


def triage(first: int, count: int) -> list[Sent]:
    systems = [TRIAGE.format(day=DAYS[n % 3], name=NAMES[n % 5]) for n in range(first, first + count)]
    return [Sent(f"where is my parcel {n}, {NAMES[n % 4]}", "parcel", task="", system=system) for n, system in enumerate(systems)]


def letters(count: int) -> list[Sent]:
    return [Sent(f"question {n} about {NAMES[n % 4]}", "Dear", task="", system=LETTER) for n in range(count)]


def by_opening(traffic: Traffic) -> dict[str, str]:
    found = suggest_tasks(traffic.database, newest=1_000, least=3)
    return {each.name: each.fingerprint for each in found.suggestions}


def tasks(traffic: Traffic) -> dict[str, int]:
    return {summary.task: summary.exchanges for summary in feed.tasks(traffic.database)}


def test_a_template_gets_a_task_what_comes_later_too_and_all_of_it_is_undone(both_traffic: Traffic) -> None:
    traffic = both_traffic
    traffic.send([*triage(0, 9), *letters(6), Sent("by hand", "x", task="triage")])
    names = by_opening(traffic)
    assert len(names) == 2
    (first, second) = names.values()  # the larger group comes first
    unseen = feed.revision(traffic.database)
    assert name_task(traffic.database, first, "triage", who="ada") == Named(15, {"triage": 9})
    assert feed.revision(traffic.database) != unseen
    assert tasks(traffic) == {"": 6, "triage": 10}
    assert [(rule.task, rule.who) for rule in rules(traffic.database)] == [("triage", "ada")]
    assert apply_names(traffic.database) == Named(0, {})  # nothing is looked at twice

    traffic.send([*triage(20, 1), *letters(1)])  # one is no group, but its template is known
    assert apply_names(traffic.database) == Named(2, {"triage": 1})
    assert name_task(traffic.database, second, "letters").given == {"letters": 7}
    assert tasks(traffic) == {"letters": 7, "triage": 11}

    assert unname_task(traffic.database, first) == ("triage", 10)
    assert tasks(traffic) == {"": 10, "letters": 7, "triage": 1}
    assert feed.count(traffic.database, parse_filter("tag.@named:*")) == 7
    with pytest.raises(NotFoundError, match="No name was given"):
        unname_task(traffic.database, first)


def test_a_longer_prompt_with_the_same_beginning_does_not_get_the_name(traffic: Traffic) -> None:
    traffic.send([Sent(f"n {n} {NAMES[n % 5]}", "x", task="", system=OPENING) for n in range(5)])
    (fingerprint,) = by_opening(traffic).values()
    name_task(traffic.database, fingerprint, "reading")
    traffic.send([Sent("once", "x", task="", system=f"{LETTER} {TRIAGE}"), Sent("again", "x", task="", system=OPENING)])
    assert apply_names(traffic.database) == Named(2, {"reading": 1})


def test_a_sentence_that_was_added_does_not_lose_the_name(traffic: Traffic) -> None:
    traffic.send(letters(5))
    (fingerprint,) = by_opening(traffic).values()
    name_task(traffic.database, fingerprint, "letters")
    traffic.send([Sent("once", "x", task="", system=f"{LETTER} Mention the opening hours.")])
    assert apply_names(traffic.database).given == {"letters": 1}


def test_a_damaged_exchange_keeps_no_other_from_its_name(traffic: Traffic) -> None:
    traffic.send(letters(5))
    (fingerprint,) = by_opening(traffic).values()
    name_task(traffic.database, fingerprint, "letters")
    ids = traffic.send([Sent(f"once {n}", "x", task="", system=LETTER) for n in range(2)])
    traffic.damage(ids[0])
    assert apply_names(traffic.database).given == {"letters": 1}


def test_what_cannot_be_named_is_refused_with_what_to_do(traffic: Traffic) -> None:
    traffic.send(letters(5))
    (fingerprint,) = by_opening(traffic).values()
    add_alias(traffic.database, "whole", "part")
    for mark, task, said in (
        (fingerprint, ".hidden", "cannot be the name"),
        (fingerprint, "a b", "cannot be the name"),
        (fingerprint, "part", "another name of task 'whole'"),
    ):
        with pytest.raises(SettingsError, match=said):
            name_task(traffic.database, mark, task)
    with pytest.raises(NotFoundError, match="No untagged traffic has the template 'feed'"):
        name_task(traffic.database, "feed", "letters")
    name_task(traffic.database, fingerprint, "letters")
    assert name_task(traffic.database, fingerprint, "letters") == Named(0, {})
    with pytest.raises(SettingsError, match="belongs to task 'letters' already"):
        name_task(traffic.database, fingerprint, "other")
