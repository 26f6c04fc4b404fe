"""A task's template is kept while it explains the inputs, shown with what varies, and forgets what was erased."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from capture.database import Database
from capture.errors import NotFoundError, StoreError
from capture.messages import Message
from curate.likeness.templates import MINED_SHARE, Asked, Stripper, Template, mine, read_input
from curate.tasks.aliases import add_alias
from curate.tasks.kept_templates import (
    compare,
    forget_templates,
    from_json,
    get_template,
    show_template,
    template_fingerprint,
    template_versions,
    to_json,
)
from tests.curate.keeping import settled
from tests.curate.sending import Sent, Traffic, mails

SYSTEM = "You sort mail. Choose one queue."
NEW_SYSTEM = "You sort mail. Choose one queue. Angry customers always go to the queue for escalation, whatever they write."
WORDS = [f"{a}{b}{c}" for a in ("tor", "ben", "kal", "mir") for b in "aeiou" for c in ("n", "rk", "lt", "s", "mp")]
FORM = "Ticket #{number} (mail, 9:{number})\nCustomer wrote: {text}\nReply with one word only, in English."


def inputs(first: int, count: int, system: str = SYSTEM) -> list[Asked]:
    return [read_input((Message("system", system), Message("user", form(n)))) for n in range(first, first + count)]


def form(number: int) -> str:
    return FORM.format(number=number, text=" ".join(random.Random(number).sample(WORDS, 7)))


def mined(asked: list[Asked]) -> Template:
    (template,) = mine(asked, [str(place) for place in range(len(asked))], MINED_SHARE)
    return template


def test_the_first_template_is_kept_and_used_again_while_it_explains_what_comes(database: Database) -> None:
    few, many = inputs(0, 40), inputs(0, 300)
    assert settled(database, "mail", mined(few), few, first_us=7) == (mined(few), 1, None)
    kept, number, change = settled(database, "mail", mined(many), many)
    assert (kept, number, change) == (mined(few), 1, None)
    (version,) = template_versions(database, "mail")
    assert (version.distinct_inputs, version.first_us, version.template) == (40, 7, mined(few))
    assert settled(database, "other", mined(few), few)[1] == 1


def test_a_prompt_that_was_changed_makes_a_version_and_the_old_one_comes_back_under_its_number(database: Database) -> None:
    old, new = inputs(0, 60), inputs(100, 60, NEW_SYSTEM)
    settled(database, "mail", mined(old), old)
    both = [*old, *new]
    template, number, change = settled(database, "mail", mined(both), both)
    assert number == 2
    assert template == mined(both)
    assert change is not None
    assert (change.before, change.after, change.removed) == (1, 2, ())
    assert change.added == (f"message (system): {NEW_SYSTEM}",)
    only_new = inputs(200, 60, NEW_SYSTEM)
    assert settled(database, "mail", mined(only_new), only_new)[1:] == (2, None)
    quiet = [read_input((Message("user", form(n).replace("Customer wrote", "They say")),)) for n in range(60)]
    assert settled(database, "mail", mined(quiet), quiet)[1] == 3
    assert settled(database, "mail", mined(both), both)[1] == 2
    assert [version.number for version in template_versions(database, "mail")] == [1, 2, 3]


def test_what_five_people_said_is_no_template_for_ever(database: Database) -> None:
    said = "where is the parcel that i was promised for today"
    few = [read_input((Message("user", f"{form(n)}\n{said}." if n < 5 else form(n)),)) for n in range(30)]
    many = [*few, *(read_input((Message("user", form(n)),)) for n in range(100, 500))]
    assert said in mined(few).segments
    assert settled(database, "mail", mined(few), few)[1] == 1
    template, number, change = settled(database, "mail", mined(many), many)
    assert (number, said in template.segments) == (2, False)
    assert change is not None
    assert f"segment: {said}" in change.removed
    assert settled(database, "mail", mined(many), many)[1:] == (2, None)


def test_versions_that_are_not_there_are_named(database: Database) -> None:
    with pytest.raises(NotFoundError, match="has no template yet"):
        get_template(database, "mail")
    settled(database, "mail", mined(inputs(0, 9)), inputs(0, 9))
    assert get_template(database, "mail").number == get_template(database, "mail", 1).number == 1
    with pytest.raises(NotFoundError, match="no version 2") as unknown:
        get_template(database, "mail", 2)
    assert "Versions: 1" in unknown.value.next_step


PIECES = st.dictionaries(st.text(max_size=12), st.integers(1, 9), max_size=4)


@given(PIECES, st.dictionaries(st.text(max_size=5), st.frozensets(st.text(max_size=5), min_size=1), max_size=3), PIECES, PIECES)
def test_any_template_survives_json(
    context: dict[str, int], frames: dict[str, frozenset[str]], one: dict[str, int], two: dict[str, int]
) -> None:
    template = Template(9, 2, context, frames, one, two)
    assert from_json(to_json(template)) == template
    counted = Template(99, 5, dict.fromkeys(context, 77), frames, one, two)
    assert template_fingerprint(counted) == template_fingerprint(template)
    assert not compare(template, counted).added


@pytest.mark.parametrize("given", ["", "[]", "{}", '{"context": 3}', '{"distinct": "x", "context": {}}'])
def test_what_is_no_template_is_refused(given: str) -> None:
    with pytest.raises(StoreError, match="no template"):
        from_json(given)


def test_a_prompt_is_shown_as_what_the_app_wrote_and_marks_for_what_varies(traffic: Traffic) -> None:
    asked = inputs(0, 60)
    settled(traffic.database, "mail", mined(asked), asked)
    version = get_template(traffic.database, "mail")
    assert show_template(traffic.database, version) == []
    traffic.send([Sent(form(77), "x", system=SYSTEM)])
    spans = show_template(traffic.database, version)
    assert "".join(span.text for span in spans) == (
        f"{SYSTEM}Ticket {{variable}} (mail, {{variable}}\nCustomer wrote: {{variable}}\nReply with one word only, in English."
    )
    assert {span.text.strip() for span in spans if not span.is_app} == {"{variable}"}


def test_a_damaged_prompt_is_passed_over_for_the_one_before(traffic: Traffic) -> None:
    asked = inputs(0, 20)
    settled(traffic.database, "mail", mined(asked), asked)
    traffic.send([Sent(form(n), "x", system=SYSTEM) for n in range(2)])
    traffic.damage(traffic.ids[-1])
    assert show_template(traffic.database, get_template(traffic.database, "mail"))[0].text == SYSTEM


def test_a_template_whose_personal_data_was_taken_out_still_knows_the_apps_words(traffic: Traffic) -> None:
    asked = inputs(0, 20, "Sort the mail that was sent to <EMAIL_1> into one queue.")
    settled(traffic.database, "mail", mined(asked), asked)
    traffic.send([Sent(form(77), "x", system="Sort the mail that was sent to ada@example.com into one queue.")])
    first, *_ = show_template(traffic.database, get_template(traffic.database, "mail"))
    assert (first.text, first.is_app) == ("Sort the mail that was sent to <EMAIL_1> into one queue.", True)


def test_marks_agree_with_what_is_compared() -> None:
    asked = inputs(0, 60)
    stripper = Stripper(mined(asked))
    for one in asked[:10]:
        varying = "".join(span.text for span in stripper.marks(one) if not span.is_app)
        assert set(stripper.variable_part(one).split()) <= set(varying.split())


def test_a_template_forgets_what_only_the_erased_said(traffic: Traffic) -> None:
    others = [f"{mail.question}\nKind regards" for mail in mails(20)]
    erased = [f"my number is zero one two three {mail.question}" for mail in mails(6, 50)]
    traffic.send([Sent(question, "x") for question in (*others, *erased)])
    add_alias(traffic.database, "whole", "mail")
    asked = [read_input((Message("system", SYSTEM), Message("user", question))) for question in (*others, *erased)]
    settled(traffic.database, "whole", mined(asked), asked)
    before = to_json(get_template(traffic.database, "whole").template)
    assert "zero one two three" in before
    stages: list[str] = []
    gone = forget_templates(traffic.database, traffic.ids[20:], lambda stage, done, total: stages.append(stage))
    after = get_template(traffic.database, "whole")
    assert gone == 4
    assert after.template.phrases == {}
    assert "kind regards" in to_json(after.template)
    assert after.fingerprint == template_fingerprint(after.template)
    assert json.loads(before)["segments"] == dict(after.template.segments)
    assert stages == ["forget templates"]
    assert forget_templates(traffic.database, traffic.ids[20:], lambda *_: None) == 0


def test_to_forget_reads_what_is_forgotten_and_its_tasks_once(traffic: Traffic) -> None:
    asked = inputs(0, 20)
    traffic.send([Sent(form(n), "x", task=task) for task in ("mail", "other", "bare") for n in range(20)])
    for task in ("mail", "other"):
        settled(traffic.database, task, mined(asked), asked)
    second = inputs(0, 20, NEW_SYSTEM)
    assert settled(traffic.database, "mail", mined(second), second)[1] == 2
    read: list[int] = []

    def note(_connection: object, _cursor: object, statement: str, given: Sequence[int] | Mapping[str, int], *_: object) -> None:
        numbers = given.values() if isinstance(given, Mapping) else given
        read.extend(numbers if "FROM contents" in statement else ())

    event.listen(traffic.database.engine, "before_cursor_execute", note)
    assert forget_templates(traffic.database, traffic.ids[50:], lambda *_: None) == 0
    assert len(read) == 10
    read.clear()
    stages: list[int] = []
    assert forget_templates(traffic.database, traffic.ids[:2], lambda stage, done, total: stages.append(total)) == 0
    assert sorted(read) == [*range(1, 21)] and stages == [1]


def test_a_damaged_exchange_is_forgotten_with_all_that_nobody_else_says(traffic: Traffic) -> None:
    asked = inputs(0, 20)
    traffic.send([Sent(form(n), "x", system=SYSTEM) for n in range(20)])
    settled(traffic.database, "mail", mined([*asked, *inputs(90, 9, "Only she was told so.")]), asked)
    assert "only she was told" in to_json(get_template(traffic.database, "mail").template).lower()
    with traffic.database.write() as connection:
        connection.execute(text("UPDATE contents SET zstd = :bytes WHERE number IN (1, 20)"), {"bytes": b"\0\xffdamaged"})
    assert forget_templates(traffic.database, traffic.ids[19:], lambda *_: None) > 0
    after = to_json(get_template(traffic.database, "mail").template)
    assert "only she was told" not in after.lower() and SYSTEM in after
