"""Writes deploy/requirements.lock: of requirements.lock the part that relay, store writer and command line need, without torch.

    .venv/bin/python deploy/make_requirements.py

Versions and hashes are those of requirements.lock; what needs what, the installed packages say. tests/test_deploy.py fails
when the file is behind.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "deploy" / "requirements.lock"
_HEAD = (
    "# What the image needs: of requirements.lock the part without training, engine and tests. "
    "Made by deploy/make_requirements.py.\n"
)
_BUILD = "setuptools"


def needed() -> set[str]:
    """The names of all packages that `pip install potstill` without extras brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in project["dependencies"]]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            waiting += [each for each in _requirements_of(name) if _applies(each, extra)]
    return {name for name, _ in found} | {_BUILD}


def _requirements_of(name: str) -> list[Requirement]:
    try:
        return [Requirement(text) for text in requires(name) or ()]
    except PackageNotFoundError as error:
        raise SystemExit(f"{name} is not installed here. Run: make install") from error


def _applies(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement counts here; of those with an extra only the extra's own count, the others stand under ''."""
    if requirement.marker is None:
        return not extra
    return requirement.marker.evaluate({"extra": extra}) and (not extra or not requirement.marker.evaluate({"extra": ""}))


def lock() -> str:
    """The text of the file."""
    names = needed()
    blocks = re.split(r"(?m)^(?=[a-zA-Z0-9])", (ROOT / "requirements.lock").read_text("utf-8"))[1:]
    by_name = {canonicalize_name(block.split("==")[0].strip().split("[")[0]): block for block in blocks}
    if missing := sorted(names - by_name.keys()):
        raise SystemExit(f"requirements.lock lacks {', '.join(missing)}. Run: make lock")
    return _HEAD + "".join(by_name[name] for name in sorted(names))


if __name__ == "__main__":
    TARGET.write_text(lock(), "utf-8")
