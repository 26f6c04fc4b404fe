"""TRL's own preparation of data sets, on what is exported for it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from capture.database import open_database
from curate.formats.exporting import export
from tests.curate.formats.making import WEATHER, frozen, mixed, preference

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Exports of one version."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    version = frozen(tmp_path / "v1", mixed(), [preference(1), preference(2, (WEATHER,))])
    for format in ("trl", "trl-preference", "hf"):
        export(database, version, tmp_path / format, format)
    database.close()
    return tmp_path


def test_sft_and_dpo_trainers_prepare_what_is_exported(folder: Path) -> None:
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
    seen = [tokenizer.decode(row["input_ids"]) for row in lines]
    assert seen == [tokenizer.decode(row["input_ids"]) for row in parquet]
    assert '<call>weather {"city": "Bonn"}</call>' in seen[2]
    offered = [json.loads(text[len("<tools>") :].partition("</tools>")[0]) for text in seen[2:]]
    assert [[tool["function"]["name"] for tool in tools] for tools in offered] == [["weather", "clock"], ["clock"]]
    schema = {"properties": {"zone": {"default": None, "type": "string"}}, "type": "object"}
    assert [tools[-1]["function"]["parameters"] for tools in offered] == [schema, schema]
    assert "<tools>" not in seen[0] and "How warm" in seen[0]
    learnt = _learnt(tokenizer, lines[0])
    assert "21 degrees" in learnt and "How warm" not in learnt
    pairs = [[tokenizer.decode(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")] for row in line_pairs]
    assert pairs == [
        [tokenizer.decode(row[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")] for row in parquet_pairs
    ]
    assert "<tools>" in pairs[1][0] and "better 2" in pairs[1][1] and "worse 2" in pairs[1][2]
