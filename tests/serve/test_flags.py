"""Assignment is a fixed point per unit and salt: the share holds, salts are independent, a growing share only adds units."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from capture.exchange import BASELINE, CANDIDATE
from serve.flags import Assignment, Flag, Snapshot, assign, is_candidate, point, withdrawn

UNITS = [f"user-{number}" for number in range(100_000)]
ids = st.text(min_size=1, max_size=40).filter(lambda one: one.isprintable())


def flag(share_bp: int = 3_000, unit: str = "auto", salt: str = "aa" * 8) -> Flag:
    return Flag("triage", "rel_1", "triage@r1", share_bp, unit, salt, 7)


def snapshot(one: Flag) -> Snapshot:
    return Snapshot(one.revision, {one.task: one})


def test_the_share_holds_within_four_standard_errors_over_a_hundred_thousand_units() -> None:
    points = [point(unit, "0123456789abcdef") for unit in UNITS]
    for share_bp in (1, 100, 3_000, 5_000, 9_900):
        seen = sum(one * 10_000 < share_bp << 64 for one in points)
        share = share_bp / 10_000
        assert abs(seen - len(UNITS) * share) < 4 * math.sqrt(len(UNITS) * share * (1 - share)), share_bp


def test_two_salts_divide_the_same_units_independently() -> None:
    first = [is_candidate(unit, "exp-a", 3_000) for unit in UNITS]
    second = [is_candidate(unit, "exp-b", 3_000) for unit in UNITS]
    both = sum(one and other for one, other in zip(first, second, strict=True))
    assert abs(both - 9_000) < 4 * math.sqrt(100_000 * 0.09 * 0.91)


@given(ids, st.text("0123456789abcdef", min_size=1, max_size=16), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_growing_share_never_takes_a_unit_back(unit: str, salt: str, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert not is_candidate(unit, salt, low) or is_candidate(unit, salt, high)


@given(ids)
def test_nothing_is_nobody_and_everything_is_everybody(unit: str) -> None:
    assert not is_candidate(unit, "salt", 0)
    assert is_candidate(unit, "salt", 10_000)


@settings(max_examples=50)
@given(ids, st.integers(0, 10_000))
def test_the_same_unit_gets_the_same_assignment_every_time(unit: str, share_bp: int) -> None:
    flags = snapshot(flag(share_bp))
    assert assign(flags, "triage", {"user": unit}) == assign(flags, "triage", {"user": unit, "session": ""})


def test_auto_sticks_to_the_conversation_else_the_user_else_the_session() -> None:
    flags = snapshot(flag(10_000))
    units = {"session": "s", "user": "u", "conversation": "c"}
    assert assign(flags, "triage", units).unit_source == "conversation"
    assert assign(flags, "triage", units | {"conversation": ""}).unit == "u"
    assert assign(flags, "triage", {"session": "s"}).unit_source == "session"


def test_a_fixed_unit_ignores_the_others() -> None:
    given_units = {"conversation": "c", "session": "s"}
    assert assign(snapshot(flag(10_000, "user")), "triage", given_units) == Assignment(BASELINE, "", "", 7, "", "")
    assert assign(snapshot(flag(10_000, "session")), "triage", given_units).unit == "s"


def test_a_request_without_a_unit_is_never_exposed() -> None:
    assert assign(snapshot(flag(10_000)), "triage", {}).variant == BASELINE


def test_the_candidate_names_release_and_revision_and_the_baseline_only_the_revision() -> None:
    flags = snapshot(flag(10_000, "user"))
    assert assign(flags, "triage", {"user": "u"}) == Assignment(CANDIDATE, "rel_1", "triage@r1", 7, "u", "user")
    assert assign(snapshot(flag(0, "user")), "triage", {"user": "u"}) == Assignment(BASELINE, "", "", 7, "u", "user")


def test_a_task_without_a_flag_has_no_variant() -> None:
    assert assign(snapshot(flag()), "other", {"user": "u"}) == Assignment()


def test_a_withdrawn_snapshot_exposes_nobody_and_counts_towards_no_experiment() -> None:
    flags = withdrawn(snapshot(flag(10_000)))
    assert assign(flags, "triage", {"user": "u"}) == Assignment(BASELINE, "", "", 0, "u", "user")


def test_a_unit_of_broken_unicode_is_a_unit_like_any_other() -> None:
    assert assign(snapshot(flag(10_000)), "triage", {"user": "caf\udce9"}).variant == CANDIDATE


def test_known_points_do_not_change_between_versions() -> None:
    assert point("user-7", "0123456789abcdef") == KNOWN_POINT


KNOWN_POINT = 7624413365278732273
