from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from capture.errors import GateError, NotEnoughError
from capture.ids import content_hash
from curate.datasets import DatasetVersion
from train.readiness import check_ready
from train.recipe import load_recipe

RECIPE = load_recipe("sft-lora", {"minimum_examples": 50})


@pytest.fixture
def version(tmp_path: Path) -> DatasetVersion:
    texts = {f"{split}.jsonl": f"{split}\n" for split in ("train", "val", "test")}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    files = {name: content_hash(text.encode()) for name, text in texts.items()}
    manifest = {"certificate": {"exact": 0, "near": 0, "ngram8": 0}, "files": files}
    return DatasetVersion("dsv_1", "triage", 3, "b2:1", 50, 5, 5, tmp_path, manifest, 0)


def test_a_whole_version_is_ready(version: DatasetVersion) -> None:
    check_ready(version, RECIPE)


def test_too_few_training_examples_are_refused_with_both_numbers(version: DatasetVersion) -> None:
    with pytest.raises(NotEnoughError, match=r"triage/v3 has 49 training examples; recipe sft-lora needs 50.*Capture"):
        check_ready(dataclasses.replace(version, train=49), RECIPE)


def test_examples_with_tools_do_not_count_and_are_named(version: DatasetVersion) -> None:
    check_ready(dataclasses.replace(version, train=60, manifest={**version.manifest, "with_tools": {"train": 10}}), RECIPE)
    many = dataclasses.replace(version, manifest={**version.manifest, "with_tools": {"train": 30, "val": 5}})
    with pytest.raises(NotEnoughError, match="has 20 training examples beside 30 with tools"):
        check_ready(many, RECIPE)
    with pytest.raises(NotEnoughError, match="no val examples"):
        check_ready(dataclasses.replace(many, train=90), RECIPE)


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_empty_eval_split_is_refused(version: DatasetVersion, split: str) -> None:
    fewer = dataclasses.replace(version, val=0) if split == "val" else dataclasses.replace(version, test=0)
    with pytest.raises(NotEnoughError, match=f"no {split} examples"):
        check_ready(fewer, RECIPE)


@pytest.mark.parametrize("certificate", [None, {}, {"exact": 0, "near": 0}])
def test_a_missing_or_partial_overlap_certificate_is_refused(version: DatasetVersion, certificate: object) -> None:
    manifest = {**version.manifest, "certificate": certificate}
    with pytest.raises(GateError, match="no overlap certificate"):
        check_ready(dataclasses.replace(version, manifest=manifest), RECIPE)


@pytest.mark.parametrize("kind", ["exact", "near", "ngram8"])
def test_any_overlap_is_refused_with_its_count(version: DatasetVersion, kind: str) -> None:
    manifest = {**version.manifest, "certificate": {"exact": 0, "near": 0, "ngram8": 0, kind: 2}}
    with pytest.raises(GateError, match=f"overlap: {kind} 2"):
        check_ready(dataclasses.replace(version, manifest=manifest), RECIPE)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_changed_or_missing_file_is_refused_by_name(version: DatasetVersion, split: str) -> None:
    path = version.folder / f"{split}.jsonl"
    path.write_text(json.dumps({"id": "slipped in"}) + "\n", "utf-8")
    with pytest.raises(GateError, match=rf"{split}\.jsonl is not the file that .*triage/v3 froze"):
        check_ready(version, RECIPE)
    path.unlink()
    with pytest.raises(GateError, match=rf"{split}\.jsonl .*is missing"):
        check_ready(version, RECIPE)


def test_a_manifest_that_does_not_name_its_files_is_refused(version: DatasetVersion) -> None:
    files = {name: value for name, value in version.manifest["files"].items() if name != "test.jsonl"}
    with pytest.raises(GateError, match="does not name its files"):
        check_ready(dataclasses.replace(version, manifest={**version.manifest, "files": files}), RECIPE)
