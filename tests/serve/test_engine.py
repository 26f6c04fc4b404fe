"""The engine's client: names and adapters are checked before the engine hears of them, refusals carry its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capture.errors import EngineError, GateError, UpstreamError
from serve.adapter_check import reasons_against, refuse_unloadable
from serve.engine import EngineClient, EngineModel

Make = Callable[..., Path]
HELLO = [{"role": "user", "content": "Hello"}]


def test_an_adapter_is_loaded_listed_asked_and_unloaded(scripted_client: EngineClient, make_adapter_folder: Make) -> None:
    folder = make_adapter_folder(answers={"Hello": "Hi"})
    scripted_client.load("triage@r1", folder, 64)
    scripted_client.warm_up("triage@r1")
    assert scripted_client.models() == [EngineModel("base", "/base", ""), EngineModel("triage@r1", str(folder), "base")]
    answer = scripted_client.chat("triage@r1", HELLO)
    assert (answer.text, answer.finish_reason, answer.tokens_in, answer.tokens_out) == ("Hi", "stop", 3, 1)
    scripted_client.unload("triage@r1")
    with pytest.raises(EngineError, match=r"status 404.*does not exist"):
        scripted_client.chat("triage@r1", HELLO)


def test_loading_the_same_again_is_nothing_and_other_weights_need_another_name(
    scripted_client: EngineClient, make_adapter_folder: Make
) -> None:
    one, other = make_adapter_folder("one"), make_adapter_folder("other")
    scripted_client.load("triage@r1", one, 64)
    scripted_client.load("triage@r1", one, 64)
    with pytest.raises(EngineError, match="already serves"):
        scripted_client.load("triage@r1", other, 64)
    with pytest.raises(EngineError, match="already serves /base"):
        scripted_client.load("base", other, 64)


@pytest.mark.parametrize("name", ["", "../x1/adapter", "a/b", "..", "a b", "a\n", "é", "a" * 201])
def test_a_name_that_could_be_a_path_never_reaches_the_engine(make_adapter_folder: Make, name: str) -> None:
    folder = make_adapter_folder()
    with EngineClient("http://127.0.0.1:1") as client:  # nobody is there to hear it
        with pytest.raises(EngineError, match="cannot be a model's name"):
            client.load(name, folder, 64)
        with pytest.raises(EngineError, match="cannot be a model's name"):
            client.unload(name)
        with pytest.raises(EngineError, match="cannot be a model's name"):
            client.warm_up(name)
        with pytest.raises(EngineError, match="cannot be a model's name"):
            client.chat(name, HELLO)


def test_an_engine_that_is_down_is_named_with_what_to_do(make_adapter_folder: Make) -> None:
    with EngineClient("http://127.0.0.1:1/") as client:
        assert not client.health()
        with pytest.raises(UpstreamError, match=r"http://127.0.0.1:1 does not answer.*potstill engine"):
            client.load("triage@r1", make_adapter_folder(), 64)


def test_the_engines_own_reason_is_kept(scripted_client: EngineClient, make_adapter_folder: Make) -> None:
    with pytest.raises(EngineError, match="status 500: unsupported LoRA weight"):
        scripted_client.load("triage@r1", make_adapter_folder("broken"), 64)


LORA = {"peft_type": "LORA", "r": 16, "bias": "none", "init_lora_weights": True, "use_dora": False, "modules_to_save": None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"bias": "all"}, "biases"),
        ({"r": 65}, "65 is not between 1 and 64"),
        ({"r": None}, "None is not between"),
        ({"rank_pattern": {"q_proj": 128}}, "128"),
    ],
)
def test_an_adapter_that_vllm_would_refuse_is_refused_first(change: dict[str, object], reason: str) -> None:
    reasons = reasons_against({**LORA, **change}, 64)
    assert len(reasons) == 1
    assert reason in reasons[0]


@pytest.mark.parametrize("change", [{}, {"use_rslora": True}, {"init_lora_weights": "gaussian"}, {"r": 64}])
def test_plain_lora_in_all_its_forms_passes(change: dict[str, object]) -> None:
    assert reasons_against({**LORA, **change}, 64) == []


def test_an_adapter_folder_without_its_files_or_with_broken_ones_is_named(tmp_path: Path, make_adapter_folder: Make) -> None:
    with pytest.raises(GateError, match=r"adapter_config.json does not exist"):
        refuse_unloadable(tmp_path, 64)
    folder = make_adapter_folder()
    (folder / "adapter_config.json").write_text("{", "utf-8")
    with pytest.raises(GateError, match="not valid JSON"):
        refuse_unloadable(folder, 64)
    (folder / "adapter_config.json").write_text("[]", "utf-8")
    with pytest.raises(GateError, match="not a table"):
        refuse_unloadable(folder, 64)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(GateError, match=r"adapter_model.safetensors does not exist"):
        refuse_unloadable(folder, 64)
