"""The rules of the house that a program can check; import contracts are checked by `lint-imports`."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("potstill", "tui", "proxy", "serve", "train", "curate", "capture")
HEAVY = ("torch", "transformers", "trl", "peft", "litellm", "sklearn", "vllm", "datasets")
FORBIDDEN_WORDS = ("utils", "common", "core", "helpers", "misc", "manager")


def source_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "build" not in path.parts)


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_one_purpose_a_docstring_and_at_most_500_lines(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 500
    assert ast.get_docstring(ast.parse(text)), "a module says what it promises"
    assert path.stem not in FORBIDDEN_WORDS


def test_public_functions_and_classes_say_what_they_promise() -> None:
    silent = []
    for path in source_files():
        for node in ast.parse(path.read_text("utf-8")).body:
            is_named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if is_named and not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert silent == []


def test_there_is_no_init_file_under_tests() -> None:
    # One would make `import capture` inside tests mean the folder of tests.
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def modules_loaded_by(statement: str) -> set[str]:
    names = "print(*sorted(sys.modules))"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; {names}"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(finished.stdout.split())


@pytest.mark.parametrize(
    ("statement", "must_not_load"),
    [
        ("from potstill.cli import make_parser; make_parser()", (*HEAVY, "textual", "aiohttp", "sqlmodel", "numpy")),
        ("import proxy.worker", (*HEAVY, "textual", "sqlmodel", "capture.derive")),
        ("import capture.writer", (*HEAVY, "textual", "aiohttp")),
        ("import tui.app", (*HEAVY, "sqlmodel", "aiohttp")),
        ("import serve.engine_process", (*HEAVY, "textual", "aiohttp")),
        ("import train.launch", (*HEAVY, "textual", "aiohttp")),
    ],
)
def test_heavy_libraries_are_loaded_by_nobody_who_does_not_need_them(statement: str, must_not_load: tuple[str, ...]) -> None:
    assert modules_loaded_by(statement) & set(must_not_load) == set()


def test_every_package_is_part_of_an_installation() -> None:
    """An editable installation would not miss one; every other would."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    found = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in source_files() if path.name == "__init__.py"}
    assert set(settings["packages"]) == found
