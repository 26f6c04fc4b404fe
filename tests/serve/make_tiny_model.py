"""A script: writes a random Llama of some thousand weights to FOLDER/base and two LoRA adapters to FOLDER/a and FOLDER/b."""

from __future__ import annotations

import json
import sys
from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_base(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["Where is my parcel? I would like a refund for the broken kettle, please."] * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>")
    fast.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=384, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=512, pad_token_id=0, bos_token_id=None, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def make_adapter(base: Path, folder: Path, seed: int) -> None:
    """A random adapter, and what transformers and peft answer with it, greedily, in predictions.jsonl."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "o_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapted.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    with (folder / "predictions.jsonl").open("w") as file:
        for number in range(24):
            prompt = [{"role": "user", "content": f"Where is my parcel number {number}?"}]
            inputs = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
            output = adapted.generate(**inputs, do_sample=False, max_new_tokens=16)
            answer = tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            file.write(json.dumps({"id": f"eg_{number}", "prompt": prompt, "target": "", "student": answer, "base": ""}) + "\n")


if __name__ == "__main__":
    import torch

    root = Path(sys.argv[1])
    torch.manual_seed(0)
    make_base(root / "base")
    make_adapter(root / "base", root / "a", 1)
    make_adapter(root / "base", root / "b", 2)
