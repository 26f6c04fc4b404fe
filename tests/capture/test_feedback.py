"""Feedback in the store: once each, the newest counts, found by exchange and by session, with no secret in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture import feed, feedback, ids, records
from capture.capture_settings import MASK
from capture.database import Database
from capture.demonstrations import make_demonstration, write_message
from capture.feedback import BY_COMMAND, Added, Figures
from capture.feedback_forms import KINDS, make_feedback
from capture.filters import parse_filter
from capture.messages import Message, ToolCall
from capture.pricing import PriceSettings, load_price_table
from capture.pseudonyms import PersonalPolicy
from capture.records import OMIT, Note
from capture.spool_reader import SpooledNote
from capture.writer import StoreWriter
from tests.capture.conftest import Relay

KEY = "sk-ant-" + "a1" * 10
ALL = parse_filter("")


@pytest.fixture
def drain(database: Database, spool_root: Path, relay: Relay) -> Iterator[Callable[[], int]]:
    """Moves everything that `relay` spooled into the store."""
    writer = StoreWriter(database, spool_root, load_price_table(PriceSettings()))
    yield writer.drain
    writer.close()


def say(database: Database, **fields: Any) -> int:
    """Adds one feedback from the fields of its JSON form; how many rows were new."""
    return feedback.add(database, make_feedback(fields, source=BY_COMMAND).notes).new


def spool(relay: Relay, **fields: Any) -> None:
    for note in make_feedback(fields, source="api").notes:
        assert relay.spool.note(ids.new_raw_id(), note)


def test_notes_of_a_spool_are_stored_once_even_when_the_spool_is_read_again(
    database: Database, relay: Relay, drain: Callable[[], int], spool_root: Path
) -> None:
    spool(relay, session="s", id="f1", value=True, comment="fine")
    drain()
    again = StoreReader(spool_root)
    assert again.insert(database) == 0
    assert [(each.id, each.kind) for each in feedback.of_session(database, "s")] == [("f1", "boolean"), ("f1#comment", "comment")]


class StoreReader:
    """Reads a spool from its first record, as after a crash between commit and removal."""

    def __init__(self, root: Path) -> None:
        from capture.spool_reader import SpoolReader

        self.notes = SpoolReader(next(root.glob("sp_*")), None).read(100).notes
        assert self.notes

    def insert(self, database: Database) -> int:
        with database.write() as connection:
            return feedback.insert(connection, feedback.rows(self.notes)).new


def test_the_first_with_an_id_wins(database: Database) -> None:
    assert [say(database, session="s", id="f1", value=value) for value in (0.2, 0.9)] == [1, 0]
    assert [each.value for each in feedback.page(database, ALL)] == [0.2]


def test_feedback_waits_for_its_exchange_and_finds_it(database: Database, relay: Relay, drain: Callable[[], int]) -> None:
    exchange_id = relay.exchange(session_name="s1")
    say(database, exchange_id=exchange_id, value=True)
    say(database, session="s1", value=0.5, name="mood")
    say(database, exchange_id="ex_nobody", value=False)
    assert (feedback.unmatched(database), feedback.summary(database, ALL)) == (3, [])
    drain()
    assert [each.name for each in feedback.of_exchange(database, exchange_id)] == ["feedback", "mood"]
    assert feedback.unmatched(database) == 1
    assert [(each.name, each.total.n, each.total.mean) for each in feedback.summary(database, ALL)] == [
        ("feedback", 1, 1.0),
        ("mood", 1, 0.5),
    ]


def test_the_newest_of_a_person_on_a_thing_counts_and_all_are_shown(
    database: Database, relay: Relay, drain: Callable[[], int]
) -> None:
    exchange_id = relay.exchange()
    drain()
    for value, who in ((False, "ana"), (True, "ana"), (False, "bo")):
        say(database, exchange_id=exchange_id, value=value, user=who)
    say(database, exchange_id=exchange_id, value=False, user="ana", timestamp="2020-01-01T00:00:00Z")
    say(database, exchange_id=exchange_id, comment="ana said more", user="ana")
    told = {each.kind: each.total for each in feedback.summary(database, ALL)}
    assert told == {"boolean": Figures(2, 0.5), "comment": Figures(1)}
    assert len(feedback.of_exchange(database, exchange_id)) == 5


def test_figures_are_told_by_variant_at_the_exchange(database: Database, relay: Relay, drain: Callable[[], int]) -> None:
    sides = {
        variant: [relay.exchange(variant=variant, session_name=f"s-{variant}", unit=f"u{n}", flag_revision=7) for n in range(4)]
        for variant in ("baseline", "candidate")
    }
    other = relay.exchange(task="other")
    drain()
    for place, exchange_id in enumerate(sides["baseline"]):
        say(database, exchange_id=exchange_id, name="solved", value=place < 1)
    for place, exchange_id in enumerate(sides["candidate"]):
        say(database, exchange_id=exchange_id, name="solved", value=place < 3)
        say(database, exchange_id=exchange_id, name="tone", value="warm" if place else "cold")
    say(database, session="s-candidate", name="score", value=2)
    say(database, exchange_id=other, name="solved", value=True)
    found = {each.name: each for each in feedback.summary(database, parse_filter("task:parcels"))}
    assert (found["solved"].baseline, found["solved"].candidate) == (Figures(4, 0.25), Figures(4, 0.75))
    assert found["solved"].total == Figures(8, 0.5)
    assert found["tone"].candidate == Figures(4, None, {"cold": 1, "warm": 3})
    assert (found["score"].candidate, found["score"].baseline) == (Figures(4, 2.0), Figures())
    assert feedback.summary(database, ALL)[1].total.n == 9
    scores = feedback.scores(database, "parcels", [7, 8])
    assert len(scores) == 12
    assert {score.unit for score in scores} == {"u0", "u1", "u2", "u3"}
    assert {score.name for score in scores} == {"score", "solved"}
    assert feedback.scores(database, "parcels", [8]) == feedback.scores(database, "other", [7]) == []


def test_pages_go_from_the_newest_back_and_obey_a_filter(database: Database, relay: Relay, drain: Callable[[], int]) -> None:
    mine, other = relay.exchange(task="mine", session_name="s"), relay.exchange(task="other")
    drain()
    for number in range(5):
        say(database, exchange_id=mine if number % 2 else other, value=number)
    say(database, session="s", value=5)
    say(database, exchange_id="ex_nobody", value=6)
    assert [each.value for each in feedback.page(database, ALL, limit=3)] == [6, 5, 4]
    third = feedback.page(database, ALL, limit=3)[-1]
    assert [each.value for each in feedback.page(database, ALL, before=third.number)] == [3, 2, 1, 0]
    assert [each.value for each in feedback.page(database, parse_filter("task:mine"))] == [5, 3, 1]
    assert feedback.page(database, parse_filter("task:nobody")) == []
    assert [each.value for each in feedback.page(database, parse_filter("has:feedback -task:other"))] == [5, 3, 1]


def test_demonstrations_are_offered_by_exchange_the_newest_first(database: Database) -> None:
    call = {"function": {"name": "route", "arguments": '{"queue": "billing"}'}}
    say(database, exchange_id="ex_1", demonstration="urgent")
    say(database, exchange_id="ex_1", demonstration={"tool_calls": [call]})
    say(database, exchange_id="ex_2", value=True)
    say(database, session="s", demonstration="of no single answer")
    asked = ["ex_0", "ex_1", "ex_2", *(f"ex_x{number}" for number in range(1_200))]
    wanted = Message("assistant", "", (ToolCall("route", '{"queue": "billing"}'),))
    assert feedback.demonstrations(database, asked) == {"ex_1": wanted}


def test_no_secret_and_nothing_that_a_store_refuses_gets_in(database: Database) -> None:
    call = {"function": {"name": "f", "arguments": {"key": KEY}}}
    split = {"content": "-----BEGIN PRIVATE KEY-----", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "-----END PRIVATE KEY-----"}'}}]}  # fmt: skip # noqa: E501
    say(
        database,
        exchange_id="ex_1",
        comment=f"\0 {KEY} ' OR 1=1; \u202e",
        name="Robert'); DROP TABLE feedback;--",
        tags={"k": KEY},
    )
    say(database, exchange_id="ex_2", demonstration={"content": f"use {KEY}", "tool_calls": [call]})
    say(database, exchange_id="ex_3", demonstration=split)
    say(database, exchange_id="ex_4", value=KEY)
    stored = {each.exchange_id: each for each in feedback.page(database, ALL)}
    assert len(stored) == 4
    assert KEY not in repr(stored)
    assert stored["ex_1"].text == "\ufffd [redacted:anthropic-key] ' OR 1=1; \u202e"
    found = feedback.demonstrations(database, ["ex_2", "ex_3"])
    assert found["ex_2"].tool_calls[0].arguments == '{"key":"[redacted:anthropic-key]"}'
    assert found["ex_3"].text == "-----BEGIN PRIVATE KEY-----", "one text never runs into the next"


def test_personal_data_in_what_was_said_is_masked_where_that_is_wanted(database: Database) -> None:
    note = Note("comment", "n", None, "ask ana@example.org", "ex_1", "", "f1", "u1", tags={"to": "bo@example.org"})
    answer = Note("demonstration", "n", None, write_message(Message("assistant", "write to cy@example.org")), "ex_1", "", "f2")
    masking = PersonalPolicy(MASK)
    assert feedback.add(database, [note], masking).new == 1
    assert [each.id for each in feedback.rows([SpooledNote("fb_1", answer)], masking)] == ["f2"]
    feedback.add(database, [answer], masking)
    stored = feedback.of_exchange(database, "ex_1")
    assert [feedback.words(each) for each in stored] == ["ask [email]", "write to [email]"]
    assert (stored[0].tags, stored[0].who) == ({"to": "[email]"}, "u1")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    said=st.lists(st.text(st.characters(codec=None), max_size=20), min_size=6, max_size=6),
    value=st.none() | st.floats(allow_nan=False),
)
def test_every_note_that_a_spool_can_hold_is_stored(database: Database, kind: str, said: list[str], value: float | None) -> None:
    id = ids.new_id("fb")
    text, name, exchange_id, session, who, tag = said
    note = records.decode(
        records.encode(Note(kind, name, value, text, exchange_id, session, id, who, 1, "api", {tag: tag})), Note
    )
    assert feedback.add(database, [note]).new == 1
    stored = feedback.page(database, ALL, limit=1)[0]
    assert (stored.id, stored.kind, stored.value) == (id, kind, value)
    assert feedback.words(stored) is not None
    assert feedback.add(database, [note]).new == 0


def test_a_note_of_another_kind_of_sender_is_stored_all_the_same(database: Database) -> None:
    odd = Note("demonstration", "n\ud800", None, "no JSON", "ex_1", "", "f1")
    assert feedback.add(database, [odd]).new == 1
    assert feedback.demonstrations(database, ["ex_1"]) == {"ex_1": Message("assistant", "no JSON")}
    assert feedback.words(feedback.page(database, ALL)[0]) == "no JSON"


def test_words_say_what_was_said(database: Database) -> None:
    answer = write_message(make_demonstration({"content": "So:", "tool_calls": [{"name": "f", "arguments": {}}]}))
    said = [
        ("boolean", 1.0, ""),
        ("boolean", 0.0, ""),
        ("float", 0.25, ""),
        ("category", None, "late"),
        ("demonstration", None, answer),
    ]
    feedback.add(database, [Note(kind, "n", value, text, "ex_1", "", str(at)) for at, (kind, value, text) in enumerate(said)])
    found = feedback.page(database, ALL)[::-1]
    assert [feedback.words(each) for each in found] == ["true", "false", "0.25", "late", "So:\n-> f({})"]


def test_the_store_says_that_it_has_changed(database: Database) -> None:
    before = feed.revision(database)
    say(database, session="s", value=1)
    assert feed.revision(database) != before


def say_much(database: Database, **about: str) -> None:
    """A value, a category, a comment and a demonstration."""
    say(database, **about, value=False, comment="Ms Doe was dismissed", demonstration="Dear Ms Doe")
    say(database, **about, name="why", value="rude")


def test_no_words_are_kept_on_an_exchange_without_content(database: Database, relay: Relay, drain: Callable[[], int]) -> None:
    quiet, other = relay.exchange(content=OMIT, session_name="q"), relay.exchange(session_name="o")
    drain()
    relay.exchange(content=OMIT)  # of no session
    drain()
    said = make_feedback({"exchange_id": quiet, "value": False, "comment": "c", "demonstration": "d"}, source=BY_COMMAND)
    assert feedback.add(database, said.notes) == Added(1, left_out=2)
    spool(relay, exchange_id=quiet, name="late", value=True, comment="by the app")
    for about in ({"session": "q"}, {"exchange_id": other}, {"session": "o"}):
        say_much(database, **about)
    drain()
    quiet_kinds = [each.kind for each in feedback.of_exchange(database, quiet)]
    assert sorted(quiet_kinds) == ["boolean", "boolean", "boolean", "category"], "values alone, its session's too"
    assert len(feedback.of_exchange(database, other)) == 8, "words on what is stored stay"


def test_words_that_came_before_an_exchange_without_content_go_when_it_comes(
    database: Database, relay: Relay, drain: Callable[[], int]
) -> None:
    quiet, other = relay.exchange(content=OMIT, session_name="q"), relay.exchange(session_name="o")
    for about in ({"exchange_id": quiet}, {"session": "q"}, {"exchange_id": other}, {"exchange_id": "ex_unknown"}):
        say_much(database, **about)
    spool(relay, exchange_id=quiet, name="early", comment="in the same batch")
    drain()
    assert {each.kind for each in feedback.of_exchange(database, quiet)} == {"boolean", "category"}
    assert len(feedback.of_exchange(database, other)) == 4
    assert len([each for each in feedback.page(database, ALL) if each.exchange_id == "ex_unknown"]) == 4
