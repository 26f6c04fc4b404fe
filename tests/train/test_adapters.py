from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path

import pytest

from capture.database import Database
from capture.errors import NotFoundError
from capture.ids import content_hash
from tests.train.conftest import House
from train.adapters import (
    Adapter,
    add_adapter,
    get_adapter,
    latest_adapter,
    list_adapters,
    new_adapter_id,
    write_adapter_folder,
    write_card,
)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', "utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_model.safetensors").chmod(0o600)
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return folder


def test_an_adapter_folder_holds_safetensors_configuration_card_and_manifest_and_nothing_else(
    tmp_path: Path, trained: Path
) -> None:
    folder, whole = write_adapter_folder(tmp_path / "data", "triage", "ad_1", trained, "# card\n", {"base_model": "b"})
    assert folder == (tmp_path / "data" / "adapters" / "triage" / "ad_1").resolve()
    names = {"adapter_config.json", "adapter_model.safetensors", "card.md", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert (manifest["id"], manifest["hash"], manifest["base_model"]) == ("ad_1", whole, "b")
    for name, expected in manifest["files"].items():
        assert content_hash((folder / name).read_bytes()) == expected
    assert set(manifest["files"]) >= {"adapter_config.json", "adapter_model.safetensors"}


def test_an_adapter_is_never_overwritten(tmp_path: Path, trained: Path) -> None:
    folder, _ = write_adapter_folder(tmp_path, "triage", "ad_1", trained, "first", {})
    with pytest.raises(OSError, match="not empty"):
        write_adapter_folder(tmp_path, "triage", "ad_1", trained, "second", {})
    assert (folder / "card.md").read_text("utf-8") == "first"


def test_the_hash_is_of_weights_and_configuration(tmp_path: Path, trained: Path) -> None:
    _, first = write_adapter_folder(tmp_path, "triage", "ad_1", trained, "", {})
    _, same = write_adapter_folder(tmp_path, "triage", "ad_2", trained, "other card", {})
    (trained / "adapter_model.safetensors").write_bytes(b"weight5")
    _, other = write_adapter_folder(tmp_path, "triage", "ad_3", trained, "", {})
    assert first == same != other


@pytest.mark.parametrize("task", ["../../escape", "..", "a/b", ""])
def test_any_task_name_stays_inside_the_data_folder(tmp_path: Path, trained: Path, task: str) -> None:
    folder, _ = write_adapter_folder(tmp_path / "data", task, "ad_1", trained, "", {})
    assert folder.parent.parent == (tmp_path / "data" / "adapters").resolve()


def test_adapters_come_back_newest_first_and_by_the_beginning_of_their_id(database: Database, tmp_path: Path) -> None:
    first = Adapter(new_adapter_id(), "run_1", "triage", "dsv_1", "b2:r", "base", tmp_path, "b2:h", "# card", 1_000)
    second = dataclasses.replace(first, id=new_adapter_id(), run_id="run_2", created_us=2_000)
    other = dataclasses.replace(first, id="ad_x", task="other", created_us=3_000)
    assert latest_adapter(database, "triage") is None
    with database.write() as connection:
        for adapter in (first, second, other):
            add_adapter(connection, adapter)
    assert get_adapter(database, first.id) == first
    assert get_adapter(database, "ad_x") == other
    assert latest_adapter(database, "triage") == second
    assert list_adapters(database, "triage") == [second, first]
    assert [adapter.id for adapter in list_adapters(database)] == [other.id, second.id, first.id]
    with pytest.raises(NotFoundError, match="'ad_' is ambiguous"):
        get_adapter(database, "ad_")
    with pytest.raises(NotFoundError, match="'ad_nothing' does not exist"):
        get_adapter(database, "ad_nothing")


def test_a_card_tells_data_bill_recipe_results_and_limits(house: House) -> None:
    card = write_card(
        task="triage",
        adapter_id="ad_1",
        base_model="/bases/toy",
        is_toy=True,
        version=house.version,
        recipe_lines=["lora_r = 16 (recipe)"],
        results=[
            ("student", "exact match", "20", "0.900", "0.699 to 0.972", ""),
            ("teacher", "exact match", "0", "unknown", "", 'the teacher answered 401: {\n  "error": "a|b"\n}'),
        ],
    )
    bill = house.version.manifest["bill"]
    for part in (
        "ad_1", "/bases/toy", f"triage/v{house.version.number}", house.version.hash, f"train {house.version.train}",
        f"{bill['selected']} exchanges selected, {bill['kept']} kept", "lora_r = 16 (recipe)", "not a pretrained language model",
        "one task", "| student | exact match | 20 | 0.900 | 0.699 to 0.972 |",
        '| unknown |  | the teacher answered 401: { "error": "a\\|b" } |',
    ):  # fmt: skip
        assert part in card, part
    for reason, count in bill["dropped"].items():
        assert f"{reason.replace('_', ' ')} {count}" in card
