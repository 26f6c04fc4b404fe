"""Greedy answers in batches, as the engine would give them at temperature 0. Leaves the model in the mode it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from train.formatting import prompt_ids, turn_end_ids

if TYPE_CHECKING:
    from capture.messages import Message


def generate(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """One answer per conversation, in order, without special tokens; `on_batch` hears how many are done.

    Prompts are padded on the left here and not by the tokenizer, whose own padding side the trainer relies on.
    """
    prompts = [prompt_ids(tokenizer, conversation) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    answers = [""] * len(prompts)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            texts = _answer_batch(model, tokenizer, [prompts[at] for at in chosen], max_new_tokens)
            for at, text in zip(chosen, texts, strict=True):
                answers[at] = text
            if on_batch is not None:
                on_batch(start + len(chosen))
    finally:
        model.train(was_training)
    return answers


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends an answer: the template's, the tokenizer's and the base model's own."""
    configured = model.generation_config.eos_token_id
    known = configured if isinstance(configured, list) else [configured]
    found = [turn_end_ids(tokenizer)[-1], tokenizer.eos_token_id, *known]
    return sorted({token for token in found if token is not None})


def _answer_batch(model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
    import torch
    from transformers import GenerationConfig

    stops = stop_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    greedy = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stops, pad_token_id=pad)
    with torch.inference_mode():
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=greedy)
    return [tokenizer.decode(_until(row[width:].tolist(), stops), skip_special_tokens=True) for row in output]


def _until(tokens: list[int], stops: list[int]) -> list[int]:
    for at, token in enumerate(tokens):
        if token in stops:
            return tokens[:at]
    return tokens
