from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.errors import NotFoundError, SettingsError
from capture.messages import Message
from curate.examples import Example
from curate.likeness.certificate import find_overlap
from curate.likeness.duplicates import Wording
from curate.likeness.wording import critical, normalise
from curate.mix_in import MixIn, pick_mix_in, read_mix_in, task_names
from curate.selection import input_key
from curate.settings import CurateSettings

SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]


def example(number: int, task: str = "chat", question: str = "") -> Example:
    words = random.Random(f"{task} {number}").choices(SYLLABLES, k=24)
    asked = question or " ".join("".join(words[place : place + 3]) for place in range(0, 24, 3))
    messages = (Message("system", f"You are {task}."), Message("user", asked))
    return Example(
        f"eg_{number:026d}", f"ex_{number:026d}", task, messages, "ok", "train", input_key(messages), "t", "openai"
    )  # fmt: skip


def wording(text: str) -> Wording:
    return Wording(normalise(text), normalise(text), critical(text))


def picked(others: dict[str, list[Example]], trained: int, held_out: list[str] | None = None, share: float = 0.1) -> MixIn:
    wordings = [wording(text) for text in held_out or []]
    return pick_mix_in(others, trained, wordings, frozenset(), CurateSettings(mix_in_share=share))


def test_the_newest_of_each_task_make_up_the_share_of_train() -> None:
    found = picked({"chat": [example(number) for number in range(40)], "code": [example(n, "code") for n in range(40)]}, 90)
    assert (found.wanted, found.by_task, found.overlapping) == (10, {"chat": 5, "code": 5}, 0)
    assert [one.exchange_id for one in found.examples if one.task == "chat"] == [f"ex_{n:026d}" for n in (39, 38, 37, 36, 35)]
    assert len(found.wordings) == 10
    assert picked({"chat": [example(0)], "code": [example(n, "code") for n in range(40)]}, 90).by_task == {"chat": 1, "code": 9}
    assert picked({"chat": [example(0)]}, 90).by_task == {"chat": 1}
    assert picked({}, 90).examples == picked({"chat": []}, 90).examples == ()


def test_what_overlaps_with_eval_is_left_out() -> None:
    asked = [example(number).messages[1].text for number in range(10)]
    found = picked({"chat": [example(number) for number in range(10)]}, 1_000, [asked[3].upper(), asked[7] + " please"])
    assert found.overlapping == 2
    assert {one.exchange_id for one in found.examples} == {f"ex_{n:026d}" for n in range(10) if n not in (3, 7)}
    keys = frozenset({example(1).input_key})
    pinned = pick_mix_in({"chat": [example(1), example(2)]}, 1_000, [], keys, CurateSettings())
    assert [one.exchange_id for one in pinned.examples] == [example(2).exchange_id]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=3), st.integers(0, 200), st.lists(st.integers(0, 30), max_size=5))
def test_nothing_that_is_mixed_in_overlaps_and_the_share_is_kept(counts: list[int], trained: int, of_eval: list[int]) -> None:
    others = {f"task{place}": [example(n, f"task{place}") for n in range(count)] for place, count in enumerate(counts)}
    held_out = [wording(example(number, "task0").messages[1].text) for number in of_eval]
    found = pick_mix_in(others, trained, held_out, frozenset(), CurateSettings())
    assert find_overlap(found.wordings, held_out, CurateSettings()).rows == frozenset()
    assert len(found.examples) <= 0.1 * (trained + len(found.examples)) + 1e-9
    assert len(found.examples) == min(found.wanted, sum(counts) - found.overlapping)


def test_only_what_a_task_was_asked_itself_is_mixed_in() -> None:
    versions = {"chat": [example(1), example(2, "code")]}
    assert read_mix_in(["chat"], versions.__getitem__, lambda _name: set()) == {"chat": [example(1)]}


def test_a_task_without_a_version_is_named_with_the_next_step() -> None:
    def load(task: str) -> list[Example]:
        raise NotFoundError(f"There is no dataset {task!r}.", "Build it.")

    with pytest.raises(NotFoundError, match=r"mix_in names task 'chat'.*dataset build chat"):
        read_mix_in(["chat"], load, lambda _name: set())


def test_mix_in_names_other_tasks_once() -> None:
    assert task_names(CurateSettings(mix_in=" chat, code,chat ,"), "mail") == ["chat", "code"]
    assert task_names(CurateSettings(), "mail") == []
    with pytest.raises(SettingsError, match="mail"):
        task_names(CurateSettings(mix_in="chat,mail"), "mail")
