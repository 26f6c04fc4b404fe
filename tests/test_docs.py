"""README and docs claim only what the code has."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from curate import caps, draft, terms
from curate.cleaning.clean import REASONS
from curate.likeness import duplicates
from curate.sampling import NOT_SAMPLED
from curate.selection import DAMAGED
from potstill.cli import make_parser
from potstill.configuration import commented_toml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def told_commands() -> list[str]:
    texts = [README, *(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]
    blocks = [block for text in texts for block in re.findall(r"```bash\n(.*?)```", text, re.S)]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    found = [re.search(r"(?:\.venv/bin/)?potstill (.*)$", line) for line in lines]
    return [match.group(1) for match in found if match]


@pytest.mark.parametrize("command", told_commands())
def test_every_potstill_command_in_the_readme_and_the_docs_parses(command: str) -> None:
    make_parser().parse_args(shlex.split(command))


def leaf_parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    subparsers = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return (
        [leaf for action in subparsers for child in action.choices.values() for leaf in leaf_parsers(child)]
        if subparsers
        else [parser]
    )


@pytest.mark.parametrize("parser", leaf_parsers(make_parser()), ids=lambda parser: parser.prog)
def test_every_command_explains_itself_with_an_example(parser: argparse.ArgumentParser) -> None:
    text = parser.format_help()
    assert parser.description
    assert "examples:" in text


def test_every_command_is_in_the_readme_or_the_changelog() -> None:
    told = README + (ROOT / "CHANGELOG.md").read_text("utf-8")
    actions = [action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    missing = [name for name in actions[0].choices if not re.search(rf"\b{re.escape(name)}\b", told)]
    assert missing == []


def test_every_setting_has_a_sentence() -> None:
    lines = commented_toml().splitlines()
    silent = [lines[number + 1] for number, line in enumerate(lines) if line.strip() == "#"]
    assert silent == []


def test_the_documents_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:docs|benchmarks)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name


PROMISES = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/promises.md").read_text("utf-8"))


@pytest.mark.parametrize("promise", PROMISES, ids=str)
def test_the_tests_that_hold_the_promises_exist(promise: tuple[str, str]) -> None:
    file, name = promise
    assert f"def {name}(" in (ROOT / file).read_text("utf-8")


def test_every_reason_to_drop_an_exchange_is_explained() -> None:
    told = (ROOT / "docs" / "datasets.md").read_text("utf-8")
    of_draft = [value for name, value in vars(draft).items() if name.isupper() and isinstance(value, str)]
    others = {duplicates.EXACT, duplicates.NEAR, caps.UNIT_CAP, caps.SESSION_CAP, NOT_SAMPLED, terms.DROPPED, DAMAGED}
    reasons = {*REASONS, *of_draft, *others}
    assert {reason for reason in reasons if f"`{reason}`" not in told} == set()
