from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from capture.errors import StoreError
from capture.ids import content_hash
from capture.messages import Message
from capture.progress import tell_nobody
from curate.datasets import DatasetVersion, build, load_split
from curate.examples import Example
from curate.incremental import EXACT, LIKELY, NEAR, check_named, check_rows
from curate.inputs import Asking, read_inputs
from curate.likeness.duplicates import read_wordings
from curate.likeness.templates import read_input
from curate.settings import CurateSettings
from curate.splits import SPLITS
from curate.version_keys import KEYS, make_keys
from tests.curate.sending import SYSTEM, Traffic, mails

DEFAULTS = CurateSettings()


def asked(text: str) -> tuple[tuple[Message, ...], tuple[()]]:
    return (Message("system", SYSTEM), Message("user", text)), ()


@pytest.fixture
def version(traffic: Traffic, tmp_path: Path) -> DatasetVersion:
    traffic.send(mails(80))
    return build(traffic.database, tmp_path, "mail", DEFAULTS)


def question(example: Example) -> str:
    return example.messages[-1].text


def test_an_input_that_a_version_holds_is_found_with_its_side(version: DatasetVersion) -> None:
    for split in SPLITS:
        for example in load_split(version, split)[:5]:
            text = question(example)
            same, loud, slip = check_rows(version, [asked(text), asked(text.upper() + " !"), asked(f"{text} please")])
            assert same and (same.kind, same.split, same.exchange_id, same.similarity) == (EXACT, split, example.exchange_id, 1.0)
            assert loud and (loud.kind, loud.exchange_id) == (EXACT, example.exchange_id)
            assert slip and (slip.kind, slip.split, slip.exchange_id) == (NEAR, split, example.exchange_id)
            assert 0.6 <= slip.similarity < 1.0


def test_a_new_input_is_not_found_nor_one_with_another_number_or_a_negation(version: DatasetVersion) -> None:
    text = question(load_split(version, "train")[0])
    assert check_rows(version, [asked("what is the weather in rome"), asked(f"{text} 17"), asked(f"{text} not")]) == [None] * 3
    assert check_rows(version, []) == []


def test_an_erased_example_is_still_found_by_its_keys(version: DatasetVersion) -> None:
    gone = load_split(version, "test")[0]
    with_keys = frozen_with_keys(version)
    path = version.folder / "test.jsonl"
    kept = "".join(line for line in path.read_text("utf-8").splitlines(keepends=True) if gone.exchange_id not in line)
    path.write_text(kept, "utf-8")
    erased = amended(with_keys, "test.jsonl", kept.encode())
    same, similar, other = check_rows(erased, [asked(question(gone)), asked(question(gone) + "s"), asked("quite another matter")])
    assert same and (same.kind, same.split, same.exchange_id, same.similarity) == (LIKELY, "test", "", 1.0)
    assert similar and (similar.kind, similar.split, similar.exchange_id) == (LIKELY, "test", "")
    assert other is None


def test_keys_are_the_same_in_any_order_and_hold_no_text(version: DatasetVersion) -> None:
    examples = [example for split in SPLITS for example in load_split(version, split)]
    wordings = read_wordings([read_input(example.messages) for example in examples], [example.target for example in examples])[1]
    keys, splits = [example.input_key for example in examples], [example.split for example in examples]
    made = make_keys(wordings, keys, splits)
    assert made == make_keys(wordings[::-1], keys[::-1], splits[::-1])
    assert not [word for example in examples for word in question(example).split() if word.encode() in made]


def test_changed_keys_are_refused(version: DatasetVersion) -> None:
    with_keys = frozen_with_keys(version)
    (version.folder / KEYS).write_bytes((version.folder / KEYS).read_bytes() + b"x")
    with pytest.raises(StoreError, match="changed after it was frozen"):
        check_rows(with_keys, [asked("anything")])
    (version.folder / KEYS).unlink()
    with pytest.raises(StoreError, match="missing"):
        check_rows(with_keys, [asked("anything")])


def test_lines_that_hold_no_input_are_told_by_number_and_the_others_read(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": "yes"}]}
    lines = [json.dumps(chat), "", "{broken", '{"text": "hello"}', "[1]", '{"messages": []}', "[" * 100_000]
    (tmp_path / "new.jsonl").write_text("\n".join(lines), "utf-8")
    given = Asking({}, "Be brief.", ({"type": "function", "function": {"name": "look"}},))
    read = dict(read_inputs(tmp_path / "new.jsonl", given, tell_nobody))
    good = {name: found for name, found in read.items() if not isinstance(found, str)}
    assert {name: [message.text for message in messages] for name, (messages, _) in good.items()} == {
        "line 1": ["Be brief.", "hi"],
        "line 4": ["Be brief.", "hello"],
    }
    assert {tool.name for _, tools in good.values() for tool in tools} == {"look"}
    bad = {name: str(found)[:11] for name, found in read.items() if name not in good}
    assert bad == {"line 3": "is not JSON", "line 5": "is not an o", "line 6": "has no mess", "line 7": "is not JSON"}


def test_more_inputs_than_are_compared_at_once_are_all_compared(version: DatasetVersion) -> None:
    held = question(load_split(version, "val")[0])
    named = ((f"line {number}", asked(held if number in (1, 4_500) else f"quite another {number}")) for number in range(4_600))
    found = check_named(version, [*named, ("line x", "is no input")])
    assert (found.checked, list(found.matches), found.bad) == (4_600, ["line 1", "line 4500"], {"line x": "is no input"})


def test_personal_data_does_not_hide_a_duplicate(traffic: Traffic, tmp_path: Path) -> None:
    sent = mails(60)
    told = [dataclasses.replace(one, question=f"{one.question} ann{place}@example.org") for place, one in enumerate(sent)]
    traffic.send(told)
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    found = check_rows(version, [asked(one.question) for one in told])
    assert all(match and match.kind == EXACT for match in found)


def frozen_with_keys(version: DatasetVersion) -> DatasetVersion:
    """The version with the keys that a build writes."""
    if KEYS in version.manifest["files"]:
        return version
    examples = [example for split in SPLITS for example in load_split(version, split)]
    wordings = read_wordings([read_input(example.messages) for example in examples], [example.target for example in examples])[1]
    made = make_keys(wordings, [example.input_key for example in examples], [example.split for example in examples])
    (version.folder / KEYS).write_bytes(made)
    return amended(version, KEYS, made)


def amended(version: DatasetVersion, name: str, data: bytes) -> DatasetVersion:
    files = {**version.manifest["files"], name: content_hash(data)}
    return dataclasses.replace(version, manifest={**version.manifest, "files": files})
