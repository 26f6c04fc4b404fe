"""Other names of tasks: one level, no circles, and every way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.database import Database, open_database
from capture.errors import NotFoundError, SettingsError
from curate.tasks.aliases import add_alias, aliases, canonical, expand, merge_tasks, remove_alias
from tests.curate.sending import Sent, Traffic


def test_an_alias_counts_as_its_task_until_it_is_taken_back(database: Database) -> None:
    add_alias(database, "triage", "triage-v2", who="ada")
    add_alias(database, "triage", "mail")
    add_alias(database, "triage", "mail")
    assert expand(database, "triage") == ("triage", "mail", "triage-v2")
    assert expand(database, "mail") == ("mail",)
    assert canonical(database, "mail") == "triage"
    assert aliases(database) == {"triage": ("mail", "triage-v2")}
    assert remove_alias(database, "mail") == "triage"
    assert expand(database, "triage") == ("triage", "triage-v2")
    with pytest.raises(NotFoundError, match="'mail' is no other name"):
        remove_alias(database, "mail")


@pytest.mark.parametrize(
    ("task", "alias", "said"),
    [
        ("a", "a", "of itself"),
        ("b", "a", "circle"),
        ("b", "c", "is itself another name of task 'a'"),
        ("c", "a", "has other names itself: b"),
        ("c", "b", "is another name of task 'a' already"),
        ("", "b", "without a name"),
        ("a", "", "without a name"),
    ],
)
def test_chains_circles_and_second_meanings_are_refused(traffic: Traffic, task: str, alias: str, said: str) -> None:
    add_alias(traffic.database, "a", "b")
    with pytest.raises(SettingsError, match=said) as refused:
        add_alias(traffic.database, task, alias)
    assert refused.value.next_step
    assert aliases(traffic.database) == {"a": ("b",)}


def test_only_tasks_with_traffic_can_be_merged(traffic: Traffic) -> None:
    traffic.send([Sent("one", "x", task="old"), Sent("two", "x", task="old"), Sent("three", "x", task="new")])
    with pytest.raises(NotFoundError, match="no task 'odl'") as unknown:
        merge_tasks(traffic.database, "odl", "new")
    assert "new, old" in unknown.value.next_step
    assert merge_tasks(traffic.database, "old", "new") == 2
    assert expand(traffic.database, "new") == ("new", "old")


NAMES = st.sampled_from("abcd")


@pytest.fixture(scope="module")
def one_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('aliases') / 'potstill.db'}")
    yield database
    database.close()


@settings(max_examples=20)
@given(steps=st.lists(st.tuples(st.booleans(), NAMES, NAMES), max_size=10))
def test_whatever_is_tried_every_tag_counts_as_exactly_one_task(
    one_database: Database, steps: list[tuple[bool, str, str]]
) -> None:
    for names in aliases(one_database).values():
        for name in names:
            remove_alias(one_database, name)
    for adds, task, alias in steps:
        with suppress(SettingsError, NotFoundError):
            add_alias(one_database, task, alias) if adds else remove_alias(one_database, alias)
    wholes = {name: canonical(one_database, name) for name in "abcd"}
    for name, whole in wholes.items():
        assert wholes[whole] == whole
        assert name in expand(one_database, whole)
    assert sorted(tag for whole in set(wholes.values()) for tag in expand(one_database, whole)) == list("abcd")
