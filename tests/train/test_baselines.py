from __future__ import annotations

from capture.messages import Message
from curate.datasets import Example
from proxy.tickets import make_tickets
from train.baselines import cheap_answers, last_user_text


def example(question: str, target: str, number: int = 0) -> Example:
    return Example(f"eg_{number}", f"ex_{number}", "triage", (Message("user", question),), target, "train", "", "t", "openai")


def test_word_counts_learn_the_queues_of_tickets() -> None:
    train = [example(t.user_prompt, t.gold, n) for n, t in enumerate(make_tickets(1, 300))]
    fresh = [t for t in make_tickets(2, 120) if t.kind == "fresh"]
    answers = cheap_answers(train, [(Message("user", t.user_prompt),) for t in fresh])
    assert isinstance(answers, list)
    right = sum(answer == ticket.gold for answer, ticket in zip(answers, fresh, strict=True))
    assert right / len(fresh) > 0.8


def test_free_text_targets_are_named_as_the_reason_why_there_is_no_baseline() -> None:
    train = [example(f"question {n}", f"a long answer of its own, number {n}", n) for n in range(60)]
    assert cheap_answers(train, [(Message("user", "x"),)]) == (
        "the 60 targets have 60 different texts: not labels, so no classifier was tried"
    )


def test_a_single_label_is_its_own_baseline() -> None:
    assert cheap_answers([example("a", "yes"), example("b", "yes ")], [(Message("user", "x"),)] * 3) == ["yes"] * 3


def test_the_last_user_message_is_what_is_read() -> None:
    turns = (Message("system", "s"), Message("user", "first"), Message("assistant", "a"), Message("user", "last"))
    assert last_user_text(turns) == "last"
    assert last_user_text((Message("system", "s"),)) == ""


def test_questions_without_words_are_named_as_the_reason_why_there_is_no_baseline() -> None:
    train = [example("?!", ("yes", "no")[n % 2], n) for n in range(20)]
    assert cheap_answers(train, [(Message("user", "..."),)]) == "the questions hold no words, so no classifier was tried"
