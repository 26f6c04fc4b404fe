"""May this dataset version be trained on? Asked before anything heavy is loaded, and again by the run's own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from capture.errors import GateError, NotEnoughError, StoreError
from capture.ids import content_hash
from curate.freeze import check_manifest

if TYPE_CHECKING:
    from curate.datasets import DatasetVersion, Example
    from train.recipe import Recipe

CERTIFICATE_KEYS = ("exact", "near", "ngram8")


def check_ready(version: DatasetVersion, recipe: Recipe) -> None:
    """NotEnoughError when the splits are too small, GateError when train and eval overlap or the files are not those frozen."""
    check_sizes(version, recipe)
    check_certificate(version)
    check_files(version)


def check_sizes(version: DatasetVersion, recipe: Recipe) -> None:
    """NotEnoughError when the train split is below the recipe's minimum, or val or test is empty.

    Examples with tools do not count: the recipes do not learn them, and a run leaves them out.
    """
    name = f"{version.task}/v{version.number}"
    with_tools: Mapping[str, int] = version.manifest.get("with_tools", {})
    left_out = f" beside {with_tools['train']} with tools, which recipes do not learn yet" if with_tools.get("train") else ""
    train = version.train - with_tools.get("train", 0)
    if train < recipe.minimum_examples:
        raise NotEnoughError(
            f"{name} has {train} training examples{left_out}; recipe {recipe.name} needs {recipe.minimum_examples}.",
            "Capture and review more exchanges, then build a new version.",
        )
    for split, size in (("val", version.val), ("test", version.test)):
        if size <= with_tools.get(split, 0):
            raise NotEnoughError(
                f"Dataset version {name} has no {split} examples, so nothing could be measured.",
                "Capture more exchanges, then build a new version.",
            )


def learnable(examples: Sequence[Example]) -> list[Example]:
    """Those that recipes learn: the ones without tools."""
    return [example for example in examples if not example.speaks_of_tools]


def check_certificate(version: DatasetVersion) -> None:
    """GateError unless the overlap certificate says 0 for every kind of overlap between train and eval."""
    certificate = version.manifest.get("certificate")
    again = "Build the dataset again."
    if not isinstance(certificate, Mapping) or any(key not in certificate for key in CERTIFICATE_KEYS):
        raise GateError(f"Dataset version {version.task}/v{version.number} has no overlap certificate.", again)
    found = {key: value for key, value in certificate.items() if key in CERTIFICATE_KEYS and value != 0}
    if found:
        kinds = ", ".join(f"{key} {value}" for key, value in found.items())
        raise GateError(f"Train and eval of dataset version {version.task}/v{version.number} overlap: {kinds}.", again)


def check_files(version: DatasetVersion) -> None:
    """GateError when a file of the version is missing or not the one that was frozen."""
    name = f"{version.task}/v{version.number}"
    files = version.manifest.get("files")
    if not isinstance(files, Mapping) or not all(f"{split}.jsonl" in files for split in ("train", "val", "test")):
        raise GateError(f"The manifest of dataset version {name} does not name its files.", "Build the dataset again.")
    try:
        check_manifest(version.folder, version.manifest)
    except StoreError as error:
        raise GateError(error.what, error.next_step) from error
    for file, expected in files.items():
        path = version.folder / str(file)
        if not path.is_file():
            raise GateError(f"{path} of dataset version {name} is missing.", "Restore it, or build the dataset again.")
        if content_hash(path.read_bytes()) != expected:
            raise GateError(
                f"{path} is not the file that dataset version {name} froze.", "Restore it, or build the dataset again."
            )
