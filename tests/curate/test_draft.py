from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message
from curate.draft import OVERLAP, Draft, History, make_draft
from curate.examples import RELABEL, Example, from_line
from curate.manifest import Sources, describe
from curate.preferring.pairs import Pairs
from curate.provenance import settle_provenance, terms_figures
from curate.selection import Candidate, Selection, input_key
from curate.settings import CurateSettings
from curate.splits import TRAIN
from curate.tasks.kept_templates import Settled

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


def texts(count: int) -> list[str]:
    """Questions of which no two are near duplicates."""
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    return [" ".join("".join(random.Random(f"{n} {word}").choices(syllables, k=3)) for word in range(8)) for n in range(count)]


def candidates_of(rows: list[tuple[str, int, str, str, str]]) -> list[Candidate]:
    return [
        candidate(number, f"{text} {'abcdefghijklm'[item] * 4} {item}", target, unit, session)
        for number, (text, item, target, unit, session) in enumerate(rows)
    ]


def drafted(candidates: list[Candidate], history: History | None = None, chosen: CurateSettings = SMALL) -> Draft:
    return make_draft(candidates, history or History(), chosen, lambda stage, done, total: None)


def described(selection: Selection, draft: Draft) -> tuple[dict[str, Any], dict[str, str | bytes]]:
    template = Settled("mail", draft.template, 1, True, None)
    kept = [one for one in selection.candidates if one.exchange_id in draft.splits]
    terms = terms_figures(kept, settle_provenance(selection.candidates, {}, SMALL), SMALL)
    return describe("mail", SMALL, Sources(selection, draft, (), Pairs((), {}, {}), template, terms))


def later(history: History, draft: Draft) -> History:
    """What the store remembers after `draft` was frozen."""
    keys = {one.exchange_id: one.input_key for one in draft.candidates}
    fresh = {keys[exchange_id]: TRAIN for exchange_id, drop in draft.dropped.items() if drop.reason == OVERLAP}
    fresh |= {keys[exchange_id]: split for exchange_id, split in draft.splits.items()}
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
    manifest, files = described(Selection(candidates, {"ex_x": "failed"}, 2), draft)
    bill = manifest["bill"]
    assert bill["selected"] == len(candidates) + 1 == bill["kept"] + sum(bill["dropped"].values())
    assert str(files["dropped.jsonl"]).count("\n") == bill["selected"] - bill["kept"]


EVERYTHING = CurateSettings(
    minimum_examples=3,
    per_session_cap=3,
    max_examples=20,
    eval_selection="hard",
    contradictions="newest",
    eval_after="1970-01-02",
)
SAMPLED_AND_HARD = CurateSettings(minimum_examples=3, max_examples=12, eval_selection="hard", val_share=0.2, test_share=0.2)


BY_TIME = CurateSettings(minimum_examples=3, eval_after="1970-01-01T00:00:00.000020", per_session_cap=2)


@settings(deadline=None, max_examples=150)
@given(ROWS, st.integers(0, 39), st.sampled_from([SMALL, EVERYTHING, SAMPLED_AND_HARD, BY_TIME]), st.sets(st.integers(0, 39)))
def test_a_draft_made_again_with_its_history_is_the_same(
    rows: list[tuple[str, int, str, str, str]], first: int, chosen: CurateSettings, rejected: set[int]
) -> None:
    """At once, and after traffic has grown and people have thrown rows out."""
    candidates = candidates_of(rows)
    history = later(History(), drafted(candidates[:first], chosen=chosen)) if candidates[:first] else History()
    thrown_out = frozenset(one.exchange_id for number, one in enumerate(candidates) if number in rejected)
    history = replace(history, rejected=thrown_out)
    draft = drafted(candidates, history, chosen)
    again = drafted(candidates, later(history, draft), chosen)
    assert dict(again.splits) == dict(draft.splits)
    assert dict(again.dropped) == dict(draft.dropped)


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(1, 39), st.sampled_from([SMALL, EVERYTHING]))
def test_eval_never_becomes_train_as_traffic_grows(
    rows: list[tuple[str, int, str, str, str]], first: int, chosen: CurateSettings
) -> None:
    candidates = candidates_of(rows)
    before = drafted(candidates[:first], chosen=chosen)
    history = later(History(), before)
    after = drafted(candidates, history, chosen)
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
    left, middle, right = (" ".join(words[start : start + 11]) for start in (0, 2, 4))
    history = History(sides={candidate(0, left).input_key: TRAIN, candidate(1, right).input_key: "test"})
    chosen = CurateSettings(near_threshold=0.9, contradiction_threshold=0.9)
    draft = drafted([candidate(0, left, "a"), candidate(1, right, "b"), candidate(2, middle, "c")], history, chosen)
    assert draft.dropped[candidate(0, left).exchange_id].reason == "bridges_eval"
    assert draft.splits == {candidate(1, right).exchange_id: "test", candidate(2, middle).exchange_id: "test"}


def test_one_noisy_user_gives_one_percent_of_what_is_kept() -> None:
    made = [
        candidate(number, text, unit="busy" if number < 150 else f"u{number % 120}", target=f"t{number % 3}")
        for number, text in enumerate(texts(400))
    ]
    draft = drafted(made)
    kept = Counter(one.unit for one in draft.candidates if one.exchange_id in draft.splits)
    assert kept["busy"] <= 0.01 * kept.total() and kept.total() > 240
    assert {drop.reason for drop in draft.dropped.values()} == {"unit_cap"}


def test_with_few_units_one_gives_twice_a_fair_share() -> None:
    made = [candidate(n, text, unit="busy" if n < 60 else f"u{n}", target=f"t{n % 3}") for n, text in enumerate(texts(100))]
    assert Counter(drop.reason for drop in drafted(made).dropped.values()) == {"unit_cap": 55}
    few = [candidate(number, text, unit=f"u{number % 9}") for number, text in enumerate(texts(100))]
    assert drafted(few).dropped == {}


def test_of_a_conversation_the_last_turns_stay() -> None:
    made = [candidate(number, text, session=f"s{number // 10}") for number, text in enumerate(texts(40))]
    draft = drafted(made, chosen=CurateSettings(per_session_cap=2))
    assert Counter(drop.reason for drop in draft.dropped.values()) == {"session_cap": 32}
    assert {made[number].exchange_id for number in (9, 19, 29, 39)} <= set(draft.splits)


def test_a_version_holds_at_most_so_many_examples_and_what_eval_holds_stays() -> None:
    made = [candidate(n, text, target="rare" if n == 7 else f"t{n % 3}") for n, text in enumerate(texts(120))]
    chosen = CurateSettings(max_examples=60)
    draft = drafted(made[:80], chosen=chosen)
    assert len(draft.splits) == 60 and made[7].exchange_id in draft.splits
    assert {drop.reason for drop in draft.dropped.values()} == {"not_sampled"}
    after = drafted(made, later(History(), draft), chosen)
    held_out = {id for id, split in draft.splits.items() if split != TRAIN}
    assert len(after.splits) == 60 and held_out <= {id for id, split in after.splits.items() if split != TRAIN}


def test_a_policy_decides_who_wins_and_a_person_is_waited_for() -> None:
    made = [
        *(candidate(n, text) for n, text in enumerate(texts(20))),
        candidate(30, "where is it"),
        candidate(31, "where is it", "x"),
    ]
    draft = drafted(made, chosen=CurateSettings(contradictions="person"))
    assert {id: drop.reason for id, drop in draft.dropped.items()} == dict.fromkeys(
        (made[20].exchange_id, made[21].exchange_id), "contradiction"
    )
    accepted = History(accepted=frozenset((made[20].exchange_id,)))
    assert set(drafted(made, accepted, CurateSettings(contradictions="person")).dropped) == {made[21].exchange_id}


def test_a_pinned_input_is_in_no_split_and_what_is_like_it_never_trains() -> None:
    words = [f"word{letter}" for letter in "abcdefghijklmnop"]
    left, middle = (" ".join(words[start : start + 10]) for start in (0, 2))
    made = [
        *(candidate(number, text) for number, text in enumerate(texts(30))),
        candidate(90, left),
        candidate(91, middle, "other"),
    ]
    pinned = (replace(made[30], target="expert"),)
    chosen = CurateSettings(near_threshold=0.9, contradiction_threshold=0.9)
    draft = drafted(made, History(sides={made[31].input_key: TRAIN}, pinned=pinned), chosen)
    assert {id: drop.reason for id, drop in draft.dropped.items()} == {
        made[30].exchange_id: "golden",
        made[31].exchange_id: "bridges_eval",
    }
    fresh = drafted(made, History(pinned=pinned), chosen)
    assert fresh.splits[made[31].exchange_id] == "test"
    assert len(fresh.candidates) == len(made) == len(fresh.splits) + len(fresh.dropped)


def test_behind_a_cut_in_time_everything_is_eval() -> None:
    made = [replace(candidate(n, text), started_us=n * 86_400_000_000) for n, text in enumerate(texts(80))]
    draft = drafted(made, chosen=CurateSettings(eval_after="1970-02-20"))
    late = {one.exchange_id for one in made[50:]}
    assert {draft.splits[id] for id in late} == {"val", "test"}
    assert Counter(split for id, split in draft.splits.items() if id not in late)[TRAIN] > 30
    assert draft.certificate == {"exact": 0, "near": 0, "ngram8": 0}


def test_hard_eval_holds_more_rare_targets() -> None:
    made = [candidate(n, text, target="rare" if n % 10 == 0 else "often") for n, text in enumerate(texts(300))]
    rare = {one.exchange_id for one in made if one.target == "rare"}
    hard = drafted(made, chosen=CurateSettings(eval_selection="hard")).splits
    usual = drafted(made).splits

    def held_out(splits: Mapping[str, str]) -> int:
        return sum(split != TRAIN for id, split in splits.items() if id in rare)

    assert held_out(hard) > 1.3 * held_out(usual)
    assert sum(split == TRAIN for id, split in hard.items() if id in rare) > 5


def test_examples_of_other_tasks_are_mixed_into_train_and_certified() -> None:
    made = [candidate(number, text) for number, text in enumerate(texts(60))]
    others = [
        Example(f"eg_{n}", f"ex_{n}", "chat", candidate(n, text).messages, "yes", TRAIN, f"b2:{n}", "t", "openai")
        for n, text in enumerate([*texts(60)[:30], *texts(400)[300:]])
    ]
    draft = make_draft(made, History(), CurateSettings(mix_in_share=0.3), lambda *_: None, others={"chat": others})
    train = sum(split == TRAIN for split in draft.splits.values())
    assert len(draft.mix_in.examples) == draft.mix_in.wanted == int(train * 0.3 / 0.7)
    assert draft.mix_in.overlapping == sum(draft.splits[one.exchange_id] != TRAIN for one in made[:30])
    assert draft.certificate == {"exact": 0, "near": 0, "ngram8": 0}
    manifest, files = described(Selection(made, {}, 0), draft)
    lines = [from_line(line, "mail", TRAIN) for line in str(files["train.jsonl"]).removesuffix("\n").split("\n")]
    assert manifest["counts"]["train"] == train + len(draft.mix_in.examples) == len(lines)
    assert Counter(line.task for line in lines) == {"mail": train, "chat": len(draft.mix_in.examples)}


def test_ten_thousand_identical_inputs_are_one_example() -> None:
    draft = drafted([candidate(number, "where is my parcel") for number in range(10_000)])
    assert len(draft.splits) == 1
    assert Counter(drop.reason for drop in draft.dropped.values()) == {"exact_duplicate": 9_999}
    assert next(iter(draft.clusters.values())) == 10_000


def test_one_candidate_makes_a_draft() -> None:
    assert len(drafted([candidate(0, "hello")]).splits) == 1


def test_one_odd_answer_hides_nothing_of_what_a_task_of_labels_is_told() -> None:
    topics = {"parcel": "courier box tracking doorstep shipment driver", "billing": "invoice refund fee receipt charge price"}
    rows = []
    for number, text in enumerate(texts(240)):
        label, other = ("parcel", "billing") if number % 2 else ("billing", "parcel")
        asked = [*random.Random(number).sample(topics[label].split(), 4), *text.split()[:3]]
        rows.append(candidate(number, " ".join(asked), other if number < 2 else label))
    rows += [candidate(number, "Who brings the sofa?", label) for number, label in ((300, "parcel"), (301, "billing"))]
    clean = drafted(rows)
    words = "I am not sure which of the two queues you mean, could you tell me more about it?"
    odd = drafted([*rows, candidate(400, "Hm?", words)])
    assert (odd.kind.name, odd.kind.plain, odd.kind.odd) == ("label", 243, 1)
    assert [one.rows for one in odd.contradictions] == [one.rows for one in clean.contradictions] == [(240, 241)]
    assert set(odd.doubts.suspects) == set(clean.doubts.suspects) == {0, 1}
    for draft, told in ((clean, 0), (odd, 1)):
        manifest, _ = described(Selection(list(draft.candidates), {}, 0), draft)
        assert manifest["contradictions"]["compared_as"] == {"kind": "label", "answers": 242 + told, "odd": told}
        assert [line for line in manifest["warnings"] if "answers are no labels" in line] == [
            "1 of 243 answers are no labels as the others are; review them: potstill review next mail"
        ] * told


def test_labels_too_many_to_be_judged_are_warned_of() -> None:
    labels = [f"queue {number % 501}" for number in range(501 * 5)]
    rows = [candidate(number, text, label) for number, (text, label) in enumerate(zip(texts(len(labels)), labels, strict=True))]
    draft = drafted(rows, chosen=replace(SMALL, wrong_answers="off"))
    manifest, _ = described(Selection(rows, {}, 0), draft)
    assert (
        "Wrong answers and poisoned rows were looked for among the 500 most frequent labels, not among 1 others."
        in (manifest["warnings"])
    )


def like(one: Candidate, number: int, target: str = "parcel") -> Candidate:
    """Another exchange that asks nearly the same."""
    return candidate(number, f"{one.messages[1].text} pls", target)


def test_what_was_held_out_and_is_thrown_out_still_keeps_what_resembles_it_out_of_train() -> None:
    made = [candidate(number, text) for number, text in enumerate(texts(60))]
    history = later(History(), drafted(made))
    held_out = [one for one in made if history.kept[one.exchange_id] != TRAIN]
    newcomers = [like(one, 100 + number) for number, one in enumerate(held_out)]
    rejected = replace(history, rejected=frozenset(one.exchange_id for one in held_out))
    draft = drafted([*made, *newcomers], rejected)
    both = zip(held_out, newcomers, strict=True)
    sides = {(history.kept[old.exchange_id], draft.splits.get(new.exchange_id)) for old, new in both}
    assert sides == {("val", "val"), ("test", "test")}
    assert {draft.dropped[one.exchange_id].reason for one in held_out} == {"rejected_in_review"}
    outvoted = [like(one, 200 + 10 * number + copy, "other") for number, one in enumerate(held_out) for copy in range(3)]
    draft = drafted([*made, *outvoted], history)
    assert {draft.dropped[one.exchange_id].reason for one in held_out} == {"contradiction"}
    assert TRAIN not in {draft.splits.get(one.exchange_id) for one in outvoted}


def test_what_was_held_out_and_is_no_candidate_any_more_keeps_what_resembles_it_out_of_train() -> None:
    made = [candidate(number, text) for number, text in enumerate(texts(60))]
    history = later(History(), drafted(made))
    held_out = [one for one in made if history.kept[one.exchange_id] != TRAIN]
    newcomers = [like(one, 100 + number) for number, one in enumerate(held_out)]
    left = [one for one in made if one not in held_out]
    draft = drafted([*left, *newcomers], replace(history, former=tuple(held_out)))
    assert {draft.splits[one.exchange_id] for one in newcomers} == {"val", "test"}
    assert {one.exchange_id for one in draft.candidates} == {one.exchange_id for one in (*left, *newcomers)}


def test_relabelled_answers_in_another_form_than_eval_are_warned_of() -> None:
    made = [candidate(number, text, target=f"label{number % 3}") for number, text in enumerate(texts(90))]
    history = later(History(), drafted(made))
    in_train = [one for one in made if history.kept[one.exchange_id] == TRAIN]

    def warnings(said: Callable[[Candidate], str], count: int) -> str:
        again = {one.exchange_id: replace(one, target=said(one), target_source=RELABEL) for one in in_train[:count]}
        rows = [again.get(one.exchange_id, one) for one in made]
        return "".join(described(Selection(rows, {}, 0), drafted(rows, history))[0]["warnings"])

    assert "40 relabelled answers in train say what no answer in eval says" in warnings(
        lambda one: f"It is {one.target}, yes.", 40
    )
    assert "in train say" not in warnings(lambda one: one.target, 40)
    assert "in train say" not in warnings(lambda one: f"It is {one.target}, yes.", 3)
