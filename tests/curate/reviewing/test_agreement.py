from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.reviewing.agreement import ALPHA, KAPPA, Agreement, agree
from curate.reviewing.review import UNDO, Review

KEPT = st.dictionaries(st.sampled_from(["ann", "bob", "cem", "dua"]), st.sampled_from(["accept", "edit"]), max_size=4)
REJECTED = st.dictionaries(st.sampled_from(["ann", "bob", "cem", "dua"]), st.just("reject"), max_size=4)
ALONE = ({"ann": "accept"}, {"bob": "reject"}, {"cem": "edit"})


def review(exchange: object, reviewer: str, verdict: str, target: str = "") -> Review:
    return Review("rv_1", "mail", f"ex_{exchange}", verdict, target, reviewer, "", 1)


def told(*rows: Mapping[str, str]) -> Agreement:
    """Agreement where each example was judged as one of `rows` says, everybody before anybody settled a dispute."""
    return agree("mail", [review(number, who, verdict) for number, row in enumerate(rows) for who, verdict in row.items()])


def both(first: str, second: str, count: int) -> list[Mapping[str, str]]:
    return [{"ann": first, "bob": second}] * count


def test_two_reviewers_have_the_kappa_of_the_textbook() -> None:
    found = told(
        *both("accept", "accept", 20), *both("accept", "reject", 5), *both("reject", "accept", 10), *both("reject", "reject", 15)
    )
    assert (found.examples_shared, found.percent) == (50, 0.7)
    assert found.overall.name == KAPPA
    assert found.overall.value == pytest.approx(0.4)
    assert found.overall == found.pairs[0].kappa
    assert found.overall.low is not None and found.overall.high is not None
    assert 0.1 < found.overall.low < 0.2 and 0.6 < found.overall.high < 0.7


def test_three_reviewers_with_gaps_have_krippendorffs_alpha_of_his_own_example() -> None:
    first, second = "0100000010", "1110010000"
    names = {"0": "reject", "1": "accept"}
    rows = [{"ann": names[a], "bob": names[b]} for a, b in zip(first, second, strict=True)]
    found = told(*rows, {"cem": "accept"})
    assert found.overall.name == ALPHA
    assert found.overall.value == pytest.approx(0.095, abs=5e-4)
    assert (found.examples, found.examples_shared, found.reviewers) == (11, 10, ("ann", "bob", "cem"))


@settings(deadline=None, max_examples=40)
@given(st.lists(KEPT | REJECTED, max_size=12))
def test_alpha_is_one_minus_the_disagreement_seen_over_that_of_shuffled_verdicts(rows: list[dict[str, str]]) -> None:
    judged = told(*rows, *ALONE)
    units = [list(row.values()) for row in rows if len(row) > 1]
    everything = [verdict for unit in units for verdict in unit]
    seen = sum(sum(a != b for a in unit for b in unit) / (len(unit) - 1) for unit in units)
    shuffled = sum(a != b for a in everything for b in everything)
    assert (judged.overall.name, judged.left_out) == (ALPHA, 0)
    if shuffled == 0:
        assert judged.overall.value is None
        assert judged.overall.reason
    else:
        assert judged.overall.value == pytest.approx(1 - seen * (len(everything) - 1) / shuffled)


def test_perfect_agreement_is_one_but_has_no_interval_and_says_so() -> None:
    found = told(*both("accept", "accept", 30), *both("reject", "reject", 10))
    assert found.overall.value == 1.0
    assert found.overall.low is None
    assert "nobody differed" in found.overall.reason
    assert found.pairs[0].percent_low == pytest.approx(0.912, abs=1e-3)


def test_where_everybody_accepts_everything_kappa_is_undefined_and_the_percentage_is_not() -> None:
    found = told(*both("accept", "accept", 25))
    assert (found.overall.value, found.percent) == (None, 1.0)
    assert "all verdicts on the 25 shared examples are the same" in found.overall.reason


@pytest.mark.parametrize("rows", [[], [{"ann": "accept"}], [{"ann": "accept"}, {"bob": "reject"}]])
def test_without_shared_examples_nothing_is_known(rows: list[dict[str, str]]) -> None:
    found = told(*rows)
    assert (found.overall.value, found.percent, found.examples_shared) == (None, None, 0)
    assert "--second-opinion" in found.overall.reason
    assert all(pair.percent is None for pair in found.pairs)


def test_few_shared_examples_give_a_figure_without_an_interval() -> None:
    found = told(*both("accept", "accept", 3), *both("accept", "reject", 1), *both("reject", "reject", 2))
    assert found.overall.value == pytest.approx(2 / 3)
    assert (found.overall.low, found.overall.high) == (None, None)
    assert "too few" in found.overall.reason


def test_an_opinion_that_settles_a_dispute_is_left_out() -> None:
    agreeing = [*both("accept", "accept", 8), *both("reject", "reject", 8)]
    disputed = [{"ann": "accept", "bob": "reject", "cem": "reject"}] * 4
    found = told(*agreeing, *disputed)
    assert found.left_out == 4
    assert found.reviewers == ("ann", "bob")
    assert found.percent == pytest.approx(16 / 20)


def test_skips_undone_and_superseded_verdicts_do_not_count() -> None:
    rows = [
        review(1, "ann", "accept"), review(1, "bob", "skip"),
        review(2, "ann", "accept"), review(2, "bob", "reject"), review(2, "bob", UNDO),
        review(3, "ann", "reject"), review(3, "bob", "accept"), review(3, "bob", "reject"),
    ]  # fmt: skip
    found = agree("mail", rows)
    assert (found.examples, found.examples_shared, found.percent) == (3, 1, 1.0)


def test_of_what_both_edited_it_is_told_how_often_they_wrote_the_same() -> None:
    rows = [
        review(1, "ann", "edit", "Billing "), review(1, "bob", "edit", "billing"),
        review(2, "ann", "edit", "parcel"), review(2, "bob", "edit", "billing"),
    ]  # fmt: skip
    (pair,) = agree("mail", rows).pairs
    assert (pair.shared, pair.same, pair.both_edited, pair.same_edits) == (2, 2, 2, 1)


def test_the_same_verdicts_give_the_same_interval() -> None:
    rows = [*both("accept", "accept", 30), *both("accept", "edit", 6), *both("reject", "reject", 9), *both("edit", "reject", 2)]
    assert told(*rows) == told(*rows)
