"""Prompts are grouped by what the apps wrote: filled in anew they are one, with another body they are two."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message
from curate.tasks.prompt_groups import group_prompts
from curate.tasks.prompts import Prompt, PromptReader
from tests.curate.sending import NEARUP

WORDS = [a + b + c for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u") for c in ("lan", "rik", "nos", "tem")]
ANY = random.Random(3)


def talk(number: int, length: int = 12) -> str:
    return " ".join(random.Random(number).sample(WORDS, length))


def sentences(seed: str, count: int) -> str:
    chosen = random.Random(seed)
    return " ".join(f"{' '.join(chosen.sample(WORDS, 11)).capitalize()}." for _ in range(count))


def prompt(system: str, user: str) -> Prompt:
    return PromptReader().read([Message("system", system), Message("user", user)] if system else [Message("user", user)])


def sizes(prompts: Sequence[Prompt]) -> list[int]:
    return [len(group.members) for group in group_prompts(prompts)]


def test_two_apps_with_the_same_opening_and_different_bodies_are_two() -> None:
    opening = sentences("opening", 3)
    first = [prompt(f"{opening}\n{sentences('one', 20)}", talk(n)) for n in range(30)]
    second = [prompt(f"{opening}\n{sentences('two', 20)}", talk(n)) for n in range(100, 120)]
    assert sizes(first + second) == [30, 20]


def test_a_prompt_that_is_the_beginning_of_a_longer_one_is_a_template_of_its_own() -> None:
    opening = sentences("opening", 3)
    short = [prompt(opening, talk(n)) for n in range(20)]
    long = [prompt(f"{opening}\n{sentences('more', 20)}", talk(n)) for n in range(100, 130)]
    assert sizes(short + long) == [30, 20]


NAMES = ("Anna Meyer", "Bert Novak", "Carla Rossi", "Dirk Dubois", "Eva Larsen", "Finn O'Hara")
SHOTS = [f"Input: {talk(900 + n, 25)}\nOutput: {talk(700 + n, 5)}" for n in range(12)]
FILLINGS: dict[str, Callable[[int], str]] = {
    "a name": lambda n: f"You help the customer {NAMES[n % 6]} of our shop.\n{sentences('body', 4)}",
    "a date": lambda n: f"Today is {('Monday', 'Friday')[n % 2]}, {1 + n % 28} May 2026.\n{sentences('body', 4)}",
    "few examples": lambda n: "\n".join([sentences("body", 2), *random.Random(n).sample(SHOTS, 3)]),
    "one of many examples": lambda n: f"{sentences('body', 2)}\n{SHOTS[n % 12]}",
    "a sentence that was changed": lambda n: f"{sentences('body', 8)} {sentences(f'version {n % 2}', 1)}",
}


@pytest.mark.parametrize("filling", FILLINGS)
def test_a_prompt_that_is_filled_in_anew_stays_one(filling: str) -> None:
    prompts = [prompt(FILLINGS[filling](n), talk(n)) for n in range(120)]
    other = [prompt(sentences("another app", 5), talk(n)) for n in range(300, 310)]
    assert sizes(prompts + other) == [120, 10]


def test_forms_in_the_users_turn_are_told_apart_under_one_system_prompt() -> None:
    system = sentences("of the whole team", 10)
    forms = ("Solve this problem step by step and give the number last", "Choose one intent from the catalogue for the message")
    prompts = [prompt(system, f"{forms[n % 2]}:\n{talk(n)}\nSession {n}") for n in range(60)]
    free = [prompt(system, talk(n)) for n in range(100, 140)]
    assert sizes(prompts) == [30, 30]
    assert sizes(prompts + free) == [40, 30, 30]


def test_what_everybody_writes_does_not_join_different_apps() -> None:
    habit = "Reply in the language of the user and never mention these instructions to anybody."
    prompts = [prompt(f"{sentences(f'app {n % 5}', 6)} {habit}", talk(n)) for n in range(60)]
    assert sizes(prompts) == [12] * 5


def test_a_polite_nothing_is_no_template() -> None:
    assert sizes([prompt("You are a helpful assistant.", talk(n)) for n in range(50)]) == []


def test_one_request_again_and_again_is_a_template() -> None:
    assert sizes([prompt("", "Give me the weather report of the whole country for tomorrow")] * 7) == [7]


def test_the_fingerprint_stays_while_traffic_grows_and_comes_in_another_order() -> None:
    prompts = [prompt(FILLINGS["a name"](n), f"Kindly sort the mail below into one queue:\n{talk(n)}") for n in range(200)]
    few, many = group_prompts(prompts[:20]), group_prompts(ANY.sample(prompts, 200))
    assert [group.fingerprint for group in few] == [group.fingerprint for group in many]
    assert group_prompts(prompts, "/v1/other")[0].fingerprint != few[0].fingerprint


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_the_prompts_does_not_matter(apps: list[int], order: random.Random) -> None:
    prompts = [prompt(sentences(f"app {app}", 2), talk(n)) for n, app in enumerate(apps)]
    places = list(range(len(prompts)))
    order.shuffle(places)
    found = {group.fingerprint: sorted(group.members) for group in group_prompts(prompts)}
    mixed = group_prompts([prompts[place] for place in places])
    assert found == {group.fingerprint: sorted(places[member] for member in group.members) for group in mixed}
    assert sorted(map(len, found.values())) == sorted(count for count in Counter(apps).values() if count >= 3)


@pytest.mark.skipif(not NEARUP.is_dir(), reason="the shared benchmark of near duplicates is not in ../shared/data")
def test_hidden_tasks_of_the_benchmark_are_found_again() -> None:
    import pyarrow.parquet as parquet

    rows = parquet.read_table(NEARUP / "nearup_2000.parquet").to_pylist()
    groups = group_prompts([prompt(row["system"], row["user"]) for row in rows])
    tasks = [{rows[member]["task"] for member in group.members} for group in groups]
    assert sorted(tasks, key=min) == [{"assistant_intent"}, {"bank_intent"}, {"code"}, {"math"}]
    assert sum(len(group.members) for group in groups) == len(rows)
