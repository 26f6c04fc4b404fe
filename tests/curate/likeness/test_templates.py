from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message
from curate.likeness.templates import MINED_SHARE, UNIVERSAL_SHARE, Asked, Stripper, mine, read_input
from curate.likeness.wording import normalise

SYSTEM = Message("system", "You are a careful helper. Answer in one word.")
WORDS = [
    f"{a}{b}{c}" for a in ("tor", "ben", "kal", "mir") for b in ("a", "e", "i", "o", "u") for c in ("n", "rk", "lt", "s", "mp")
]


def sentence(number: int, length: int = 7) -> str:
    return " ".join(random.Random(number).sample(WORDS, length))


def varying(texts: list[str], answers: list[str] | None = None) -> list[str]:
    inputs = [read_input((SYSTEM, Message("user", text))) for text in texts]
    stripper = Stripper(*mine(inputs, answers or [str(number) for number in range(len(texts))], MINED_SHARE))
    return [normalise(stripper.variable_part(one)) for one in inputs]


def test_inputs_that_were_read_are_not_held_in_memory() -> None:
    tracemalloc.start()
    try:
        for number in range(300):
            read_input((Message("user", f"{number} " + "x" * 50_000),))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5_000_000


def test_a_line_template_and_the_system_prompt_are_taken_away() -> None:
    questions = [sentence(number) for number in range(40)]
    texts = [f"Classify this.\n\nCustomer wrote:\n{question}\n\nAnswer with one word." for question in questions]
    assert varying(texts) == questions


def test_words_around_a_slot_inside_one_sentence_are_taken_away() -> None:
    questions = [sentence(number) for number in range(60)]
    texts = [f"Tell me kindly which queue fits the mail {question} and say it in English only please" for question in questions]
    assert varying(texts) == questions


def test_a_framing_line_with_a_running_number_is_taken_away() -> None:
    questions = [sentence(number) for number in range(60)]
    texts = [
        f"Ticket #{7_919 * number % 90_000} ({('mail', 'chat')[number % 2]}, {number % 24}:{number % 60})\n{question}"
        for number, question in enumerate(questions)
    ]
    assert varying(texts) == questions


def test_a_number_on_which_the_answer_hangs_is_kept() -> None:
    names = [WORDS[number % 5] for number in range(60)]
    texts = [f"{name}\nCompute {17 * number} plus {number}" for number, name in enumerate(names)]
    parts = varying(texts, [str(18 * number) for number in range(60)])
    assert len(set(parts)) == 60


def test_numbers_that_come_back_are_content_and_not_a_frame() -> None:
    questions = [sentence(number) for number in range(60)]
    texts = [f"Age: {20 + number % 10}\n{question}" for number, question in enumerate(questions)]
    inputs = [read_input((SYSTEM, Message("user", text))) for text in texts]
    stripper = Stripper(*mine(inputs, ["same"] * 60, UNIVERSAL_SHARE))
    assert normalise(stripper.variable_part(inputs[0])) == f"20 {questions[0]}"


def test_a_popular_duplicate_does_not_become_boilerplate() -> None:
    popular = "where is my parcel it should be here by now"
    texts = [f"Mail:\n{sentence(number)}" for number in range(30)] + [f"Mail:\n{popular}"] * 300
    assert varying(texts)[-1] == popular


def test_a_popular_duplicate_under_new_ticket_numbers_does_not_become_boilerplate() -> None:
    popular = "where is my parcel it should be here by now"
    texts = [f"Ticket #{number}\n{sentence(number)}" for number in range(60)] + [
        f"Ticket #{number}\n{popular}" for number in range(60, 110)
    ]
    assert varying(texts, [*map(str, range(60)), *["parcel"] * 50])[-1] == popular


def test_when_nothing_is_left_the_whole_text_stays() -> None:
    assert varying(["Hello."] * 10 + ["Hello. Bye."] * 10) == ["hello"] * 10 + ["hello bye"] * 10


def test_one_input_keeps_its_whole_text() -> None:
    assert varying([f"Mail:\n{sentence(1)}"])[0].endswith(f"mail {sentence(1)}")


def test_earlier_turns_that_differ_belong_to_what_varies() -> None:
    inputs = [
        read_input(
            (SYSTEM, Message("user", sentence(number)), Message("assistant", "Shall I?"), Message("user", f"yes {number}"))
        )
        for number in range(30)
    ]
    stripper = Stripper(*mine(inputs, ["x"] * 30, MINED_SHARE))
    assert stripper.variable_part(inputs[3]) == f"{sentence(3)}\nyes 3"


def test_a_phrase_of_some_users_stays_where_only_the_universal_part_goes() -> None:
    phrase = "i was charged two times for"
    texts = [f"Mail:\n{phrase} {sentence(number)}" if number % 20 == 0 else f"Mail:\n{sentence(number)}" for number in range(200)]
    inputs = [read_input((Message("user", text),)) for text in texts]
    answers = [str(number) for number in range(200)]
    assert Stripper(*mine(inputs, answers, MINED_SHARE)).variable_part(inputs[0]) == sentence(0)
    assert Stripper(*mine(inputs, answers, UNIVERSAL_SHARE)).variable_part(inputs[0]) == f"{phrase} {sentence(0)}"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.text(max_size=40), min_size=1, max_size=3), min_size=1, max_size=12))
def test_any_text_leaves_something_to_compare(inputs: list[list[str]]) -> None:
    asked = [Asked(tuple(f"user\n{text}" for text in turns[:-1]), turns[-1]) for turns in inputs]
    stripper = Stripper(*mine(asked, ["x"] * len(asked), MINED_SHARE))
    for one in asked:
        whole = "".join((*(piece.partition("\n")[2] for piece in one.context), one.question))
        assert normalise(stripper.variable_part(one)) or not any(letter.isalnum() for letter in whole)


@pytest.mark.parametrize("roles", [("assistant",), ("system",)])
def test_an_input_without_a_user_turn_is_read_by_its_last_message(roles: tuple[str, ...]) -> None:
    assert read_input(tuple(Message(role, "text") for role in roles)).question == "text"
