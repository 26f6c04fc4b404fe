from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capture.errors import TrainingError
from capture.messages import Message
from curate.datasets import Example
from train.formatting import UNTRAINED, format_example, format_split, prompt_ids, turn_end_ids

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "x{% endfor %}"
)
NO_TURN_END = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)


def example(target: str, question: str = "Where is my parcel?", id: str = "eg_1") -> Example:
    messages = (Message("system", "Choose one queue."), Message("user", question))
    return Example(id, "ex_1", "triage", messages, target, "train", "b2:0", "teacher-1", "openai")


@pytest.fixture
def tokenizer(toy_base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(toy_base)


def test_the_trained_tokens_decode_exactly_to_the_target_and_the_end_of_the_turn(tokenizer: Any) -> None:
    target = '{"queue": "delivery_delay"}'
    row = format_example(tokenizer, example(target), turn_end_ids(tokenizer))
    trained = [label for label in row.labels if label != UNTRAINED]
    assert tokenizer.decode(trained) == target + "<|im_end|>"
    before = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label == UNTRAINED]
    assert tokenizer.decode(before) == (
        "<|im_start|>system\nChoose one queue.<|im_end|>\n<|im_start|>user\nWhere is my parcel?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert row.labels[len(before) :] == row.input_ids[len(before) :], "the prompt comes first, whole"


def test_the_whole_row_reads_as_the_chat_template_writes_it(tokenizer: Any) -> None:
    one = example('{"queue": "a"}')
    row = format_example(tokenizer, one, turn_end_ids(tokenizer))
    turns = [{"role": message.role, "content": message.text} for message in one.messages]
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": one.target}], tokenize=False)
    assert whole.rstrip("\n") == tokenizer.decode(row.input_ids)


def test_a_template_that_writes_thoughts_into_answers_still_teaches_what_the_engine_will_be_asked_for(tokenizer: Any) -> None:
    tokenizer.chat_template = THINKING
    row = format_example(tokenizer, example("yes"), turn_end_ids(tokenizer))
    assert tokenizer.decode([label for label in row.labels if label != UNTRAINED]) == "yes<|im_end|>"
    assert tokenizer.decode(row.input_ids).endswith("<|im_start|>assistant\nyes<|im_end|>")


@pytest.mark.parametrize("target", ["", " \n"])
def test_a_row_without_a_trained_token_is_an_error_that_names_the_example(tokenizer: Any, target: str) -> None:
    with pytest.raises(TrainingError, match="eg_9 has no trained token"):
        format_split(tokenizer, [example("a"), example(target, id="eg_9")], max_length=256, too_long_share=0.5)


def test_long_examples_are_left_out_and_counted_and_too_many_are_refused(tokenizer: Any) -> None:
    short = [example("a", id=f"eg_{number}") for number in range(9)]
    long = example("a", "word " * 400, id="eg_long")
    split = format_split(tokenizer, [*short, long], max_length=128, too_long_share=0.1)
    assert (len(split.rows), split.too_long) == (9, 1)
    assert "eg_long" not in {row.example_id for row in split.rows}
    assert all(len(row.input_ids) <= 128 for row in split.rows)
    with pytest.raises(TrainingError, match=r"1 of 10 training examples exceed max_length 128.*Raise max_length"):
        format_split(tokenizer, [*short, long], max_length=128, too_long_share=0.05)


def test_a_base_model_without_a_chat_template_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(TrainingError, match=r"no chat template.*instruct model"):
        prompt_ids(tokenizer, example("a").messages)


def test_a_template_that_refuses_a_role_is_named_as_the_cause(tokenizer: Any) -> None:
    tokenizer.chat_template = NO_SYSTEM
    with pytest.raises(TrainingError, match="refuses messages of system, user: System role not supported"):
        prompt_ids(tokenizer, example("a").messages)


def test_without_a_mark_of_its_own_a_turn_ends_with_the_end_of_text(tokenizer: Any) -> None:
    tokenizer.chat_template = NO_TURN_END
    assert turn_end_ids(tokenizer) == [tokenizer.eos_token_id]
