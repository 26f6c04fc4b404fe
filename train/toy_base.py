"""The toy base: a 1.1 million parameter Llama made on the spot, so that the whole loop runs without a download or a GPU.

It is NOT a pretrained language model: it has read a few thousand short tickets and knows nothing of the world. It answers in
the right form with labels of other tasks, so that an adapter has something to build on and the task still to learn.

The folder is complete when manifest.json is there; it is built beside its place and renamed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from capture.errors import NotEnoughError, TrainingError
from capture.ids import content_hash
from train.toy_training import ToyProgress, batches, fit, make_rows, mix, name_groups

VOCABULARY = 2048
GROUPS = 30
BATCH = 16
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
WORDS = r"[^\W_]+(?:_[^\W_]+)+| (?=[^\W_]+_)| ?[^\W\d]+| ?\d{1,2}| ?[^\w\s]+|\s+"
"""What may become one token: a label such as billing_refund, the same in prompt and answer; a word with the space before it."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CARD = """# Toy base

A 1.1 million parameter Llama, made on the spot in a minute or two from a few thousand short, made-up support tickets: other tasks
with their answers, and tickets of the task to come without any.

**This is not a pretrained language model.** It knows no language and no facts, it cannot chat, and it is good for one thing:
showing the whole loop of Potstill on a machine without a network or a GPU. For real work name a real base model, such as
Qwen/Qwen3-0.6B.
A linear model on word counts may well beat what is built on it.
"""

Conversation = tuple[str, str, str]
"""System text, user text, answer."""
Prompt = tuple[str, str]
"""System text, user text."""


def toy_base_key(
    conversations: Sequence[Conversation], unlabelled: Sequence[Prompt] = (), *, steps: int = 0, seed: int = 0
) -> str:
    """Sixteen hex digits that name what a toy base is made of: good as its folder's name."""
    document = json.dumps([list(map(list, conversations)), list(map(list, unlabelled)), steps, seed, CHAT_TEMPLATE, VOCABULARY])
    return content_hash(document.encode()).removeprefix("b2:")[:16]


def build_toy_base(
    folder: Path,
    conversations: Sequence[Conversation],
    *,
    unlabelled: Sequence[Prompt] = (),
    on_progress: Callable[[ToyProgress], None] | None = None,
    steps: int = 0,
    seed: int = 0,
) -> Path:
    """Makes the toy base in `folder`, or finds it there complete; returns the folder.

    `conversations` are of tasks other than the one to be learnt, with their answers. `unlabelled` are prompts of that task
    without answers: the toy learns to tell groups of them apart. `steps` 0 is 800, some 100 CPU seconds on one thread.
    TrainingError when the folder holds a toy base that was made of something else, or anything else; NotEnoughError below 100
    conversations.
    """
    key = toy_base_key(conversations, unlabelled, steps=steps, seed=seed)
    folder = folder.resolve()
    if _is_complete(folder, key):
        return folder
    if len(conversations) < 100:
        raise NotEnoughError(f"A toy base needs 100 conversations, not {len(conversations)}.", "Give more of them.")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        facts = _make(part, conversations, unlabelled, on_progress, steps or 800, seed)
        (part / "card.md").write_text(CARD, "utf-8")
        document = {"key": key, "conversations": len(conversations), "seed": seed, **facts}
        (part / "manifest.json").write_text(json.dumps(document, indent=2) + "\n", "utf-8")
        for file in part.iterdir():
            file.chmod(0o644)
        if not _is_complete(folder, key):  # another process may have been faster
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_complete(folder: Path, key: str) -> bool:
    """True when the toy base of that key is there, False when nothing is; TrainingError for anything else: it is left alone."""
    manifest = folder / "manifest.json"
    if manifest.is_file():
        if json.loads(manifest.read_text("utf-8")).get("key") != key:
            raise TrainingError(f"{folder} holds a toy base made of other conversations.", "Delete it, or name another folder.")
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TrainingError(f"{folder} exists and is not a toy base.", "Name a folder that does not exist yet.")
    return False


def _make(
    part: Path,
    conversations: Sequence[Conversation],
    unlabelled: Sequence[Prompt],
    on_progress: Callable[[ToyProgress], None] | None,
    steps: int,
    seed: int,
) -> dict[str, object]:
    import torch

    groups = name_groups([user for _, user in unlabelled], GROUPS, seed) if unlabelled else []
    tokenizer = _make_tokenizer([*conversations, *groups], unlabelled)
    rows = mix(make_rows(tokenizer, conversations), make_rows(tokenizer, groups), steps * BATCH, random.Random(seed))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _make_model(tokenizer)
        tokens = fit(model, batches(rows, len(tokenizer), random.Random(seed), BATCH), steps, tokenizer.pad_token_id, on_progress)
    model.save_pretrained(part, safe_serialization=True)
    tokenizer.save_pretrained(part)
    return {"parameters": sum(weight.numel() for weight in model.parameters()), "steps": steps, "tokens": tokens}


def _make_tokenizer(conversations: Sequence[Conversation], unlabelled: Sequence[Prompt]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = (
        pre_tokenizers.Sequence(  # a label such as billing_refund stays whole: short rows, and one token to get right
            [
                pre_tokenizers.Split(Regex(WORDS), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for conversation in conversations for text in conversation]
    prompts = [text for prompt in unlabelled for text in prompt]
    weight = 1 + len(texts) // (2 * max(1, len(prompts)))  # the task to be learnt must not fall into splinters
    bpe.train_from_iterator([*texts, *(prompts * weight), "system\n", "user\n", "assistant\n"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=TURN_END, pad_token=END_OF_TEXT)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _make_model(tokenizer: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        attn_implementation="eager",  # at these lengths half again as fast on a CPU as the fused one
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.08,  # a tied output of this width cannot be sure of anything with the usual 0.02
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(shape)
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and "embed" not in name:
            torch.nn.init.normal_(
                weight, std=0.05
            )  # with 0.08 attention is too sure of itself from the start and learns half as fast
    return model
