from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message
from curate.draft import Draft, History, make_draft
from curate.manifest import describe
from curate.selection import Candidate, Selection, input_key
from curate.settings import CurateSettings
from curate.splits import TRAIN

SMALL = CurateSettings(minimum_examples=3)
ROW = st.tuples(
    st.sampled_from(["where is parcel", "cancel the plan", "refund for order", "ok", "?", ""]),
    st.integers(0, 12),
    st.sampled_from(["billing", "parcel", "other"]),
    st.sampled_from(["", "u1", "u2"]),
    st.sampled_from(["", "s1", "s2", "s3"]),
)
ROWS = st.lists(ROW, min_size=1, max_size=40)


def candidate(number: int, question: str, target: str = "parcel", unit: str = "", session: str = "") -> Candidate:
    messages = (Message("system", "Sort the mail."), Message("user", question))
    key = input_key(messages)
    return Candidate(f"ex_{number:026d}", number, "openai", "t", unit, session, messages, target, key, {}, False)


def candidates_of(rows: list[tuple[str, int, str, str, str]]) -> list[Candidate]:
    return [
        candidate(number, f"{text} {'abcdefghijklm'[item] * 4} {item}", target, unit, session)
        for number, (text, item, target, unit, session) in enumerate(rows)
    ]


def drafted(candidates: list[Candidate], history: History | None = None, chosen: CurateSettings = SMALL) -> Draft:
    return make_draft(candidates, history or History(), chosen, lambda stage, done, total: None)


def later(history: History, draft: Draft) -> History:
    """What the store remembers after `draft` was frozen."""
    keys = {one.exchange_id: one.input_key for one in draft.candidates}
    fresh = {keys[exchange_id]: split for exchange_id, split in draft.splits.items()}
    return History(draft.splits, {**fresh, **history.sides}, history.accepted, history.rejected)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.sets(st.integers(0, 39), max_size=6))
def test_every_candidate_is_kept_or_dropped_with_one_reason(
    rows: list[tuple[str, int, str, str, str]], rejected: set[int]
) -> None:
    candidates = candidates_of(rows)
    thrown_out = frozenset(one.exchange_id for number, one in enumerate(candidates) if number in rejected)
    draft = drafted(candidates, History(rejected=thrown_out))
    everyone = {one.exchange_id for one in candidates}
    assert set(draft.splits) | set(draft.dropped) == everyone
    assert not set(draft.splits) & set(draft.dropped)
    assert thrown_out <= set(draft.dropped)
    assert draft.certificate == {"exact": 0, "near": 0, "ngram8": 0}
    manifest, files = describe("mail", SMALL, Selection(candidates, {"ex_x": "failed"}, 2), draft)
    bill = manifest["bill"]
    assert bill["selected"] == len(candidates) + 1 == bill["kept"] + sum(bill["dropped"].values())
    assert files["dropped.jsonl"].count("\n") == bill["selected"] - bill["kept"]


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_a_draft_made_again_with_its_history_is_the_same(rows: list[tuple[str, int, str, str, str]]) -> None:
    candidates = candidates_of(rows)
    first = drafted(candidates)
    again = drafted(candidates, later(History(), first))
    assert dict(again.splits) == dict(first.splits)
    assert dict(again.dropped) == dict(first.dropped)


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(1, 39))
def test_eval_never_becomes_train_as_traffic_grows(rows: list[tuple[str, int, str, str, str]], first: int) -> None:
    candidates = candidates_of(rows)
    before = drafted(candidates[:first])
    history = later(History(), before)
    after = drafted(candidates, history)
    sides = {one.exchange_id: history.sides.get(one.input_key) for one in candidates}
    for exchange_id, split in after.splits.items():
        assert sides[exchange_id] in (None, split)


def test_what_eval_holds_is_not_replaced_by_a_newer_duplicate() -> None:
    candidates = [candidate(number, f"{'abcdefghijklmnopqrst'[number] * 6} about {number}") for number in range(20)]
    history = later(History(), drafted(candidates))
    held_out = [one for one in candidates if history.kept[one.exchange_id] != TRAIN]
    newer = [candidate(100 + number, one.messages[1].text.upper()) for number, one in enumerate(held_out)]
    after = drafted([*candidates, *newer], history)
    assert all(after.splits[one.exchange_id] == history.kept[one.exchange_id] for one in held_out)
    assert {after.dropped[one.exchange_id].because for one in newer} == {one.exchange_id for one in held_out}


def test_a_newcomer_between_train_and_eval_costs_train_an_example() -> None:
    words = [f"word{letter}" for letter in "abcdefghijklmnop"]
    left, middle, right = (" ".join(words[start : start + 10]) for start in (0, 2, 4))
    history = History(sides={candidate(0, left).input_key: TRAIN, candidate(1, right).input_key: "test"})
    chosen = CurateSettings(near_threshold=0.9, contradiction_threshold=0.9)
    draft = drafted([candidate(0, left, "a"), candidate(1, right, "b"), candidate(2, middle, "c")], history, chosen)
    assert draft.dropped[candidate(0, left).exchange_id].reason == "bridges_eval"
    assert draft.splits == {candidate(1, right).exchange_id: "test", candidate(2, middle).exchange_id: "test"}


def test_a_unit_gives_at_most_its_share_once_there_are_enough_units() -> None:
    texts = [" ".join("bdfgklmnprst"[number % 12] + "aeiou"[number % 5] + str(number) for _ in range(3)) for number in range(100)]
    candidates = [
        candidate(number, text, unit="busy" if number < 60 else f"u{number}", target=f"t{number % 3}")
        for number, text in enumerate(texts)
    ]
    draft = drafted(candidates)
    assert Counter(drop.reason for drop in draft.dropped.values())["unit_cap"] == 40
    few = [candidate(number, text, unit=f"u{number % 9}") for number, text in enumerate(texts)]
    assert "unit_cap" not in {drop.reason for drop in drafted(few).dropped.values()}


def test_ten_thousand_identical_inputs_are_one_example() -> None:
    draft = drafted([candidate(number, "where is my parcel") for number in range(10_000)])
    assert len(draft.splits) == 1
    assert Counter(drop.reason for drop in draft.dropped.values()) == {"exact_duplicate": 9_999}
    assert next(iter(draft.clusters.values())) == 10_000


def test_one_candidate_makes_a_draft() -> None:
    assert len(drafted([candidate(0, "hello")]).splits) == 1
