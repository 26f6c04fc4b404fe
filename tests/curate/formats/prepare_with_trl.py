"""Has TRL's trainers prepare the exports in the folder that is named, and writes there, as JSON, the text of what they made."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% for call in message.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments | tojson }}</call>"
    "{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def _tokenizer() -> Any:
    """One that gives a token to each byte, so that what a trainer sees can be read."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="!", pad_token="~")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(vocab_size=256, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )


def _rows(folder: Path, name: str = "default") -> Any:
    """The train split of a folder, or the only file of lines in it that has that name."""
    import datasets

    cache = str(folder / "cache")
    if (folder / f"{name}.jsonl").is_file():
        return datasets.load_dataset("json", data_files=str(folder / f"{name}.jsonl"), cache_dir=cache, split="train")
    return datasets.load_dataset(str(folder), name, cache_dir=cache, split="train")


def _learnt(tokenizer: Any, row: dict[str, Any]) -> str:
    return str(tokenizer.decode([label for label in row["labels"] if label != -100]))


def _prepare(folder: Path) -> dict[str, list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers and trl among themselves
        import datasets
        from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

        datasets.disable_progress_bars()
        tokenizer, model = _tokenizer(), _model()
        plain: dict[str, Any] = {
            "output_dir": str(folder / "run"), "use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_length": None,
        }  # fmt: skip

        def prepared(trainer: Any, config: Any, rows: Any, **more: Any) -> Any:
            made = trainer(model=model, args=config(**plain), train_dataset=rows, processing_class=tokenizer, **more)
            return made.train_dataset

        lines, parquet = (
            prepared(SFTTrainer, SFTConfig, rows) for rows in (_rows(folder / "trl", "train"), _rows(folder / "hf"))
        )
        line_pairs, parquet_pairs = (
            prepared(DPOTrainer, DPOConfig, rows, ref_model=_model())
            for rows in (_rows(folder / "trl-preference", "preferences"), _rows(folder / "hf", "preferences"))
        )

    def sides(rows: Any) -> list[Any]:
        return [[tokenizer.decode(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")] for row in rows]

    return {
        "lines": [tokenizer.decode(row["input_ids"]) for row in lines],
        "parquet": [tokenizer.decode(row["input_ids"]) for row in parquet],
        "learnt": [_learnt(tokenizer, row) for row in lines],
        "line_pairs": sides(line_pairs),
        "parquet_pairs": sides(parquet_pairs),
    }


if __name__ == "__main__":
    given = Path(sys.argv[1])
    (given / "prepared.json").write_text(json.dumps(_prepare(given)), "utf-8")
