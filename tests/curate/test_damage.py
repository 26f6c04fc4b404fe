"""Files of dataset versions that were changed or lost after they were frozen."""

from __future__ import annotations

from pathlib import Path

from curate.damage import find_damage
from curate.datasets import build
from curate.settings import CurateSettings
from tests.curate.sending import Traffic, mails


def test_files_that_are_as_they_were_frozen_have_no_damage(traffic: Traffic, small: CurateSettings, tmp_path: Path) -> None:
    traffic.send(mails(30))
    build(traffic.database, tmp_path, "mail", small)
    seen: list[tuple[int, int]] = []
    assert list(find_damage(traffic.database, on_progress=lambda done, all: seen.append((done, all)))) == []
    assert seen == [(1, 1)]


def test_each_file_that_was_changed_or_lost_is_named(traffic: Traffic, small: CurateSettings, tmp_path: Path) -> None:
    traffic.send(mails(30))
    version = build(traffic.database, tmp_path, "mail", small)
    with (version.folder / "train.jsonl").open("a") as file:
        file.write("{}\n")
    (version.folder / "val.jsonl").unlink()
    manifest = version.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bill"', '"bills"'))
    found = list(find_damage(traffic.database))
    assert {damaged.version for damaged in found} == {"mail/v1"}
    assert [damaged.what.split("/")[-1].split(" ")[0] for damaged in found] == ["train.jsonl", "val.jsonl", "manifest.json"]
    assert all(damaged.next_step for damaged in found)


def test_a_folder_that_is_gone_is_damage_of_all_its_files(traffic: Traffic, small: CurateSettings, tmp_path: Path) -> None:
    traffic.send(mails(30))
    version = build(traffic.database, tmp_path, "mail", small)
    version.folder.rename(tmp_path / "elsewhere")
    assert len(list(find_damage(traffic.database))) == len(version.manifest["files"]) + len(["manifest", "card"])


def test_a_card_that_is_gone_is_named_and_written_again(traffic: Traffic, small: CurateSettings, tmp_path: Path) -> None:
    traffic.send(mails(30))
    version = build(traffic.database, tmp_path, "mail", small)
    card = (version.folder / "card.md").read_bytes()
    (version.folder / "card.md").unlink()
    assert [damaged.what for damaged in find_damage(traffic.database)] == [f"{version.folder / 'card.md'} is missing."]
    assert build(traffic.database, tmp_path, "mail", small).number == version.number
    assert (version.folder / "card.md").read_bytes() == card
    assert not [path for path in version.folder.parent.iterdir() if path.name.endswith(".draft")]
