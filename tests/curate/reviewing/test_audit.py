from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.database import Database
from capture.errors import NotFoundError
from capture.messages import Message, ToolCall
from capture.pseudonyms import PersonalPolicy
from curate.examples import Example
from curate.reviewing import audit
from curate.reviewing.audit import AuditError, AuditReport

IDS = [f"ex_{number:026d}" for number in range(400)]


def begin(database: Database, size: int = 100, **changes: object) -> audit.Audit:
    fields = {"version_hash": "sha256:1", "size": size, "who": "ann", **changes}
    return audit.start(database, "mail", 1, IDS, **fields)  # type: ignore[arg-type]


def find(database: Database, exchange_id: str, verdict: str, who: str = "ann", note: str = "") -> None:
    audit.judge(database, "mail", 1, exchange_id, verdict, who, note)


def latest(database: Database) -> AuditReport:
    found = audit.latest_audit(database, "mail", 1)
    assert found is not None
    return found


def examples() -> list[Example]:
    return [
        Example(
            exchange_id, exchange_id, "mail", (Message("user", "?"),), ("billing", "parcel")[number % 2],
            ("train", "train", "val", "test")[number % 4], f"k{number}", "t", "openai",
        )
        for number, exchange_id in enumerate(IDS)
    ]  # fmt: skip


def test_the_report_bounds_the_error_rate_of_the_whole_version(database: Database) -> None:
    drawn = begin(database).exchange_ids
    for number, exchange_id in enumerate(drawn):
        find(database, exchange_id, "wrong" if number < 3 else "right")
    found = latest(database)
    assert (found.overall.judged, found.overall.wrong, found.overall.rate, found.waiting) == (100, 3, 0.03, 0)
    assert (found.overall.low_count, found.overall.high_count) == (4, 31)
    assert found.sentence == (
        "3 of 100 judged examples are wrong: with 95% confidence between 1.0% and 7.8% of the 400 examples are."
    )


def test_before_the_first_finding_nothing_is_claimed(database: Database) -> None:
    assert audit.latest_audit(database, "mail", 1) is None
    begin(database)
    found = latest(database)
    assert (found.overall.rate, found.overall.low, found.overall.high, found.waiting) == (None, 0.0, 1.0, 100)
    assert found.sentence == "No example of 400 is judged yet."


def test_an_audit_goes_on_where_it_stopped_and_a_larger_one_keeps_what_was_found(database: Database) -> None:
    first = begin(database, size=20)
    for exchange_id in audit.next_up(database, "mail", 1, "ann", limit=15):
        find(database, exchange_id, "right")
    assert begin(database, size=20) == first
    assert audit.next_up(database, "mail", 1, "ann") == [first.exchange_ids[15]]
    larger = begin(database, size=60)
    assert larger.exchange_ids[:20] == first.exchange_ids
    assert (latest(database).overall.judged, latest(database).waiting) == (15, 45)


def test_another_seed_and_another_version_draw_other_samples(database: Database) -> None:
    first = begin(database)
    other = begin(database, seed=2)
    next_version = begin(database, version_hash="sha256:2")
    assert len({first.exchange_ids, other.exchange_ids, next_version.exchange_ids}) == 3
    assert latest(database).overall.judged == 0


def test_several_people_share_a_sample_the_majority_decides_and_an_even_split_is_wrong(database: Database) -> None:
    one, two, three = begin(database, size=3).exchange_ids
    find(database, one, "right", "ann")
    assert audit.next_up(database, "mail", 1, "bob", limit=9) == [two, three]
    assert audit.next_up(database, "mail", 1, "bob", limit=9, again=True) == [one, two, three]
    for exchange_id, who, verdict in ((one, "bob", "wrong"), (two, "ann", "wrong"), (two, "bob", "right"), (two, "cem", "right")):
        find(database, exchange_id, verdict, who)
    found = latest(database)
    assert (found.judges, found.overall.judged, found.overall.wrong, found.uneven) == (("ann", "bob", "cem"), 2, 1, 1)
    find(database, one, "right", "bob")
    assert (latest(database).overall.wrong, latest(database).uneven) == (0, 0)


def test_groups_have_a_figure_of_their_own_where_enough_was_judged(database: Database) -> None:
    drawn = begin(database, size=70).exchange_ids
    by_id = {example.exchange_id: example for example in examples()}
    for exchange_id in drawn:
        find(database, exchange_id, "wrong" if by_id[exchange_id].target == "parcel" else "right")
    found = audit.report(database, "mail", 1, examples())
    labels = {rate.group: rate for rate in found.by_label}
    assert (labels["billing"].rate, labels["parcel"].rate, labels["parcel"].population) == (0.0, 1.0, 200)
    assert labels["billing"].high < 0.15 < 0.85 < labels["parcel"].low
    assert {rate.group: rate.population for rate in found.by_split}["train"] == 200
    assert found.overall.judged == 70


def test_a_group_of_few_judged_examples_has_no_figure(database: Database) -> None:
    begin(database, size=30)
    for exchange_id in audit.next_up(database, "mail", 1, "ann", limit=30):
        find(database, exchange_id, "right")
    found = audit.report(database, "mail", 1, examples())
    assert "val" not in {rate.group for rate in found.by_split}


def test_calls_are_labelled_by_their_tools_and_free_text_has_no_labels(database: Database) -> None:
    begin(database, size=25)
    for exchange_id in audit.next_up(database, "mail", 1, "ann", limit=25):
        find(database, exchange_id, "right")
    calling = [replace(one, target="", calls=(ToolCall("look", "{}"),)) for one in examples()]
    assert [rate.group for rate in audit.report(database, "mail", 1, calling).by_label] == ["look"]
    free = [replace(one, target=f"words {one.id}") for one in examples()]
    assert audit.report(database, "mail", 1, free).by_label == ()


def test_what_cannot_be_is_refused_with_a_next_step(database: Database) -> None:
    with pytest.raises(NotFoundError, match="no audit") as error:
        audit.next_up(database, "mail", 1, "ann")
    assert "review audit start mail --version 1" in str(error.value)
    with pytest.raises(AuditError, match="A sample of 0"):
        begin(database, size=0)
    with pytest.raises(AuditError, match="no examples"):
        audit.start(database, "mail", 1, [], version_hash="x")
    drawn = begin(database, size=5).exchange_ids
    with pytest.raises(AuditError, match="right, wrong"):
        find(database, drawn[0], "accept")
    stranger = next(exchange_id for exchange_id in IDS if exchange_id not in drawn)
    with pytest.raises(NotFoundError, match="not in the sample"):
        find(database, stranger, "right")


def test_a_sample_of_more_than_there_is_takes_everything(database: Database) -> None:
    drawn = begin(database, size=1_000)
    assert (len(drawn.exchange_ids), drawn.population) == (400, 400)


def test_notes_keep_no_secret_and_no_personal_data_where_the_house_masks_them(database: Database) -> None:
    (exchange_id,) = begin(database, size=1).exchange_ids
    note = "ask ann@example.com, key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"
    made = audit.judge(database, "mail", 1, exchange_id, "wrong", "ann", note, PersonalPolicy("mask"))
    assert "example.com" not in made.note
    assert "abcdefghij" not in made.note


def test_every_example_is_drawn_equally_often_over_many_seeds() -> None:
    ids = IDS[:40]
    counts = Counter(exchange_id for seed in range(800) for exchange_id in audit.draw(ids, "v", 10, seed))
    assert set(counts) == set(ids)
    assert all(150 <= count <= 250 for count in counts.values())


@given(st.lists(st.sampled_from(IDS), unique=True), st.integers(1, 50), st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_draw_depends_on_what_there_is_not_on_its_order(ids: list[str], size: int, seed: int, shuffled: object) -> None:
    drawn = audit.draw(ids, "v", size, seed)
    again = list(ids)
    shuffled.shuffle(again)  # type: ignore[attr-defined]
    assert audit.draw(again, "v", size, seed) == drawn
    assert len(drawn) == len(set(drawn)) == min(size, len(ids))
    assert audit.draw(ids, "v", size + 1, seed)[:size] == drawn
