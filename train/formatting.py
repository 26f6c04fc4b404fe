"""Examples to token rows, with the chat template of the base model and loss on the target alone.

A row is the template's prompt up to the point where the engine starts to answer, then the target, then the template's end
of a turn. Prompt and target are tokenised apart, because that is how they meet in the engine. An example that would train
no token is an error, not a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from capture.errors import TrainingError

if TYPE_CHECKING:
    from capture.messages import Message
    from curate.datasets import Example

UNTRAINED = -100
"""The value in `labels` of a token that carries no loss."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One training row; `labels` equals `input_ids` where the token is trained and is UNTRAINED elsewhere."""

    example_id: str
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FormattedSplit:
    """The rows of a split, and how many examples were left out for their length."""

    rows: tuple[TokenRow, ...]
    too_long: int


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Tokens of `messages` up to the start of the answer, as the engine would see them.

    TrainingError when the base model has no chat template or its template refuses the messages.
    """
    return list(tokenizer(_render(tokenizer, messages, add_generation_prompt=True), add_special_tokens=False)["input_ids"])


def turn_end_ids(tokenizer: Any) -> list[int]:
    """The tokens by which the chat template ends an answer, such as <|im_end|>: what the model must learn to stop with."""
    from capture.messages import Message

    marker = "potstill-answer"
    whole = _render(tokenizer, [Message("user", "question"), Message("assistant", marker)], add_generation_prompt=False)
    after = tokenizer(whole.rpartition(marker)[2].strip(), add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for at, token in enumerate(after):
        if token in special:
            return list(after[: at + 1])
    if tokenizer.eos_token_id is None:
        raise TrainingError("The base model's tokenizer has no token that ends an answer.", "Choose an instruct model.")
    return [tokenizer.eos_token_id]


def format_example(tokenizer: Any, example: Example, turn_end: Sequence[int]) -> TokenRow:
    """One example as tokens; TrainingError when no token of its target would be trained."""
    before = prompt_ids(tokenizer, example.messages)
    target = tokenizer(example.target, add_special_tokens=False)["input_ids"] if example.target.strip() else []
    if not target:
        raise TrainingError(
            f"Example {example.id} has no trained token: its target is {example.target!r}.",
            "Reject it in review and build the dataset again.",
        )
    answer = [*target, *turn_end]
    return TokenRow(example.id, (*before, *answer), (*(UNTRAINED for _ in before), *answer))


def format_split(tokenizer: Any, examples: Sequence[Example], *, max_length: int, too_long_share: float) -> FormattedSplit:
    """Every example that fits into `max_length` tokens.

    TrainingError when more than `too_long_share` of them do not: a target that is cut teaches wrong answers, and an adapter
    that never saw the long ones is not what was asked for.
    """
    turn_end = turn_end_ids(tokenizer)
    rows = [format_example(tokenizer, example, turn_end) for example in examples]
    fitting = tuple(row for row in rows if len(row.input_ids) <= max_length)
    too_long = len(rows) - len(fitting)
    if too_long > too_long_share * len(rows) or not fitting:
        longest = max(len(row.input_ids) for row in rows)
        raise TrainingError(
            f"{too_long} of {len(rows)} training examples exceed max_length {max_length}; the longest has {longest} tokens.",
            "Raise max_length in the recipe.",
        )
    return FormattedSplit(fitting, too_long)


def _render(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise TrainingError("The base model has no chat template.", "Choose an instruct model.")
    turns = [{"role": message.role, "content": message.text} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=add_generation_prompt))
    except (TemplateError, ValueError) as error:
        roles = ", ".join(message.role for message in messages)
        raise TrainingError(
            f"The base model's chat template refuses messages of {roles}: {error}.", "Choose a base model that knows these roles."
        ) from error
